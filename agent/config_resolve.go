package agent

import (
	"errors"
	"net/url"
	"path/filepath"
	"slices"

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
		inState(&c.Journal.SQLite.Witness, "journal.witness")
	}
	for i := range c.Tenants {
		t := &c.Tenants[i]
		t.resolve()
		if t.Credential.Managed != nil {
			inState(&t.Credential.Managed.Folder, filepath.Join("entra", t.Name))
		}
	}
	return nil
}

// resolve names the hosts that a cloud of one's own may send tokens to.
func (t *Tenant) resolve() {
	if t.Cloud != "custom" || len(t.URLs.ServiceHosts) > 0 {
		return
	}
	for _, address := range []string{t.URLs.Graph, t.URLs.Resource} {
		if u, err := url.Parse(address); err == nil && u.Hostname() != "" && !slices.Contains(t.URLs.ServiceHosts, u.Hostname()) {
			t.URLs.ServiceHosts = append(t.URLs.ServiceHosts, u.Hostname())
		}
	}
}
