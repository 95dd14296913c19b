package agent

import (
	"cmp"
	"errors"
	"path/filepath"

	"github.com/certconnector/certconnector/internal/configfile"
)

// LoadConfig reads a configuration file, resolves its paths and validates it.
// Everything that is wrong is in one error, configfile.Mistakes.
func LoadConfig(path string) (Config, error) {
	c, err := readConfig(path)
	if err != nil {
		return c, err
	}
	return c, c.Validate()
}

// ControlSocket returns the control socket of the service that the file
// configures. A file that was broken since the service started does not keep
// an operator from reaching it, as long as the line that names the socket, or
// the state folder, can be read.
func ControlSocket(path string) (string, error) {
	c, err := readConfig(path)
	if _, broken := errors.AsType[configfile.Mistakes](err); !broken {
		return c.Control.Socket, err
	}
	c = Defaults()
	values := configfile.Glimpse(path, "state_dir", "control.socket")
	c.StateDir, c.Control.Socket = cmp.Or(values["state_dir"], c.StateDir), values["control.socket"]
	err = c.Resolve(filepath.Dir(path))
	return c.Control.Socket, err
}

// StateDir returns the state folder of the service that the file configures, or
// the default one when no line that names it can be read.
func StateDir(path string) string {
	c, err := readConfig(path)
	if err == nil {
		return c.StateDir
	}
	c = Defaults()
	c.StateDir = cmp.Or(configfile.Glimpse(path, "state_dir")["state_dir"], c.StateDir)
	if err := c.Resolve(filepath.Dir(path)); err != nil {
		return DefaultStateDir()
	}
	return c.StateDir
}

func readConfig(path string) (Config, error) {
	var c Config
	if err := configfile.Load(path, &c); err != nil {
		return c, err
	}
	return c, c.Resolve(filepath.Dir(path))
}
