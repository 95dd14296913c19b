//go:build linux

package winetest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// GoTest runs "go test" for Windows in a folder of the source tree, each test
// program in this prefix, and returns what it said.
//
// Wine does not know how Go removes open folders (os.RemoveAll, and with it
// t.TempDir), and Go does not know Wine's answer. The switch that Go's own
// tests have for this is set by an overlay, for these builds only.
func (w *Windows) GoTest(t testing.TB, folder string, arguments ...string) (output string, err error) {
	t.Helper()
	dir := t.TempDir()
	c := exec.CommandContext(t.Context(), Need(t, "go", "golang"),
		append([]string{"test", "-exec", Need(t, "wine64", "wine64"), "-overlay", overlay(t, dir)}, arguments...)...)
	c.Dir = folder
	c.Env = append(w.Env, "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0")
	out, err := os.Create(filepath.Join(dir, "output")) // see Host
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	c.Stdout, c.Stderr = out, out
	err = c.Run()
	text, readErr := os.ReadFile(out.Name())
	if readErr != nil {
		t.Fatal(readErr)
	}
	return strings.ReplaceAll(string(text), "\r\n", "\n"), err
}

// overlay makes Go's older way of removing files the only one.
func overlay(t testing.TB, dir string) (file string) {
	t.Helper()
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(strings.TrimSpace(string(root)), "src", "internal", "syscall", "windows", "at_windows.go")
	b, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(b), "var TestDeleteatFallback bool", "var TestDeleteatFallback = true", 1)
	if changed == string(b) {
		t.Fatalf("%s has no TestDeleteatFallback any more", source)
	}
	replacement := filepath.Join(dir, "at_windows.go")
	list, err := json.Marshal(map[string]map[string]string{"Replace": {source: replacement}})
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, "overlay.json")
	for path, content := range map[string][]byte{replacement: []byte(changed), file: list} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return file
}
