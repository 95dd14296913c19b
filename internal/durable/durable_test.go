package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
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

func TestCreateNeverReplaces(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	if err := durable.Create(path, []byte("first"), 0o600); err != nil {
		t.Fatal(err)
	}
	var racers sync.WaitGroup
	for range 8 {
		racers.Go(func() {
			if err := durable.Create(path, []byte("later"), 0o600); !errors.Is(err, fs.ErrExist) {
				t.Errorf("error %v, want one that says that it exists", err)
			}
		})
	}
	racers.Wait()
	if b, err := os.ReadFile(path); err != nil || string(b) != "first" {
		t.Errorf("read %q, %v", b, err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 1 {
		t.Errorf("%d names in the folder, %v", len(list), err)
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "small")
	if err := os.WriteFile(path, []byte("12345678"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := durable.ReadFile(path, 8); err != nil || string(b) != "12345678" {
		t.Errorf("read %q, %v", b, err)
	}
	for _, row := range []struct {
		name, path, want string
		limit            int64
	}{
		{"larger than the limit", path, "has 8 octets, 7 at the most", 7},
		{"a folder", dir, "is no regular file", 100},
		{"not there", path + ".not", "", 100},
	} {
		b, err := durable.ReadFile(row.path, row.limit)
		if b != nil || err == nil || !strings.Contains(err.Error(), row.want) || errors.Is(err, fs.ErrNotExist) != (row.want == "") {
			t.Errorf("%s: %q, error %v", row.name, b, err)
		}
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
