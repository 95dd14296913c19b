package configfile

import (
	"path/filepath"
	"reflect"

	"github.com/certconnector/certconnector/internal/keys"
)

// ResolvePaths makes every relative path in the tree absolute: the string
// fields with the tag path:"true" that are not empty, and those with the tag
// path:"key" that name a file, not a key of a device. A reference to Windows'
// certificate store, which a certificate may be too, is never a path. into is a
// pointer to a struct.
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
			kind := field.Tag.Get("path")
			if kind == "" {
				resolve(v.Field(i), base)
				continue
			}
			p := v.Field(i).String()
			if kind == "key" && keys.IsURI(p) || keys.InStore(p) {
				continue
			}
			if p != "" && !filepath.IsAbs(p) {
				v.Field(i).SetString(filepath.Join(base, p))
			}
		}
	}
}
