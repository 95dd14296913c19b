// Command mkresource makes the resource that lets the Event Viewer of Windows
// show our events: a message table in which each number stands for the text
// "%1", that is, for what the program wrote. It needs windmc and windres of
// binutils-mingw-w64-x86-64; "go generate ./cmd/certconnector" calls it.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/certconnector/certconnector/internal/eventid"
)

func main() {
	if len(os.Args) != 2 {
		fail(fmt.Errorf("usage: mkresource FILE.syso"))
	}
	if err := run(os.Args[1]); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "mkresource:", err)
	os.Exit(1)
}

func run(out string) error {
	out, err := filepath.Abs(out)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "mkresource")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // temporary
	if err := os.WriteFile(filepath.Join(dir, "events.mc"), []byte(messages()), 0o600); err != nil {
		return err
	}
	const prefix = "x86_64-w64-mingw32-"
	for _, args := range [][]string{
		{prefix + "windmc", "events.mc"}, // makes events.rc and the table it names
		{prefix + "windres", "-O", "coff", "-i", "events.rc", "-o", out},
	} {
		c := exec.Command(args[0], args[1:]...)
		c.Dir, c.Stderr = dir, os.Stderr
		if err := c.Run(); err != nil {
			return fmt.Errorf("%q: %w (on Debian: apt-get install binutils-mingw-w64-x86-64)", args, err)
		}
	}
	return nil
}

// messages is the source of the table. Severity and facility stay 0, so that a
// number is the same in the table, in ReportEvent and in the Event Viewer.
func messages() string {
	var b strings.Builder
	b.WriteString("LanguageNames=(English=0x409:MSG00409)\n")
	for _, id := range eventid.All() {
		fmt.Fprintf(&b, "\nMessageId=%d\nSymbolicName=EVENT_%d\nLanguage=English\n%%1\r\n.\n", id, id)
	}
	return b.String()
}
