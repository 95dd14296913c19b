package configfile

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Prefix begins the name of every environment variable that overrides a key.
// Levels are joined by two underscores: CERTCONNECTOR_JOURNAL__SQLITE__PATH.
const Prefix = "CERTCONNECTOR_"

// environment returns the overrides, key path to value. Elements of lists
// cannot be overridden. A variable with the prefix that is no key is a
// mistake, unless the file names it as the place of a secret.
func (c *checker) environment(environ []string, t reflect.Type) map[string]any {
	keys := map[string]reflect.Type{}
	scalars(t, "", keys)
	overrides := map[string]any{}
	for _, pair := range environ {
		name, text, _ := strings.Cut(pair, "=")
		rest, ours := strings.CutPrefix(name, Prefix)
		if !ours || c.secretEnv[name] {
			continue
		}
		key := strings.ToLower(strings.ReplaceAll(rest, "__", "."))
		kind, known := keys[key]
		if !known || strings.ToUpper(rest) != rest {
			c.found.Add("environment variable "+name, "overrides no key%s", suggestVariable(key, keys))
			continue
		}
		value, want := convert(text, kind)
		if want != "" {
			c.found.Add("environment variable "+name, "is no %s", want)
			continue
		}
		overrides[key] = value
	}
	return overrides
}

// scalars collects the key paths of single values outside lists.
func scalars(t reflect.Type, path string, into map[string]reflect.Type) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t.Kind() == reflect.Struct:
		for key, i := range keysOf(t) {
			scalars(t.Field(i).Type, join(path, key), into)
		}
	case t.Kind() != reflect.Slice:
		into[path] = t
	}
}

// convert reads a text as a value of a type, or says what it should be.
func convert(text string, t reflect.Type) (value any, want string) {
	switch {
	case t == durationType:
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, "duration as 25s, 50m or 168h"
		}
		return d, ""
	case t.Kind() == reflect.Bool:
		if text != "true" && text != "false" {
			return nil, "true or false"
		}
		return text == "true", ""
	case t.Kind() == reflect.String:
		return text, ""
	}
	n, err := strconv.ParseInt(text, 10, t.Bits())
	if err != nil {
		return nil, "whole number"
	}
	return n, ""
}

// suggestVariable names the variable that was probably meant.
func suggestVariable(key string, keys map[string]reflect.Type) string {
	known := make([]string, 0, len(keys))
	for k := range keys {
		known = append(known, k)
	}
	slices.Sort(known)
	best := nearest(key, known)
	if best == "" {
		return ""
	}
	return "; did you mean " + Prefix + strings.ToUpper(strings.ReplaceAll(best, ".", "__")) + "?"
}
