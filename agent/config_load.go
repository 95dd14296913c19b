package agent

import (
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
// an operator from reaching it, as long as it can be read.
func ControlSocket(path string) (string, error) {
	c, err := readConfig(path)
	return c.Control.Socket, err
}

func readConfig(path string) (Config, error) {
	var c Config
	if err := configfile.Load(path, &c); err != nil {
		return c, err
	}
	return c, c.Resolve(filepath.Dir(path))
}
