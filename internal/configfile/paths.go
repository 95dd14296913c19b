package configfile

import (
	"path/filepath"
	"reflect"
)

// ResolvePaths makes every relative path in the tree absolute: the string
// fields with the tag path:"true" that are not empty. into is a pointer to a
// struct.
func ResolvePaths(into any, base string) {
	resolve(reflect.ValueOf(into), base)
}

func resolve(v reflect.Value, base string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			resolve(v.Elem(), base)
		}
	case reflect.Slice:
		for i := range v.Len() {
			resolve(v.Index(i), base)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if field.Tag.Get("path") != "true" {
				resolve(v.Field(i), base)
				continue
			}
			if p := v.Field(i).String(); p != "" && !filepath.IsAbs(p) {
				v.Field(i).SetString(filepath.Join(base, p))
			}
		}
	}
}
