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

	"github.com/certconnector/certconnector/installer/windows/winetest"
)

// wine is a Windows with the module's folder C:\ndes.
type wine struct{ *winetest.Windows }

func newWine(t *testing.T) *wine {
	t.Helper()
	w := &wine{winetest.New(t)}
	winetest.Need(t, "x86_64-w64-mingw32-windres", "gcc-mingw-w64-x86-64")
	return w
}

// build makes the DLL, twice, and the host that loads it.
func (w *wine) build(t *testing.T) {
	t.Helper()
	first, second := t.TempDir(), t.TempDir()
	for _, folder := range []string{first, second} {
		if out, err := w.Host("sh", "build.sh", folder); err != nil {
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
	if err := os.MkdirAll(w.Drive("ndes"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(w.Drive("ndes", name), dll, 0o755); err != nil {
		t.Fatal(err)
	}
	out, err := w.Host("x86_64-w64-mingw32-gcc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-DUNICODE", "-D_WIN32_WINNT=0x0A00",
		"-static", "-o", w.Drive("ndes", "host.exe"), "testdata/host.c", "-lole32", "-lcrypt32", "-ladvapi32", "-luuid")
	if err != nil {
		t.Fatalf("building the host: %v\n%s", err, out)
	}
}

// regsvr32 registers, or with /u unregisters.
func (w *wine) regsvr32(t *testing.T, flags ...string) error {
	t.Helper()
	out, err := w.Run("regsvr32", append(append([]string{"/s"}, flags...), `C:\ndes\certconnector-ndespolicy.dll`)...)
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
	ctx, cancel := context.WithTimeout(context.Background(), 14*time.Minute)
	t.Cleanup(cancel)
	c := exec.CommandContext(ctx, "wine64", `C:\ndes\host.exe`)
	c.Env, c.WaitDelay = w.Env, 5*time.Second
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
	case <-time.After(winetest.Limit):
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
