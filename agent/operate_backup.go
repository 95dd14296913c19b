package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/certconnector/certconnector/agent/control"
	"github.com/certconnector/certconnector/agent/journal/sqlite"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/secret"
)

// copier is a Store that can be copied while it is in use.
type copier interface {
	Backup(ctx context.Context, path string) (sqlite.Info, error)
	Info(ctx context.Context) (sqlite.Info, error)
}

func (a *Agent) copier() (copier, error) {
	c, ok := a.journal.(copier)
	if !ok {
		return nil, fmt.Errorf("this journal is backed up by the means of its own database: %w", ca.ErrForbidden)
	}
	return c, nil
}

// Backup writes a copy of the journal for the control socket.
func (a *Agent) Backup(ctx context.Context, file string) (control.JournalInfo, error) {
	c, err := a.copier()
	if err != nil {
		return control.JournalInfo{}, err
	}
	if !filepath.IsAbs(file) || file != filepath.Clean(file) {
		return control.JournalInfo{}, &control.Error{Code: control.CodeInvalid, Text: fmt.Sprintf("%q is no absolute path", file)}
	}
	if err := ownFolder(filepath.Dir(file)); err != nil {
		return control.JournalInfo{}, &control.Error{Code: control.CodeInvalid, Text: err.Error()}
	}
	info, err := c.Backup(ctx, file)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, sqlite.ErrBackupRuns) {
		err = &control.Error{Code: control.CodeForbidden, Text: err.Error()}
	}
	return control.JournalInfo(info), err
}

// ownFolder refuses a folder where others than its owner may exchange what we
// write. On Windows access control lists say so, and the administrator sets them.
func ownFolder(folder string) error {
	info, err := os.Stat(folder)
	if err != nil {
		return fmt.Errorf("the folder of the copy: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("%q is no folder", folder)
	}
	if mode := info.Mode().Perm(); runtime.GOOS != "windows" && mode&0o022 != 0 {
		return fmt.Errorf("others may write into %q (mode %04o), and could exchange the copy: choose a folder of the service's account, with mode 0700", folder, mode)
	}
	return nil
}

// JournalInfo tells about the journal in use.
func (a *Agent) JournalInfo(ctx context.Context) (control.JournalInfo, error) {
	c, err := a.copier()
	if err != nil {
		return control.JournalInfo{}, err
	}
	info, err := c.Info(ctx)
	return control.JournalInfo(info), err
}

// InspectJournal tells about a copy of a journal; with "" about the configured
// one, which nobody may have open.
func (c *Config) InspectJournal(file string) (control.JournalInfo, error) {
	if file == "" {
		file = c.Journal.SQLite.Path
	}
	info, err := sqlite.Inspect(file)
	return control.JournalInfo(info), err
}

// RestoredJournal is what RestoreJournal did.
type RestoredJournal struct {
	Copy     control.JournalInfo `json:"copy"`              // what is in the journal's place now
	Before   control.JournalInfo `json:"before"`            // what was there
	Kept     string              `json:"kept,omitempty"`    // and where it is now
	Damaged  string              `json:"damaged,omitempty"` // why that could not be read
	Embedded []string            `json:"embedded_cas"`      // CAs whose register the journal holds
}

// RestoreJournal puts a copy in the place of the configured journal, while the
// service does not run. It runs as the service's account.
func (c *Config) RestoreJournal(file string) (RestoredJournal, error) {
	path := c.Journal.SQLite.Path
	if err := secret.CheckOwner(filepath.Dir(path)); err != nil {
		return RestoredJournal{}, err
	}
	r, err := sqlite.Restore(path, file, sqlite.RestoreOptions{})
	done := RestoredJournal{Copy: control.JournalInfo(r.Copy), Before: control.JournalInfo(r.Before), Kept: r.Kept, Embedded: []string{}}
	if r.Damaged != nil {
		done.Damaged = r.Damaged.Error()
	}
	for _, issuer := range c.CAs {
		if issuer.Embedded != nil {
			done.Embedded = append(done.Embedded, issuer.Name)
		}
	}
	return done, err
}
