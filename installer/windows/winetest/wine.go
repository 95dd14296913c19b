//go:build linux

package winetest

import (
	"context"
	_ "embed" // the shim's source
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Limit is how long any one program may run.
const Limit = 5 * time.Minute

//go:embed shim/bcryptprimitives.c
var shim []byte

// Windows is one Wine prefix.
type Windows struct {
	Prefix string   // its folder
	Env    []string // of every program in it, and of tools that look into it
}

// Need returns the path of a program of this host, or ends the test with the
// name of the Debian package that has it.
func Need(t testing.TB, program, debian string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%s is missing; on Debian: apt-get install --no-install-recommends %s", program, debian)
	}
	return path
}

// New makes a Windows 10 in a folder of the test. It ends, with all that runs
// in it, when the test does.
func New(t testing.TB) *Windows {
	t.Helper()
	// Debian keeps wine64 off the path.
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/lib/wine")
	Need(t, "wine64", "wine64")
	Need(t, "x86_64-w64-mingw32-gcc", "gcc-mingw-w64-x86-64")
	alone(t)
	w := &Windows{Prefix: filepath.Join(t.TempDir(), "prefix")}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "DISPLAY=") && !strings.HasPrefix(e, "WINE") {
			w.Env = append(w.Env, e)
		}
	}
	// Without .NET and HTML, Wine asks nobody whether to download them.
	w.Env = append(w.Env, "WINEPREFIX="+w.Prefix, "WINEARCH=win64", "WINEDEBUG=-all", "WINEDLLOVERRIDES=mscoree,mshtml=")
	t.Cleanup(w.off)
	must(t)(w.Host("wine64", "wineboot", "-i"))
	w.settle(t)
	source := filepath.Join(t.TempDir(), "bcryptprimitives.c")
	if err := os.WriteFile(source, shim, 0o600); err != nil {
		t.Fatal(err)
	}
	must(t)(w.Host("x86_64-w64-mingw32-gcc", "-O2", "-s", "-shared", "-o", w.Drive("windows", "system32", "bcryptprimitives.dll"), source, "-ladvapi32"))
	must(t)(w.Run("winecfg", "-v", "win10")) // it says Windows 7 otherwise
	w.settle(t)
	return w
}

// must ends the test when a command failed.
func must(t testing.TB) func(string, error) {
	return func(out string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
}

// alone waits until no other test of this machine has a prefix.
func alone(t testing.TB) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(os.TempDir(), "certconnector-winetest.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() }) // gives the lock back
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
		return
	}
	t.Log("waiting for another test's prefix")
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
}

// settle waits until the prefix is filled and everything in it has ended.
func (w *Windows) settle(t testing.TB) {
	t.Helper()
	must(t)(w.Host("wineserver", "-w"))
}

// off ends every process of the prefix.
func (w *Windows) off() {
	_, _ = w.Host("wineserver", "-k") // an error says that none runs
	_, _ = w.Host("wineserver", "-w")
}

// Reboot ends every process as a power failure would, and starts Windows
// again, with the services that start by themselves.
func (w *Windows) Reboot(t testing.TB) {
	t.Helper()
	w.off()
	must(t)(w.Run("wineboot"))
}

// Drive returns a path below C: as this host sees it.
func (w *Windows) Drive(parts ...string) string {
	return filepath.Join(append([]string{w.Prefix, "drive_c"}, parts...)...)
}

// Path returns a path of this host as Windows sees it.
func (w *Windows) Path(host string) string {
	if c, ok := strings.CutPrefix(host, w.Drive()+"/"); ok {
		return `C:\` + strings.ReplaceAll(c, "/", `\`)
	}
	return "Z:" + strings.ReplaceAll(host, "/", `\`)
}

// Run runs a program of Windows, as reg or C:\x\y.exe, to its end or to the
// limit, and returns all that it said.
func (w *Windows) Run(program string, arguments ...string) (output string, err error) {
	return w.Host("wine64", append([]string{program}, arguments...)...)
}

// Host runs a program of this host in the prefix's environment. What it says
// goes through a file: wineserver stays behind and would keep a pipe open.
func (w *Windows) Host(program string, arguments ...string) (output string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), Limit)
	defer cancel()
	file, err := os.CreateTemp("", "winetest-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	c := exec.CommandContext(ctx, program, arguments...)
	c.Env, c.Stdout, c.Stderr = w.Env, file, file
	if err = c.Run(); err != nil {
		err = fmt.Errorf("%s %q: %w", program, arguments, err)
	}
	text, readErr := os.ReadFile(file.Name())
	return strings.ReplaceAll(string(text), "\r\n", "\n"), errors.Join(err, readErr)
}
