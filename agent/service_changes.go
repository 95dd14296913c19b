package agent

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// restartSettings are the settings that a running service cannot change: it
// goes on with the value that it was started with. All others apply at once.
var restartSettings = []string{
	"state_dir",
	"journal.sqlite.path", "journal.sqlite.witness",
	"secrets.local_key",
	"control.socket",
	"log.format", "log.file", "log.audit_file",
	"limits.header_bytes", "limits.connections", "limits.read_header_timeout", "limits.read_timeout", "limits.idle_timeout",
}

// RestartSettings are the settings that apply at the next start only, as paths
// such as "control.socket".
func RestartSettings() []string { return slices.Clone(restartSettings) }

// Changes names the settings in which two configurations differ, never their
// values: one may be a secret. Parts of a list are known by their name; a path
// counts them as the new configuration does, what was removed as the old one.
func Changes(before, after Config) []string {
	var c changes
	c.compare("", reflect.ValueOf(before), reflect.ValueOf(after))
	return c
}

type changes []string

func (c *changes) note(path, what string) { *c = append(*c, strings.TrimSpace(path+" "+what)) }

// compare looks at values of one type.
func (c *changes) compare(path string, before, after reflect.Value) {
	if same(before, after) {
		return
	}
	switch before.Kind() {
	case reflect.Pointer:
		switch {
		case before.IsNil():
			c.note(path, "(added)")
		case after.IsNil():
			c.note(path, "(removed)")
		default:
			c.compare(path, before.Elem(), after.Elem())
		}
	case reflect.Struct:
		if !configured(before.Type()) {
			c.note(path, "")
			return
		}
		for i := range before.NumField() {
			if name, ok := settingName(before.Type().Field(i)); ok {
				c.compare(join(path, name), before.Field(i), after.Field(i))
			}
		}
	case reflect.Slice:
		c.list(path, before, after)
	default:
		c.note(path, "")
	}
}

// list compares lists of parts with names; other lists are one setting.
func (c *changes) list(path string, before, after reflect.Value) {
	was, now := partNames(before), partNames(after)
	if was == nil || now == nil {
		c.note(path, "")
		return
	}
	order := func(in, of []string) []string {
		return slices.DeleteFunc(slices.Clone(of), func(n string) bool { return !slices.Contains(in, n) })
	}
	for i, name := range was {
		if !slices.Contains(now, name) {
			c.note(fmt.Sprintf("%s[%d]", path, i), "(removed)")
		}
	}
	for i, name := range now {
		at := fmt.Sprintf("%s[%d]", path, i)
		if j := slices.Index(was, name); j >= 0 {
			c.compare(at, before.Index(j), after.Index(i))
		} else {
			c.note(at, "(added)")
		}
	}
	if !slices.Equal(order(now, was), order(was, now)) {
		c.note(path, "(order)")
	}
}

// partNames are what the parts of a list are called; nil: they have no names of
// their own. An empty list has none, and that is known.
func partNames(list reflect.Value) []string {
	if list.Type().Elem().Kind() != reflect.Struct {
		return nil
	}
	if _, ok := list.Type().Elem().FieldByName("Name"); !ok {
		return nil
	}
	all := make([]string, 0, list.Len())
	for i := range list.Len() {
		name := list.Index(i).FieldByName("Name")
		if name.Kind() != reflect.String || slices.Contains(all, name.String()) {
			return nil
		}
		all = append(all, name.String())
	}
	return all
}

// same is equality in which no list is an empty one.
func same(a, b reflect.Value) bool {
	if a.Kind() == reflect.Slice && a.Len() == 0 && b.Len() == 0 {
		return true
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

// configured tells structs that have settings of their own.
func configured(t reflect.Type) bool {
	for i := range t.NumField() {
		if _, ok := settingName(t.Field(i)); ok {
			return true
		}
	}
	return false
}

// settingName is a field's key in the file.
func settingName(f reflect.StructField) (string, bool) {
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return name, f.IsExported() && name != "" && name != "-"
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// keepForRestart gives a new configuration the old values of what only a
// restart can change, and names those that differ.
func keepForRestart(running, next *Config) []string {
	var differ []string
	keepManaged(running.StateDir, next)
	for _, path := range restartSettings {
		if keep(reflect.ValueOf(running).Elem(), reflect.ValueOf(next).Elem(), strings.Split(path, ".")) {
			differ = append(differ, path)
		}
	}
	return differ
}

// keep copies one setting and reports whether it differed.
func keep(from, to reflect.Value, path []string) bool {
	if len(path) == 0 {
		differs := !reflect.DeepEqual(from.Interface(), to.Interface())
		to.Set(from)
		return differs
	}
	if from.Kind() == reflect.Pointer {
		if from.IsNil() || to.IsNil() {
			return false // another kind altogether, which Validate judges
		}
		// The tree of the caller stays as it is.
		clone := reflect.New(to.Type().Elem())
		clone.Elem().Set(to.Elem())
		to.Set(clone)
		from, to = from.Elem(), to.Elem()
	}
	for i := range from.NumField() {
		if name, ok := settingName(from.Type().Field(i)); ok && name == path[0] {
			return keep(from.Field(i), to.Field(i), path[1:])
		}
	}
	panic("no setting " + strings.Join(path, "."))
}

// keepManaged leaves the folders of managed credentials where they are that
// moved with the state folder: nobody chose them.
func keepManaged(stateDir string, next *Config) {
	if next.StateDir == stateDir {
		return
	}
	next.Tenants = slices.Clone(next.Tenants) // the tree of the caller stays as it is
	for i := range next.Tenants {
		t := &next.Tenants[i]
		if m := t.Credential.Managed; m != nil && m.Folder == managedFolder(next.StateDir, t.Name) {
			stays := *m
			stays.Folder = managedFolder(stateDir, t.Name)
			t.Credential.Managed = &stays
		}
	}
}

// managedFolder is where a managed credential is unless the file says so.
func managedFolder(stateDir, tenant string) string { return filepath.Join(stateDir, "entra", tenant) }
