package demo

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestDemo builds both programs and runs the whole demonstration.
func TestDemo(t *testing.T) {
	if testing.Short() {
		t.Skip("builds two programs and takes most of a minute; make demo runs it too")
	}
	bin, dir := t.TempDir(), shortDir(t)
	build := exec.Command("go", "build", "-o", bin+string(filepath.Separator), "../../certconnector", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	lab := "certlab"
	if runtime.GOOS == "windows" {
		lab += ".exe"
	}
	var out strings.Builder
	held, err := Run(t.Context(), Options{Once: true, Dir: dir, Lab: filepath.Join(bin, lab), Out: &out})
	if err != nil || !held {
		t.Fatalf("held %v, %v:\n%s", held, err, out.String())
	}
	lines := strings.Split(strings.TrimRight(out.String(), "\n"), "\n")
	if last := lines[len(lines)-1]; last != "22 passed, 0 failed" {
		t.Errorf("the last line is %q", last)
	}
	b, err := os.ReadFile(filepath.Join(dir, ReportFile))
	if err != nil {
		t.Fatal(err)
	}
	var r Report
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	if r.Passed != 22 || len(r.Steps) != 22 || len(r.Steps[0].Evidence) == 0 {
		t.Errorf("report %+v", r)
	}
}

// TestWhatCannotBeginChangesNothing: a folder with something in it, a program
// that is not there.
func TestWhatCannotBeginChangesNothing(t *testing.T) {
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name, want string
		o          Options
	}{
		{"a folder that is not empty", "not empty", Options{Dir: full, Program: self}},
		{"a folder whose name is too long", "too long", Options{Dir: filepath.Join(t.TempDir(), strings.Repeat("x", 100)), Program: self}},
		{"no such program", "--program", Options{Dir: t.TempDir(), Program: "no-such-certconnector"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.o.Once, row.o.Lab = true, self
			if _, err := Run(t.Context(), row.o); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want one about %q", err, row.want)
			}
		})
	}
	if found, err := os.ReadDir(full); err != nil || len(found) != 1 {
		t.Errorf("the folder has %v now, %v", found, err)
	}
}

// shortDir is a folder whose path leaves room for a control socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "demo")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) }) // a temporary folder that stays is no failure
	return dir
}
