package configfile

import (
	"fmt"
	"reflect"
	"sort"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

var durationType = reflect.TypeFor[time.Duration]()

// checker walks nodes and types side by side. Its messages never repeat a
// value: somebody may have written a secret where a reference belongs.
type checker struct {
	found     Mistakes
	secretEnv map[string]bool // environment variables that the file refers to
}

func (c *checker) add(path string, n *yaml.Node, format string, args ...any) {
	c.found = append(c.found, Mistake{Path: path, Line: n.Line, Text: fmt.Sprintf(format, args...)})
}

// value checks that a node fits into v. Sections that are present but empty
// are made here, because viper drops empty maps.
func (c *checker) value(path string, n *yaml.Node, v reflect.Value) {
	if n == nil || n.Kind == 0 {
		return
	}
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		c.add(path, n, "uses a YAML anchor; write the value out")
		return
	}
	null := n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
	switch {
	case v.Kind() == reflect.Pointer:
		if null {
			c.add(path, n, "is empty; write {} for all defaults, or remove the key")
			return
		}
		if v.IsNil() && n.Kind == yaml.MappingNode {
			v.Set(reflect.New(v.Type().Elem()))
			setDefaults(v.Elem())
		}
		if v.IsNil() {
			v = reflect.New(v.Type().Elem()) // only for the message
		}
		c.value(path, n, v.Elem())
	case null:
		// An empty value is the default, as everywhere in YAML.
	case v.Type() == durationType:
		c.duration(path, n)
	case v.Kind() == reflect.Struct:
		c.section(path, n, v)
	case v.Kind() == reflect.Slice:
		c.list(path, n, v)
	default:
		c.scalar(path, n, v)
	}
}

func (c *checker) section(path string, n *yaml.Node, v reflect.Value) {
	keys := keysOf(v.Type())
	if n.Kind != yaml.MappingNode {
		c.add(path, n, "is no section; want keys out of %s", strings.Join(names(keys), ", "))
		return
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		here := join(path, key.Value)
		field, known := keys[key.Value]
		switch {
		case key.Kind != yaml.ScalarNode || !known:
			c.add(here, key, "is unknown%s", suggest(key.Value, names(keys)))
			continue
		case seen[key.Value] > 0:
			c.add(here, key, "is given twice, first in line %d", seen[key.Value])
			continue
		}
		seen[key.Value] = key.Line
		if key.Value == "env" && value.Kind == yaml.ScalarNode {
			c.secretEnv[value.Value] = true
		}
		c.value(here, value, v.Field(field))
	}
}

func (c *checker) list(path string, n *yaml.Node, v reflect.Value) {
	if n.Kind != yaml.SequenceNode {
		c.add(path, n, "is no list; begin each element with \"- \"")
		return
	}
	for i, element := range n.Content {
		here := fmt.Sprintf("%s[%d]", path, i)
		if element.Kind == yaml.ScalarNode && element.ShortTag() == "!!null" {
			c.add(here, element, "is empty; remove it")
			continue
		}
		c.value(here, element, reflect.New(v.Type().Elem()).Elem())
	}
}

func (c *checker) duration(path string, n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str" {
		if _, err := time.ParseDuration(n.Value); err == nil {
			return
		}
	}
	c.add(path, n, "is no duration; want one as 25s, 50m or 168h")
}

func (c *checker) scalar(path string, n *yaml.Node, v reflect.Value) {
	tag := ""
	if n.Kind == yaml.ScalarNode {
		tag = n.ShortTag()
	}
	scratch := reflect.New(v.Type())
	switch v.Kind() {
	case reflect.String:
		if tag == "" {
			c.add(path, n, "is no text")
		} else if tag != "!!str" {
			c.add(path, n, "is not read as text; put it in quotes")
		}
	case reflect.Bool:
		if tag != "!!bool" {
			c.add(path, n, "is neither true nor false")
		}
	default:
		if tag != "!!int" || n.Decode(scratch.Interface()) != nil {
			c.add(path, n, "is no whole number, or too large")
		}
	}
}

// keysOf maps the keys of a struct to its fields.
func keysOf(t reflect.Type) map[string]int {
	keys := map[string]int{}
	for i := range t.NumField() {
		if key := t.Field(i).Tag.Get("yaml"); key != "" {
			keys[key] = i
		}
	}
	return keys
}

func names(keys map[string]int) []string {
	list := make([]string, 0, len(keys))
	for k := range keys {
		list = append(list, k)
	}
	sort.Slice(list, func(i, j int) bool { return keys[list[i]] < keys[list[j]] })
	return list
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
