package durable_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/certconnector/certconnector/internal/durable"
)

func TestWriteFileReplacesAndLeavesNothingBehind(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := durable.MakeFolder(dir); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "key")
	for _, content := range []string{"one", "two"} {
		if err := durable.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != content {
			t.Fatalf("read %q, %v", b, err)
		}
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Fatalf("%d names in the folder, %v", len(list), err)
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	if err := durable.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // what is not there is fine
		if err := durable.Remove(path + ".old"); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWriteFileThatFailsKeepsTheOld(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "folder")
	if err := os.MkdirAll(filepath.Join(path, "inside"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(path, []byte("x"), 0o600); err == nil {
		t.Fatal("a folder was replaced by a file")
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Fatalf("%d names in the folder, %v: the temporary file was left", len(list), err)
	}
}
