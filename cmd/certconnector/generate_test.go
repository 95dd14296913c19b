package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var day = time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)

// written runs generate and returns what it wrote, by path.
func written(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	if err := generate((&program{}).root(), dir, day); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files[strings.TrimPrefix(path, dir+string(filepath.Separator))] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestEveryCommandHasAManPage(t *testing.T) {
	files := written(t)
	for _, c := range []struct{ page, has string }{
		{"certconnector", ".BR certconnector\\-init (8) ,"},
		{"certconnector", "/var/lib/certconnector"},
		{"certconnector-init", ".B \\-\\-state\\-dir string"},
		{"certconnector-run", ".TH CERTCONNECTOR-RUN 8 2026-01-31"},
		{"certconnector-ra-enroll", ".BR certconnector\\-ra (8)"},
		{"certconnector", ".B certconnector COMMAND\n"},
	} {
		if page := files[filepath.Join("man", c.page+".8")]; !strings.Contains(page, c.has) {
			t.Errorf("%s.8 lacks %q", c.page, c.has)
		}
	}
	for path, text := range files {
		if strings.Contains(path, "generate") || strings.Contains(text, "generate DIR") {
			t.Errorf("%s shows a hidden command", path)
		}
	}
	for _, shell := range []string{"certconnector.bash", "_certconnector", "certconnector.fish", "certconnector.ps1"} {
		if len(files[filepath.Join("completions", shell)]) < 1000 {
			t.Errorf("%s is missing or short", shell)
		}
	}
}

// Packages are the same whenever they are built.
func TestPagesAreTheSameEachTime(t *testing.T) {
	first, second := written(t), written(t)
	for path := range first {
		if first[path] != second[path] {
			t.Errorf("%s differs", path)
		}
	}
}

func TestRoff(t *testing.T) {
	for _, c := range []struct{ what, in, want string }{
		{"a hyphen that people copy", "--dir", `\-\-dir`},
		{"a backslash", `C:\x`, `C:\ex`},
		{"a line that begins like a request", ".TH\n'x", "\\&.TH\n\\&'x"},
	} {
		if got := roff(c.in); got != c.want {
			t.Errorf("%s: %q", c.what, got)
		}
	}
	if got := paragraphs("one\n\n  indented\n\ntwo"); got != "one\n.PP\n.nf\n  indented\n.fi\n.PP\ntwo\n" {
		t.Errorf("paragraphs %q", got)
	}
}
