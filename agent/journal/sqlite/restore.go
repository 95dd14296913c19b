package sqlite

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	files "github.com/certconnector/certconnector/internal/durable"
)

// A restore goes step by step, and whatever stops it between two of them leaves
// a journal to start on: the present one until the last step, the copy after it.
//
//  1. The copy is copied once more, beside the journal, checked, brought to
//     this program's schema, made one that no witness knows, and synced.
//  2. The present journal gets a second name, under which it stays.
//  3. A log beside it goes along. There is one only if the journal is damaged:
//     of a sound one it was taken in.
//  4. The copy takes the journal's name.

// restoringSuffix ends the name of a copy on its way into the journal's place.
const restoringSuffix = ".restoring"

// RestoreOptions steer a restore.
type RestoreOptions struct {
	// Clock names the journal that is put away. Default: time.Now.
	Clock func() time.Time

	step func(name string) error // of tests: called between two steps
}

// Restored is what a restore did.
type Restored struct {
	Copy    Info   // what is in the journal's place now
	Before  Info   // what was there; zero when there was nothing, or it could not be read
	Kept    string // where that is now; "" when there was nothing
	Damaged error  // why it could not be read
}

// Restore puts a copy in the place of the journal at path, which nobody may
// have open, and keeps what was there under another name. The copy may be one
// that Backup made, a copy of the file (with the log beside it, if there is
// one), or a journal that an earlier restore put away; it stays as it is. The
// next start finds that the journal was restored: see Journal.RestoredAt.
func Restore(path, from string, o RestoreOptions) (Restored, error) {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.step == nil {
		o.step = func(string) error { return nil }
	}
	var r Restored
	if err := readable(path, from); err != nil {
		return r, err
	}
	if err := r.lookAt(path); err != nil {
		return r, err
	}
	fresh := path + restoringSuffix
	err := removeDatabase(fresh) // of a restore that was killed
	if err == nil {
		err = o.step("begun")
	}
	if err == nil {
		r.Copy, err = prepareCopy(fresh, from)
	}
	if err == nil {
		err = o.step("prepared")
	}
	if err == nil {
		// Preparing took a while, and the service may have been started.
		err = r.takeIn(path)
	}
	if err == nil {
		err = r.exchange(path, fresh, &o)
	}
	if err != nil {
		return r, errors.Join(fmt.Errorf("nothing was restored: %w", err), removeDatabase(fresh))
	}
	r.Copy.Path = path
	if err := stillAlone(path, r.Kept); err != nil {
		return r, err
	}
	return r, nil
}

func readable(path, from string) error {
	source, err := os.Stat(from)
	if err != nil {
		return fmt.Errorf("reading the copy: %w", err)
	}
	if !source.Mode().IsRegular() {
		return fmt.Errorf("%q is no file", from)
	}
	present, err := os.Stat(path)
	if err == nil && os.SameFile(source, present) {
		return fmt.Errorf("%q is the journal itself, not a copy of it", from)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("looking at the journal: %w", err)
	}
	return nil
}

// lookAt reads what the present journal says, and fails when somebody uses it.
func (r *Restored) lookAt(path string) error {
	info, err := Inspect(path)
	switch {
	case err == nil:
		r.Before = info
	case errors.Is(err, fs.ErrNotExist):
	case busy(err):
		return err
	default:
		r.Damaged = err
	}
	return nil
}

// takeIn moves the log of the present journal into it. What is damaged is kept
// as it is, with its log.
func (r *Restored) takeIn(path string) error {
	if r.Before == (Info{}) {
		return nil
	}
	c, err := openConn(path, "")
	if err != nil {
		return describe(path, err)
	}
	err = c.exec(`PRAGMA locking_mode = EXCLUSIVE`, `BEGIN IMMEDIATE`, `COMMIT`, `PRAGMA wal_checkpoint(TRUNCATE)`)
	err = errors.Join(err, c.close())
	if err != nil && !busy(err) && doubtful(err) {
		r.Damaged = describe(path, err)
		return nil
	}
	if err != nil {
		return describe(path, err)
	}
	return nil
}

