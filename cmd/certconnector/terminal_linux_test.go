package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal opens a pseudo-terminal: what a person sees and types, and what a
// program has.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return person, program
}

// Ctrl-C at any question, the last one included, leaves nothing.
func TestCtrlCLeavesNothing(t *testing.T) {
	answers := []struct{ question, answer string }{
		{"Host name", "scep.example"}, {"authority [", ""}, {"Policy [", "static"}, {"Address", ":8443"}, {"Folder", "lab"}, {"Set it up", ""},
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for stop := range answers {
		dir := t.TempDir()
		person, program := terminal(t)
		c := &exec.Cmd{
			Path: self, Args: []string{"certconnector", "init", "--ca-key", "p256"}, Dir: dir,
			Stdin: program, Stdout: program, Stderr: program,
			SysProcAttr: &syscall.SysProcAttr{Setsid: true, Setctty: true},
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		_ = program.Close() // the child has it
		seen := make(chan string, 64)
		go func() {
			defer close(seen)
			for b := make([]byte, 4096); ; {
				n, err := person.Read(b)
				if err != nil {
					return // EIO, when the program ended
				}
				seen <- string(b[:n])
			}
		}()
		shown := ""
		for i, a := range answers[:stop+1] {
			for !strings.Contains(shown, a.question) {
				select {
				case s, ok := <-seen:
					if !ok {
						t.Fatalf("it ended before %q:\n%s", a.question, shown)
					}
					shown += s
				case <-time.After(patience):
					t.Fatalf("it never asks %q:\n%s", a.question, shown)
				}
			}
			text := a.answer + "\n"
			if i == stop {
				text = "\x03"
			}
			if _, err := person.WriteString(text); err != nil {
				t.Fatal(err)
			}
		}
		for s := range seen {
			shown += s
		}
		_ = c.Wait() // its code is looked at
		if code := c.ProcessState.ExitCode(); code != exitError || !strings.Contains(shown, "nothing was written") {
			t.Errorf("%s: exit code %d:\n%s", answers[stop].question, code, shown)
		}
		if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) != 0 {
			t.Errorf("%s: left behind: %v, %v", answers[stop].question, left, err)
		}
	}
}
