package logging

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
)

// What a rolling file keeps.
const (
	RollBytes = 32 << 20 // a file that would grow longer is put aside
	rollKept  = 4        // as NAME.1, the latest, to NAME.4
)

// rolling is a file that is put aside when it is full, so that a service that
// nobody looks after does not fill a disk. It is not safe for concurrent use.
type rolling struct {
	path string
	f    *os.File
	size int64
}

func openRolling(path string) (*rolling, error) {
	r := &rolling{path: path}
	return r, r.open()
}

func (r *rolling) open() error {
	f, err := os.OpenFile(r.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("opening the log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("opening the log: %w", err), f.Close())
	}
	r.f, r.size = f, info.Size()
	return nil
}

// Write writes one line.
func (r *rolling) Write(b []byte) (int, error) {
	if r.size > 0 && r.size+int64(len(b)) > RollBytes {
		if err := r.roll(); err != nil {
			return 0, err
		}
	}
	n, err := r.f.Write(b)
	r.size += int64(n)
	return n, err
}

// roll puts the file aside. Where that cannot be done, as on Windows while
// somebody reads it, the file grows on, and another RollBytes later it is
// tried again.
func (r *rolling) roll() error {
	if err := r.f.Close(); err != nil {
		return fmt.Errorf("closing the log: %w", err)
	}
	aside := func(n int) string { return r.path + "." + strconv.Itoa(n) }
	err := os.Remove(aside(rollKept))
	for n := rollKept - 1; n >= 1; n-- {
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			err = os.Rename(aside(n), aside(n+1))
		}
	}
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = os.Rename(r.path, aside(1))
	}
	if openErr := r.open(); openErr != nil {
		return openErr
	}
	if err != nil {
		r.size = 1 // the file is not new: count as if it were
	}
	return nil
}

// Sync writes out what the system has not yet.
func (r *rolling) Sync() error { return r.f.Sync() }

// Close closes the file.
func (r *rolling) Close() error { return r.f.Close() }
