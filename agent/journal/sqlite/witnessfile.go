package sqlite

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// witnessForm is the text of a witness file.
const witnessForm = "certconnector journal witness 1\nopening %s\nentries %d\ngrants %d\n"

// witnessLimit is more than a witness file ever has, in bytes.
const witnessLimit = 4096

// openingBytes is the length of an opening's random name.
const openingBytes = 16

// testimony is what a witness file says.
type testimony struct {
	opening []byte
	progress
}

// readWitness reads a witness file. found is false when there is none, or one
// that is damaged: nothing can be said for the database then. A file of some
// other kind is an error, so that a mistyped path costs no other file.
func readWitness(path string) (w testimony, found bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return w, false, nil
	}
	if err != nil {
		return w, false, fmt.Errorf("reading the journal's witness: %w; the service's account needs the right to read it", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, witnessLimit))
	if err = errors.Join(err, f.Close()); err != nil {
		return w, false, fmt.Errorf("reading the journal's witness: %w", err)
	}
	first, _, _ := strings.Cut(witnessForm, "\n")
	if len(b) > 0 && !strings.HasPrefix(string(b), first) {
		return w, false, fmt.Errorf("%q is no witness of a journal and is kept: name another path, or move that file away", path)
	}
	var name string
	if _, err := fmt.Sscanf(string(b), witnessForm, &name, &w.entries, &w.grants); err != nil {
		return testimony{}, false, nil
	}
	if w.opening, err = hex.DecodeString(name); err != nil || len(w.opening) != openingBytes {
		return testimony{}, false, nil
	}
	return w, true, nil
}

// write replaces the witness file. p is durable in the database.
func (w *witness) write(p progress) error {
	fresh := w.path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, witnessForm, hex.EncodeToString(w.opening), p.entries, p.grants)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := w.between("written"); err != nil {
		return err
	}
	if err := os.Rename(fresh, w.path); err != nil {
		return err
	}
	if err := w.between("renamed"); err != nil {
		return err
	}
	w.told = p
	return syncFolder(filepath.Dir(w.path))
}
