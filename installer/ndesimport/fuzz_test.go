package ndesimport

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzReg reads what a stranger could have left in an export. Whatever it
// holds, every value of its MSCEP key is in the findings, and the endpoint is
// lines of text in which nothing foreign begins one.
func FuzzReg(f *testing.F) {
	text, err := os.ReadFile(filepath.Join("testdata", "server.reg"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(wide(strings.ReplaceAll(string(text), "\n", "\r\n")))
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, err := Parse(b)
		if err != nil {
			return
		}
		r, err := Import(tree, Options{CA: "embedded", Tenant: "contoso"})
		if err != nil {
			return
		}
		said := map[string]bool{}
		for _, f := range r.Findings {
			said[f.Value] = true
			if f.Why == "" || order[f.Kind] == 0 && f.Kind != Manual {
				t.Errorf("finding without a reason or a kind: %+v", f)
			}
		}
		for _, k := range tree.Keys {
			_, below, ok := cutMSCEP(k.Path)
			for _, v := range k.Values {
				path := strings.TrimPrefix(below+`\`+v.label(), `\`)
				if ok && !said[path] && !said[k.Path+`\`+v.label()] {
					t.Errorf("nothing is said of %q", path)
				}
			}
		}
		if !utf8.ValidString(r.YAML) || strings.Count(r.YAML, "\nendpoints:") != 1 {
			t.Errorf("the endpoint is no text: %q", r.YAML)
		}
		for line := range strings.Lines(r.YAML) {
			first := strings.TrimLeft(line, " -")
			if key, _, _ := strings.Cut(first, ":"); first != "\n" && first[0] != '#' && strings.Trim(key, "abcdefghijklmnopqrstuvwxyz_13") != "" {
				t.Errorf("a line begins with something foreign: %q", line)
			}
		}
	})
}
