package configfile

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"reflect"
	"strings"
	"time"
)

// object is a JSON object of a schema.
type object = map[string]any

// Schema returns the JSON Schema (draft 2020-12) of a configuration, for
// editors. v is the configuration with its defaults; sources are the Go files
// that declare it: their comments become the descriptions, so that a key is
// documented in one place only.
func Schema(title string, v any, sources fs.FS) ([]byte, error) {
	comments, err := Comments(sources)
	if err != nil {
		return nil, err
	}
	s := schemaOf(reflect.Indirect(reflect.ValueOf(v)), comments)
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = title
	out, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding the schema: %w", err)
	}
	return append(out, '\n'), nil
}

// schemaOf describes a value; what it holds are the defaults.
func schemaOf(v reflect.Value, comments map[string]string) object {
	switch {
	case v.Type() == durationType:
		return object{
			"type":    "string",
			"pattern": `^([0-9]+(\.[0-9]+)?(ns|us|ms|s|m|h))+$`,
			"default": v.Interface().(time.Duration).String(),
		}
	case v.Kind() == reflect.Pointer:
		return schemaOf(withDefaults(v.Type().Elem()), comments)
	case v.Kind() == reflect.Slice:
		s := object{"type": "array", "items": schemaOf(withDefaults(v.Type().Elem()), comments)}
		if v.Len() > 0 {
			s["default"] = v.Interface()
		}
		return s
	case v.Kind() == reflect.Struct:
		properties := object{}
		for key, i := range keysOf(v.Type()) {
			field := schemaOf(v.Field(i), comments)
			field["description"] = comments[v.Type().Name()+"."+v.Type().Field(i).Name]
			properties[key] = field
		}
		return object{"type": "object", "additionalProperties": false, "properties": properties}
	case v.Kind() == reflect.Bool:
		return object{"type": "boolean", "default": v.Bool()}
	case v.Kind() == reflect.String:
		s := object{"type": "string"}
		if v.String() != "" {
			s["default"] = v.String()
		}
		return s
	}
	return object{"type": "integer", "default": v.Int()}
}

// withDefaults returns a new value of a type.
func withDefaults(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	setDefaults(v)
	return v
}

// Comments reads the comments of all struct fields in Go files, "Type.Field" to
// text.
func Comments(sources fs.FS) (map[string]string, error) {
	files, err := fs.Glob(sources, "*.go")
	if err != nil {
		return nil, fmt.Errorf("listing the sources of the configuration: %w", err)
	}
	comments := map[string]string{}
	for _, name := range files {
		text, err := fs.ReadFile(sources, name)
		if err != nil {
			return nil, fmt.Errorf("reading the sources of the configuration: %w", err)
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("reading the sources of the configuration: %w", err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			t, isType := n.(*ast.TypeSpec)
			if !isType {
				return true
			}
			if s, isStruct := t.Type.(*ast.StructType); isStruct {
				addComments(comments, t.Name.Name, s)
			}
			return false
		})
	}
	return comments, nil
}

func addComments(into map[string]string, typeName string, s *ast.StructType) {
	for _, field := range s.Fields.List {
		for _, name := range field.Names {
			into[typeName+"."+name.Name] = strings.Join(strings.Fields(field.Doc.Text()), " ")
		}
	}
}
