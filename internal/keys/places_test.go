package keys

import (
	"encoding/pem"
	"os"
	"testing"
	"time"
)

// TestPlaceOfAFileThatChanges: the answer is remembered for as long as the file
// is the same, and no longer.
func TestPlaceOfAFileThatChanges(t *testing.T) {
	// All of one size, and of one time.
	plain := pem.EncodeToMemory(&pem.Block{Type: "DPAPI-SEALED-PRIVATE-KEY", Bytes: []byte("x")})
	sealed := pem.EncodeToMemory(&pem.Block{Type: pemSealed, Bytes: []byte("x")})
	when := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	path := t.TempDir() + "/key.pem"
	put := func(name string, content []byte, at time.Time) {
		t.Helper()
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, at, at); err != nil {
			t.Fatal(err)
		}
	}
	want := func(what string, place Place) {
		t.Helper()
		if got := PlaceOfFile(path); got != place {
			t.Errorf("%s: %q, want %q", what, got, place)
		}
	}
	want("no file", File)
	put(path, plain, when)
	want("the first file", File)
	put(path, sealed, when)
	want("a file that cannot be told from the first", File) // so it was not read again
	put(path, sealed, when.Add(time.Second))
	want("a file that was written to", DPAPI)
	put(path+".new", plain, when.Add(time.Second))
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	want("a file that was replaced", File)
	put(path, append(sealed, '\n'), when.Add(time.Second))
	want("a longer file", DPAPI)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	want("the file is gone", File)
}
