// Package ndesimport turns a registry export of Microsoft's NDES into an
// endpoint of this program's configuration, and says of every value what
// became of it. It changes nothing and asks nobody: what it returns is a
// text and a list.
//
// What NDES leaves open and this program refuses (certificates without a
// challenge, one password for all, SHA-1) is never taken over; the list says
// so. The values are those of HKLM\SOFTWARE\Microsoft\Cryptography\MSCEP, as
// Microsoft Learn and published exports show them.
package ndesimport

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Kind says what became of a value.
type Kind string

// What can become of a value, the one that needs a person first.
const (
	Manual  Kind = "manual"  // nothing can be written without a person
	Changed Kind = "changed" // taken over with another content
	Kept    Kind = "kept"    // taken over
	Dropped Kind = "dropped" // has no counterpart
)

var order = map[Kind]int{Manual: 0, Changed: 1, Dropped: 2, Kept: 3}

// Finding is one line of the report.
type Finding struct {
	Kind   Kind   `json:"kind"`
	Value  string `json:"value"`  // below MSCEP, or a whole path outside it
	Was    string `json:"was"`    // never a secret
	Became string `json:"became"` // the key and what it says, or ""
	Why    string `json:"why"`

	// NeedsPerson: somebody has to decide or to look before devices come.
	NeedsPerson bool `json:"needs_person"`
}

// Options are what an export cannot say.
type Options struct {
	Endpoint string // name of the endpoint; default "ndes"
	CA       string // name in cas of the CA that issues; default: left to fill in
	Tenant   string // name in tenants, where Intune decides; default: left to fill in
}

// Result is what an import makes.
type Result struct {
	// YAML is the endpoint for certconnector.yaml, with comments. What a person
	// has to fill in is missing or says FILL-IN, so that the program refuses to
	// start before that was done.
	YAML     string    `json:"yaml"`
	Findings []Finding `json:"findings"`
}

// NeedsPerson reports whether any finding does.
func (r Result) NeedsPerson() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.NeedsPerson })
}

// fillIn stands where only a person knows the value. It is no valid name.
const fillIn = "FILL-IN"

// Import makes an endpoint of an export. Every value of the tree is in the
// findings. An error means that the tree has no MSCEP key, or more than one
// that could count.
func Import(t *Tree, o Options) (Result, error) {
	if o.Endpoint == "" {
		o.Endpoint = "ndes"
	}
	for flag, name := range map[string]string{"an endpoint": o.Endpoint, "a CA": o.CA, "a tenant": o.Tenant} {
		if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" || len(name) > 64 {
			return Result{}, fmt.Errorf("%.80q is no name for %s; use 1 to 64 of a-z, 0-9, '-' and '_'", name, flag)
		}
	}
	im := &importer{o: o, by: map[string]*setting{}, e: newEndpoint(o)}
	if err := im.collect(t); err != nil {
		return Result{}, err
	}
	im.module()
	im.templates()
	im.authority()
	im.challenges()
	im.replies()
	im.store()
	im.rest(t)
	slices.SortStableFunc(im.findings, func(a, b Finding) int { return cmp.Compare(order[a.Kind], order[b.Kind]) })
	return Result{YAML: im.e.yaml(), Findings: im.findings}, nil
}

// setting is a value below the MSCEP key.
type setting struct {
	path  string // as EnforcePassword\EnforcePassword
	value Value
	taken bool
}

type importer struct {
	o        Options
	settings []*setting
	by       map[string]*setting // by lower-case path
	findings []Finding
	e        *endpoint
}

// get returns a setting and marks it as dealt with; nil when it is not there.
func (im *importer) get(path string) *setting {
	s := im.by[strings.ToLower(path)]
	if s != nil {
		s.taken = true
	}
	return s
}

func (im *importer) add(f Finding) { im.findings = append(im.findings, f) }

// say reports about a setting. A manual finding needs a person.
func (im *importer) say(k Kind, s *setting, became, why string) {
	im.add(Finding{Kind: k, Value: s.path, Was: shorten(s.value.String()), Became: became, Why: why, NeedsPerson: k == Manual})
}

// text returns a setting's text. ok: it is there and is one; what is there
// and is none is reported.
func (im *importer) text(path string) (s *setting, text string, ok bool) {
	s = im.get(path)
	switch {
	case s == nil:
		return nil, "", false
	case !s.value.isText():
		im.say(Manual, s, "", "is no text (REG_SZ), so NDES could not use it either; look at the server")
		return s, "", false
	}
	return s, strings.TrimSpace(s.value.Text), true
}

// number is text for a number.
func (im *importer) number(path string) (s *setting, n uint64, ok bool) {
	s = im.get(path)
	switch {
	case s == nil:
		return nil, 0, false
	case !s.value.isNumber():
		im.say(Manual, s, "", "is no number (REG_DWORD), so NDES could not use it either; look at the server")
		return s, 0, false
	}
	return s, s.value.Number, true
}

// rest reports what nobody asked for, and what the file itself took back.
func (im *importer) rest(t *Tree) {
	for _, s := range im.settings {
		if s.taken {
			continue
		}
		f := Finding{Kind: Dropped, Value: s.path, Was: shorten(s.value.String()), Why: "unknown: no documented value of NDES; look what it was for", NeedsPerson: true}
		if s.value.Name == "" && s.value.isText() && s.value.Text == "" {
			f.Why, f.NeedsPerson = "an empty default value says nothing", false
		}
		im.add(f)
	}
	for _, r := range t.Removed {
		im.add(Finding{Kind: Dropped, Value: r.Path, Was: shorten(r.Was), Why: r.Why, NeedsPerson: true})
	}
}

// shorten keeps a report readable.
func shorten(s string) string {
	if r := []rune(s); len(r) > 200 {
		return string(r[:200]) + "…"
	}
	return s
}
