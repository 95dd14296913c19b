package agent

import (
	"errors"
	"path/filepath"

	"github.com/certconnector/certconnector/internal/configfile"
)

// Resolve makes every path absolute, relative ones from the configuration
// file's folder, and names the files that belong into state_dir by default.
// New expects a resolved configuration.
func (c *Config) Resolve(folder string) error {
	base, err := filepath.Abs(folder)
	if err != nil {
		return errors.New("the working folder is gone; name the configuration file by its full path")
	}
	configfile.ResolvePaths(c, base)
	inState := func(path *string, name string) {
		if *path == "" && c.StateDir != "" {
			*path = filepath.Join(c.StateDir, name)
		}
	}
	inState(&c.Secrets.LocalKey, "local.key")
	inState(&c.Control.Socket, "control.sock")
	if c.Journal.SQLite != nil {
		inState(&c.Journal.SQLite.Path, "journal.db")
	}
	return nil
}
