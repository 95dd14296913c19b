package service

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/certconnector/certconnector/installer/steps"
)

// marks are entries of a state folder that tell it is one of ours.
var marks = []string{"local.key", "journal.db"}

// ours are the names of what a first run and the service make in a state
// folder, and what a file system has there; those of prefixes have more to them.
var (
	ours = []string{
		"local.key", "instance", "control.sock", "challenge", "ca", "ra", "tls", "entra", "identity", "ocsp",
		"last-failure.json", "environment", "lost+found",
	}
	prefixes = []string{Name, "journal.db", "journal.witness", ".writing-"}
)

// contents is what a state folder has in it. One that is not there is empty.
type contents struct {
	empty    bool
	marked   bool   // it is a connector's
	stranger string // one entry that is none of ours; "": there is none
}

// look reads a state folder, so that a mistyped path never has another
// folder's files given away or deleted. The configuration may be in it, too.
// It does not read the folders in it: what is in those of our names is ours.
func look(folder, config string) (c contents, err error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return contents{empty: true}, nil
	}
	if err != nil {
		return c, fmt.Errorf("looking into a folder: %w", err)
	}
	c.empty = len(entries) == 0
	for _, e := range entries {
		name := e.Name()
		c.marked = c.marked || slices.Contains(marks, name)
		known := slices.Contains(ours, name) || filepath.Join(folder, name) == config ||
			slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
		if !known && c.stranger == "" {
			c.stranger = name
		}
	}
	return c, nil
}

// bearsName tells a folder that is named after us from one that is somebody
// else's too.
func bearsName(folder string) bool {
	base := filepath.Base(folder)
	return base == Name || (runtime.GOOS == "windows" && strings.EqualFold(base, Name))
}

// shared refuses a state folder to install into that has something of others in
// it. In one that is named after us, or below such a one, what an administrator
// has added is for the service.
func (c contents) shared(folder string) error {
	switch {
	case !c.marked && !c.empty:
		return fmt.Errorf("%q is not empty, and has neither a journal nor a local key: choose another --state-dir", folder)
	case c.stranger != "" && !bearsName(folder) && !bearsName(filepath.Dir(folder)):
		return fmt.Errorf("%q has %q in it, which is not of a connector, and the whole folder would be the service's: choose another --state-dir, or move it elsewhere", folder, c.stranger)
	}
	return nil
}

// noLink refuses a path that is a link: rights would be given to what it leads
// to, and a deletion would leave that.
func noLink(what, name, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking at %s: %w", what, err)
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is at %q, which is a link: name what it leads to", what, name)
	}
	return nil
}

// noLinks is noLink for all that gets rights, or is deleted.
func noLinks(o Options, real func(string) string) error {
	return errors.Join(
		noLink("the state folder", o.StateDir, real(o.StateDir)),
		noLink("the configuration's folder", filepath.Dir(o.Config), real(filepath.Dir(o.Config))),
		noLink("the configuration", o.Config, real(o.Config)),
	)
}

// purge lists the steps that delete what a service has left. They cannot be
// undone, and so come last. Nothing goes that may be somebody else's.
func purge(o Options, real func(string) string) ([]steps.Step, error) {
	state, config := real(o.StateDir), real(o.Config)
	if err := noLinks(o, real); err != nil {
		return nil, err
	}
	has, err := look(state, config)
	switch {
	case err != nil:
		return nil, err
	case !has.marked && !has.empty:
		return nil, fmt.Errorf("%q has neither a journal nor a local key: it is no state folder of a connector, and is not deleted; name the right one with --state-dir", o.StateDir)
	case has.stranger != "":
		return nil, fmt.Errorf("%q has %q in it, which is not of a connector, and is not deleted: move it elsewhere, or delete it, and run this again", o.StateDir, has.stranger)
	}
	list := []steps.Step{deletion("delete keys and journal in "+o.StateDir, state)}
	if !has.marked { // it is empty, and may be somebody else's
		list = nil
		if bearsName(state) || bearsName(filepath.Dir(state)) {
			list = []steps.Step{emptied(o.StateDir, state)}
		}
	}
	dir := filepath.Dir(config)
	if dir == state {
		return list, nil
	}
	list = append(list, deletion("delete the configuration "+o.Config, config))
	if bearsName(dir) { // another one, as /etc, has an environment of its own
		list = append(list, deletion("delete "+filepath.Join(filepath.Dir(o.Config), "environment"), filepath.Join(dir, "environment")),
			emptied(filepath.Dir(o.Config), dir))
	}
	return list, nil
}
