package configfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// defaulter is a struct that knows its defaults.
type defaulter interface{ SetDefaults() }

// Parse is Load for a text and an environment ("NAME=value").
func Parse(text []byte, environ []string, into any) error {
	target := reflect.ValueOf(into)
	if target.Kind() != reflect.Pointer || target.Elem().Kind() != reflect.Struct {
		return fmt.Errorf("configuration is read into %T, want a pointer to a struct", into)
	}
	setDefaults(target.Elem())

	// First everything that is wrong is found in the nodes, which know lines;
	// viper alone would stop at the first mistake and accept unknown keys.
	root, err := document(text)
	if err != nil {
		return err
	}
	c := &checker{secretEnv: map[string]bool{}}
	c.value("", root, target.Elem())
	overrides := c.environment(environ, target.Elem().Type())
	if err := c.found.Err(); err != nil {
		return err
	}

	// Then viper merges file and environment and fills the structs.
	v := viper.New()
	v.SetConfigType("yaml")
	if err := v.ReadConfig(bytes.NewReader(text)); err != nil {
		return fmt.Errorf("reading configuration: %w", err)
	}
	for key, value := range overrides {
		v.Set(key, value)
	}
	err = v.Unmarshal(into, func(d *mapstructure.DecoderConfig) {
		d.TagName = "yaml"
		d.WeaklyTypedInput = false // viper would take 1 for true and "a" for ["a"]
		d.DecodeHook = mapstructure.ComposeDecodeHookFunc(defaultsHook, mapstructure.StringToTimeDurationHookFunc())
	})
	if err != nil {
		return fmt.Errorf("reading configuration: %w", err)
	}
	return nil
}

// document returns the root of the only YAML document, nil for an empty text.
func document(text []byte) (*yaml.Node, error) {
	d := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	if err := d.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, Mistakes{{Text: "is no YAML: " + err.Error()}}
	}
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, Mistakes{{Text: "has more than one document; remove what follows the line ---"}}
	}
	return doc.Content[0], nil
}

// setDefaults gives a struct its defaults, where it has any.
func setDefaults(v reflect.Value) {
	if d, ok := v.Addr().Interface().(defaulter); ok {
		d.SetDefaults()
	}
}

// defaultsHook gives each struct its defaults before values are read into it.
// One that is not zero has got them from the struct around it.
func defaultsHook(from, to reflect.Value) (any, error) {
	if to.Kind() == reflect.Struct && to.CanAddr() && to.IsZero() {
		setDefaults(to)
	}
	return from.Interface(), nil
}
