//go:build e2ewindows

package ndesdll_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// wine is a fresh Windows: a Wine prefix of its own.
type wine struct {
	prefix string
	env    []string
}

// limit is how long any one program may run.
const limit = 2 * time.Minute

func need(t *testing.T, program, debian string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%s is missing; on Debian: apt-get install --no-install-recommends %s", program, debian)
	}
	return path
}

func newWine(t *testing.T) *wine {
	t.Helper()
	// Debian keeps wine64 off the path.
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/lib/wine")
	need(t, "wine64", "wine64")
	need(t, "x86_64-w64-mingw32-gcc", "gcc-mingw-w64-x86-64")
	need(t, "x86_64-w64-mingw32-windres", "gcc-mingw-w64-x86-64")
	w := &wine{prefix: filepath.Join(t.TempDir(), "prefix")}
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "DISPLAY=") && !strings.HasPrefix(e, "WINE") {
			w.env = append(w.env, e)
		}
	}
	w.env = append(w.env, "WINEPREFIX="+w.prefix, "WINEARCH=win64", "WINEDEBUG=-all", "WINEDLLOVERRIDES=mscoree,mshtml=")
	t.Cleanup(func() {
		w.run("wineserver", "-k") // an error says that none runs
		w.run("wineserver", "-w")
	})
	if out, err := w.run("wine64", "wineboot", "-i"); err != nil {
		t.Fatalf("wineboot: %v\n%s", err, out)
	}
	if out, err := w.run("wineserver", "-w"); err != nil {
		t.Fatalf("waiting for the prefix: %v\n%s", err, out)
	}
	return w
}

// run runs a program to its end, or to the limit. Its output goes to a file:
// wineserver stays behind and would keep a pipe open.
func (w *wine) run(name string, arguments ...string) (output string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c := exec.CommandContext(ctx, name, arguments...)
	c.Env = w.env
	file, err := os.CreateTemp("", "ndesdll-")
	if err != nil {
		return "", err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	c.Stdout, c.Stderr = file, file
	err = c.Run()
	text, _ := os.ReadFile(file.Name())
	return string(text), err
}

func (w *wine) drive(parts ...string) string {
	return filepath.Join(append([]string{w.prefix, "drive_c"}, parts...)...)
}

// build makes the DLL, twice, and the host that loads it.
func (w *wine) build(t *testing.T) {
	t.Helper()
	first, second := t.TempDir(), t.TempDir()
	for _, folder := range []string{first, second} {
		if out, err := w.run("sh", "build.sh", folder); err != nil {
			t.Fatalf("build.sh: %v\n%s", err, out)
		}
	}
	const name = "certconnector-ndespolicy.dll"
	dll, err := os.ReadFile(filepath.Join(first, name))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(filepath.Join(second, name)); err != nil || !bytes.Equal(dll, again) {
		t.Errorf("two builds differ (%v)", err)
	}
	if err := os.MkdirAll(w.drive("ndes"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.drive("ndes", name), dll, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := w.run("x86_64-w64-mingw32-gcc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-DUNICODE", "-D_WIN32_WINNT=0x0A00",
		"-static", "-o", w.drive("ndes", "host.exe"), "testdata/host.c", "-lole32", "-lcrypt32", "-ladvapi32", "-luuid")
	if err != nil {
		t.Fatalf("building the host: %v\n%s", err, out)
	}
}

// regsvr32 registers, or with /u unregisters.
func (w *wine) regsvr32(t *testing.T, flags ...string) error {
	t.Helper()
	out, err := w.run("wine64", append(append([]string{"regsvr32", "/s"}, flags...), `C:\ndes\certconnector-ndespolicy.dll`)...)
	t.Logf("regsvr32 %v: %v %s", flags, err, strings.TrimSpace(out))
	return err
}

// host is a process that has the module loaded, as an IIS worker has.
type host struct {
	t     *testing.T
	in    io.WriteCloser
	lines chan string
	wait  func() error
}

func (w *wine) host(t *testing.T) *host {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	t.Cleanup(cancel)
	c := exec.CommandContext(ctx, "wine64", `C:\ndes\host.exe`)
	c.Env, c.WaitDelay = w.env, 5*time.Second
	h := &host{t: t, lines: make(chan string)}
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	h.in = in
	read := make(chan struct{})
	go func() {
		defer close(read)
		for s := bufio.NewScanner(out); s.Scan(); {
			h.lines <- strings.TrimSpace(s.Text())
		}
		close(h.lines)
	}()
	h.wait = func() error { <-read; return c.Wait() }
	t.Cleanup(func() {
		in.Close()
		for range h.lines { // what nobody waited for
		}
		h.wait()
	})
	return h
}

// line sends a line that is not answered.
func (h *host) line(words ...string) {
	h.t.Helper()
	if _, err := io.WriteString(h.in, strings.Join(words, " ")+"\n"); err != nil {
		h.t.Fatalf("the host is gone: %v", err)
	}
}

// call sends a line and returns the HRESULT and the value of the answer.
func (h *host) call(words ...string) (hr uint32, value int) {
	h.t.Helper()
	h.line(words...)
	select {
	case line, ok := <-h.lines:
		if _, err := fmt.Sscanf(line, "%x %d", &hr, &value); !ok || err != nil {
			h.t.Fatalf("%s: the host answers %q: %v", words[0], line, err)
		}
	case <-time.After(limit):
		h.t.Fatalf("%s: the host does not answer", words[0])
	}
	return hr, value
}

// want calls and compares the HRESULT.
func (h *host) want(hr uint32, words ...string) (value int) {
	h.t.Helper()
	got, value := h.call(words...)
	if got != hr {
		h.t.Errorf("%s: HRESULT 0x%08x, want 0x%08x", words[0], got, hr)
	}
	return value
}
