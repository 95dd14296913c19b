package ndesimport

import (
	"fmt"
	"strings"
)

// Tree is what an export would leave in an empty registry, and what it
// removes on the way.
type Tree struct {
	Keys    []*Key    // in the order in which they are first named
	Removed []Removed // deletions and values that are named twice

	index map[string]*Key
}

// Key is a key of the registry.
type Key struct {
	Path   string // as HKEY_LOCAL_MACHINE\SOFTWARE\…
	Values []Value

	index map[string]int
}

// Removed is a value or key that the file itself takes back.
type Removed struct {
	Path string
	Was  string // what a value was, "" when it was not there
	Why  string
}

func (t *Tree) key(path string) *Key {
	at := strings.ToLower(path)
	k := t.index[at]
	if k == nil {
		k = &Key{Path: path, index: map[string]int{}}
		t.index[at] = k
		t.Keys = append(t.Keys, k)
	}
	return k
}

func (t *Tree) remove(r Removed) error {
	t.Removed = append(t.Removed, r)
	if len(t.Removed) > maxRemovals {
		return fmt.Errorf("the file deletes or repeats more than %d keys and values: regedit writes no such export", maxRemovals)
	}
	return nil
}

func (t *Tree) removeKey(path string) error {
	kept := t.Keys[:0]
	for _, k := range t.Keys {
		rest, below := cutFold(k.Path, path)
		if !below || rest != "" && rest[0] != '\\' {
			kept = append(kept, k)
			continue
		}
		delete(t.index, strings.ToLower(k.Path))
		for _, v := range k.Values {
			if v.gone {
				continue
			}
			if err := t.remove(Removed{k.Path + `\` + v.label(), v.String(), "the file deletes the key afterwards"}); err != nil {
				return err
			}
		}
	}
	t.Keys = kept
	return t.remove(Removed{Path: path, Why: "the file deletes the key"})
}

func cutFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return s, false
	}
	return s[len(prefix):], true
}

// put sets a value, or takes it away.
func (t *Tree) put(k *Key, v Value, removed bool) error {
	at := strings.ToLower(v.Name)
	i, there := k.index[at]
	r := Removed{Path: k.Path + `\` + v.label(), Why: "the file deletes the value"}
	if there {
		r.Was = k.Values[i].String()
		if !removed {
			r.Why = "the file names the value again; the later one counts"
		}
		k.Values[i].gone = true
		delete(k.index, at)
	}
	if !removed {
		k.index[at] = len(k.Values)
		k.Values = append(k.Values, v)
	}
	if there || removed {
		return t.remove(r)
	}
	return nil
}

// compact drops values that are gone.
func (t *Tree) compact() {
	for _, k := range t.Keys {
		kept := k.Values[:0]
		for _, v := range k.Values {
			if !v.gone {
				kept = append(kept, v)
			}
		}
		k.Values, k.index = kept, nil
	}
}
