package ndesimport

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// mscepKey is where NDES keeps its settings; exports of a hive that was loaded
// elsewhere have other names before it.
var mscepKey = []string{"Microsoft", "Cryptography", "MSCEP"}

// cutMSCEP splits a path behind the MSCEP key.
func cutMSCEP(path string) (root, below string, ok bool) {
	names := strings.Split(path, `\`)
	for i := 0; i+len(mscepKey) <= len(names); i++ {
		if slices.EqualFunc(names[i:i+len(mscepKey)], mscepKey, strings.EqualFold) {
			return strings.Join(names[:i+3], `\`), strings.Join(names[i+3:], `\`), true
		}
	}
	return "", "", false
}

// collect finds the settings. The copy for 32-bit programs (WOW6432Node)
// counts only where there is no other: NDES is a 64-bit program.
func (im *importer) collect(t *Tree) error {
	var native, wow []string
	for _, k := range t.Keys {
		root, _, ok := cutMSCEP(k.Path)
		list := &native
		if strings.Contains(strings.ToLower(root), `\wow6432node\`) {
			list = &wow
		}
		if ok && !slices.ContainsFunc(*list, func(s string) bool { return strings.EqualFold(s, root) }) {
			*list = append(*list, root)
		}
	}
	roots := append(slices.Clone(native), wow...)
	switch {
	case len(roots) == 0:
		return errors.New(`the export has no key Microsoft\Cryptography\MSCEP; on the NDES server: reg export HKLM\SOFTWARE\Microsoft\Cryptography\MSCEP ndes.reg`)
	case len(native) > 1 || len(native) == 0 && len(wow) > 1:
		return fmt.Errorf("the export has the settings of more than one server: %.200q; export one", roots)
	}
	if len(native) == 0 {
		im.add(Finding{Kind: Manual, Value: roots[0], Why: "only the copy for 32-bit programs is in the export, and NDES reads the other; export with the 64-bit regedit", NeedsPerson: true})
	}
	im.split(t, roots[0])
	return nil
}

// split takes the settings below root, and reports all others.
func (im *importer) split(t *Tree, root string) {
	outside := 0
	for _, k := range t.Keys {
		at, below, ok := cutMSCEP(k.Path)
		switch {
		case ok && strings.EqualFold(at, root):
			im.take(below, k.Values)
		case ok:
			for _, v := range k.Values {
				im.add(Finding{Kind: Dropped, Value: k.Path + `\` + v.label(), Was: v.String(),
					Why: "the copy for 32-bit programs; NDES does not read it"})
			}
		default:
			for _, v := range k.Values {
				if outside++; outside <= maxOutside {
					im.add(Finding{Kind: Dropped, Value: k.Path + `\` + v.label(), Was: shorten(v.String()), Why: "is not below the MSCEP key"})
				}
			}
		}
	}
	if outside > maxOutside {
		im.add(Finding{Kind: Dropped, Value: fmt.Sprintf("(%d more values)", outside-maxOutside), Why: "are not below the MSCEP key"})
	}
}

// maxOutside is how many values outside the MSCEP key are listed one by one.
const maxOutside = 20

func (im *importer) take(below string, values []Value) {
	for _, v := range values {
		path := v.label()
		if below != "" {
			path = below + `\` + path
		}
		s := &setting{path: path, value: v}
		im.settings = append(im.settings, s)
		im.by[strings.ToLower(path)] = s
	}
}
