package durable_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
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

// A folder that cannot be protected is not left: the next call would find it
// and take it.
func TestFolderThatCannotBeProtectedIsNotLeft(t *testing.T) {
	path := filepath.Join(t.TempDir(), "parent", "folder")
	refused := errors.New("access is denied")
	if made, err := durable.MakeRestrictedBy(path, func(string) error { return refused }); made || !errors.Is(err, refused) {
		t.Errorf("made %v, %v", made, err)
	}
	if _, err := os.Lstat(path); err == nil {
		t.Error("the folder is left")
	}
	for _, want := range []bool{true, false} { // the second call finds it
		if made, err := durable.MakeNew(path); made != want || err != nil {
			t.Errorf("made %v, %v", made, err)
		}
	}
}

func TestMakeFolderThatOthersMayWriteTo(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no such modes")
	}
	for mode, good := range map[os.FileMode]bool{0o700: true, 0o755: true, 0o750: true, 0o770: false, 0o702: false, 0o777: false, 0o777 | os.ModeSticky: false} {
		path := filepath.Join(t.TempDir(), "folder")
		if err := errors.Join(os.Mkdir(path, 0o700), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		err := durable.MakeFolder(path)
		if (err == nil) != good || err != nil && !strings.Contains(err.Error(), "chmod go-w") {
			t.Errorf("mode %v: %v", mode, err)
		}
	}
}
