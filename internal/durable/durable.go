// Package durable reads small files, and writes them so that they survive a
// power failure whole or not at all: the content is on disk before the name is,
// and the name before the call returns. Of two that replace one file the later
// wins; of two that create it the first.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/certconnector/certconnector/internal/secret"
)

// WriteFile replaces a file, or makes it. Whoever reads sees the old content
// or the new one.
func WriteFile(path string, content []byte, mode fs.FileMode) error {
	if err := write(path, content, mode, os.Rename); err != nil {
		return fmt.Errorf("writing %q: %w", path, err)
	}
	return nil
}

// Create makes a file and never replaces one: that is fs.ErrExist.
func Create(path string, content []byte, mode fs.FileMode) error {
	if err := write(path, content, mode, giveFree); err != nil {
		return fmt.Errorf("creating %q: %w", path, err)
	}
	return nil
}

// write gives a file its name with its content on disk.
func write(path string, content []byte, mode fs.FileMode, give func(file, path string) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".writing-*") // mode 0600
	if err != nil {
		return cause(err)
	}
	_, err = f.Write(content)
	if err == nil && runtime.GOOS != "windows" {
		err = f.Chmod(mode)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = give(f.Name(), path)
	}
	if err != nil {
		return errors.Join(cause(err), os.Remove(f.Name()))
	}
	return SyncFolder(filepath.Dir(path))
}

// cause leaves out the name of a file that is gone when somebody reads it.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	if e, ok := errors.AsType[*os.LinkError](err); ok {
		return e.Err
	}
	return err
}

// giveFree gives a file a name that must be free.
func giveFree(file, path string) error {
	err := os.Link(file, path)
	if err == nil {
		return os.Remove(file)
	}
	if errors.Is(err, fs.ErrExist) {
		return err
	}
	if _, taken := os.Lstat(path); taken == nil { // a file system without links
		return fs.ErrExist
	}
	return os.Rename(file, path)
}

// ReadFile reads a regular file of at most limit octets.
func ReadFile(path string, limit int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	switch {
	case !info.Mode().IsRegular(): // to open a pipe may hang
		return nil, fmt.Errorf("%q is no regular file", path)
	case info.Size() > limit:
		return nil, fmt.Errorf("%q has %d octets, %d at the most are read", path, info.Size(), limit)
	}
	return os.ReadFile(path)
}

// Rename moves a file or folder within one file system.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	err := SyncFolder(filepath.Dir(to))
	if filepath.Dir(from) != filepath.Dir(to) {
		err = errors.Join(err, SyncFolder(filepath.Dir(from)))
	}
	return err
}

// Remove removes a file; one that is not there is fine.
func Remove(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return SyncFolder(filepath.Dir(path))
}

// MakeFolder makes a folder for the owner only, with its parents. One that is
// there is fine, unless others may write to it: they could put files of theirs
// in the place of ours. (Windows has no such modes; see internal/secret.)
func MakeFolder(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		if runtime.GOOS != "windows" && info.Mode().Perm()&0o022 != 0 {
			return fmt.Errorf("folder %q: group or others may write to it (mode %#o): run chmod go-w on it, and see what is in it", path, info.Mode().Perm())
		}
		return nil
	}
	_, err := makeNew(path, secret.RestrictMade)
	return err
}

// MakeNew is MakeFolder for a folder that was not there: made is false when
// another process was faster. An error means that it is not there.
func MakeNew(path string) (made bool, err error) { return makeNew(path, secret.RestrictMade) }

// makeNew leaves no folder behind that it could not protect: the next call
// would take it for a good one.
func makeNew(path string, restrict func(string) error) (made bool, err error) {
	path = filepath.Clean(path)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return false, fmt.Errorf("making a folder: %w", err)
	}
	err = os.Mkdir(path, 0o700)
	if info, statErr := os.Stat(path); errors.Is(err, fs.ErrExist) && statErr == nil && info.IsDir() {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("making a folder: %w", err)
	}
	// Windows hands down the rights of the parent, which may be everybody's.
	if err := errors.Join(restrict(path), SyncFolder(filepath.Dir(path))); err != nil {
		return false, errors.Join(err, os.Remove(path))
	}
	return true, nil
}

// SyncFolder makes new names in a folder durable. Windows has no such call and
// needs none.
func SyncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("syncing a folder: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}
