// Package configfile reads a configuration file into a tree of structs,
// strictly: unknown keys, keys given twice and values of a wrong type are
// errors, and all of them are reported at once with key path and line. The
// environment may override single values. It is the only importer of viper.
//
// A field's key is its yaml tag. A struct with a SetDefaults method is given
// its defaults before a value is read into it, also as an element of a list.
package configfile

import (
	"os"
)

// Load reads the YAML file at path into a pointer to a struct. Its error is
// Mistakes when the file can be read and is wrong.
func Load(path string, into any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return Parse(text, os.Environ(), into)
}