// prepareCopy makes step 1.
func prepareCopy(fresh, from string) (Info, error) {
	for _, suffix := range []string{"", "-wal", "-journal"} {
		err := copyFile(fresh+suffix, from+suffix)
		if suffix != "" && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Info{}, fmt.Errorf("copying %q: %w", from+suffix, err)
		}
	}
	info, err := renew(fresh, from)
	if err != nil {
		return Info{}, describeCopy(from, err)
	}
	return info, syncFile(fresh)
}

func copyFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // only read
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}

// renew checks a copy and makes it a journal of this program that no witness
// knows. Messages name it from.
func renew(fresh, from string) (info Info, err error) {
	c, err := openConn(fresh, "")
	if err != nil {
		return Info{}, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := isJournal(c, from); err != nil {
		return Info{}, err
	}
	if err := notNewer(c, from); err != nil {
		return Info{}, err
	}
	if err := c.exec(alone...); err != nil {
		return Info{}, err
	}
	if err := sound(c); err != nil {
		return Info{}, fmt.Errorf("%q: %w", from, err)
	}
	if info, err = inspect(c); err != nil {
		return Info{}, err
	}
	if err := complete(c, from, info); err != nil {
		return Info{}, err
	}
	if err := migrate(c, from); err != nil {
		return Info{}, err
	}
	if err := c.exec(`BEGIN IMMEDIATE`, `DROP TABLE IF EXISTS backup_label`); err != nil {
		return Info{}, err
	}
	if err := c.exec(forgetting...); err != nil {
		return Info{}, err
	}
	return info, c.exec(`COMMIT`)
}

// notNewer refuses a schema from the future.
func notNewer(c *conn, path string) error {
	version, err := c.number(`PRAGMA user_version`)
	if err != nil {
		return err
	}
	if version > int64(len(migrations)) {
		return fmt.Errorf("%q has schema version %d, this program knows %d: install the program that made it, or a newer one, and restore with that",
			path, version, len(migrations))
	}
	return nil
}

// complete compares a copy with its label.
func complete(c *conn, path string, info Info) error {
	if info.MadeAt.IsZero() {
		return nil
	}
	n, err := c.number(`SELECT count(*) FROM backup_label WHERE entries > (SELECT coalesce(max(id), 0) FROM entries)
		OR certificates > (SELECT coalesce(max(id), 0) FROM certificates)`)
	if err == nil && n > 0 {
		err = fmt.Errorf("%q has fewer rows than were copied: it is damaged", path)
	}
	return err
}

// exchange makes the steps 2 to 4.
func (r *Restored) exchange(path, fresh string, o *RestoreOptions) error {
	kept, err := keep(path, o.Clock())
	if err != nil {
		return fmt.Errorf("keeping the present journal: %w", err)
	}
	if err := o.step("kept"); err != nil {
		return err
	}
	for _, suffix := range besides {
		if err := os.Rename(path+suffix, kept+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("keeping what is beside the journal: %w", err)
		}
	}
	if err := o.step("cleared"); err != nil {
		return err
	}
	if err := files.Rename(fresh, path); err != nil {
		return errors.Join(err, putBack(kept, path))
	}
	if _, err := os.Stat(kept); err == nil {
		r.Kept = kept
	}
	return o.step("placed")
}

// keep gives the present journal, if there is one, a second name that is free.
func keep(path string, now time.Time) (string, error) {
	base := path + ".before-restore-" + now.UTC().Format("20060102T150405Z")
	for n := 1; ; n++ {
		kept := base
		if n > 1 {
			kept = fmt.Sprintf("%s-%d", base, n)
		}
		if _, err := os.Lstat(kept); err == nil {
			continue
		}
		err := os.Link(path, kept)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			err = os.Rename(path, kept) // a file system without links
		}
		if errors.Is(err, fs.ErrNotExist) {
			return kept, nil // there was none
		}
		return kept, errors.Join(err, files.SyncFolder(filepath.Dir(path)))
	}
}

// putBack gives a journal its name again where keep could only move it.
func putBack(kept, path string) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		if err := os.Rename(kept, path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	return os.Remove(kept) // the second name
}

// stillAlone finds a service that was started while the names changed: it works
// on the file that was put away.
func stillAlone(path, kept string) error {
	if kept == "" {
		return nil
	}
	if _, err := Inspect(kept); busy(err) {
		return fmt.Errorf("somebody started the service during the restore, and it works on %q: stop it at once, then restore that file to lose nothing, or start on %q", kept, path)
	}
	return nil
}
