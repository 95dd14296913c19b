package ndesdll_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf16"
)

// portableSources need no Windows: they are compiled for this machine too,
// with sanitizers that stop at the first mistake.
var portableSources = []string{"bytes", "encoding", "json", "json_read", "der", "pending", "wire", "address", "reasons"}

// portable is a process that runs them.
type portable struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Scanner
}

// built compiles once for all tests of this run.
var built = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "ndesdll-")
	if err != nil {
		return "", err
	}
	program := filepath.Join(folder, "portable")
	arguments := []string{"-std=c11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-o", program, "testdata/portable.c"}
	for _, s := range portableSources {
		arguments = append(arguments, "src/"+s+".c")
	}
	c := exec.Command("gcc", arguments...)
	if out, err := c.CombinedOutput(); err != nil {
		os.RemoveAll(folder)
		return "", &buildError{err, out}
	}
	return program, nil
})

type buildError struct {
	err error
	out []byte
}

func (e *buildError) Error() string { return e.err.Error() + "\n" + string(e.out) }

func TestMain(m *testing.M) {
	code := m.Run()
	if program, err := built(); err == nil {
		os.RemoveAll(filepath.Dir(program))
	}
	os.Exit(code)
}

// newPortable starts the process; it must end without a complaint of the
// sanitizers, leaks included.
func newPortable(t *testing.T) *portable {
	t.Helper()
	if _, err := exec.LookPath("gcc"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("gcc is missing; on Debian: apt-get install gcc libc6-dev")
		}
		t.Skip("gcc is missing; on Debian: apt-get install gcc libc6-dev")
	}
	program, err := built()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(program)
	var complaints bytes.Buffer
	c.Stderr = &complaints
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
	hung := time.AfterFunc(5*time.Minute, func() { c.Process.Kill() })
	p := &portable{t: t, in: in, out: bufio.NewScanner(out)}
	p.out.Buffer(nil, 4<<20)
	t.Cleanup(func() {
		defer hung.Stop()
		in.Close() // ends it
		for p.out.Scan() {
		}
		if err := c.Wait(); err != nil || complaints.Len() > 0 {
			t.Errorf("the portable sources: %v\n%s", err, complaints.Bytes())
		}
	})
	return p
}

// call sends a command; octets become hexadecimal digits.
func (p *portable) call(command string, words ...any) string {
	p.t.Helper()
	line := []string{command}
	for _, w := range words {
		text, plain := w.(string)
		if octets, ok := w.([]byte); ok {
			text = hex.EncodeToString(octets)
			if len(octets) == 0 {
				text = "-"
			}
		} else if !plain {
			p.t.Fatalf("%T is no word", w)
		}
		line = append(line, text)
	}
	if _, err := io.WriteString(p.in, strings.Join(line, " ")+"\n"); err != nil {
		p.t.Fatal(err)
	}
	if !p.out.Scan() {
		p.t.Fatalf("%s: no answer", command)
	}
	return p.out.Text()
}

// octets reads an answer in hexadecimal digits.
func octets(t *testing.T, answer string) []byte {
	t.Helper()
	if answer == "-" {
		return nil
	}
	b, err := hex.DecodeString(answer)
	if err != nil {
		t.Fatalf("answer %q", answer)
	}
	return b
}

// wide is a text as Windows has it.
func wide(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u), byte(u>>8))
	}
	return b
}
