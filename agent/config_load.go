package agent

import (
	"path/filepath"

	"github.com/certconnector/certconnector/internal/configfile"
)

// LoadConfig reads a configuration file, resolves its paths and validates it.
// Everything that is wrong is in one error, configfile.Mistakes.
func LoadConfig(path string) (Config, error) {
	var c Config
	if err := configfile.Load(path, &c); err != nil {
		return c, err
	}
	if err := c.Resolve(filepath.Dir(path)); err != nil {
		return c, err
	}
	return c, c.Validate()
}
