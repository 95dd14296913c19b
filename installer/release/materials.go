package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// module is a Go module that a program is linked with.
type module struct{ path, version string }

// component is one of CycloneDX 1.6, as far as it is used here.
type component struct {
	Type    string `json:"type"`
	Ref     string `json:"bom-ref"`
	Name    string `json:"name"`
	Version string `json:"version"`
	URL     string `json:"purl"`
}

// writeSBOM writes a CycloneDX bill of materials from what the linker noted in
// the program itself, and returns the modules.
func (r *release) writeSBOM(t target) ([]module, error) {
	info, err := buildinfo.ReadFile(r.programFile(t))
	if err != nil {
		return nil, fmt.Errorf("reading what the program is made of: %w", err)
	}
	var modules []module
	for _, d := range info.Deps {
		if d.Replace != nil {
			return nil, fmt.Errorf("%s is replaced: a release is built from published modules", d.Path)
		}
		modules = append(modules, module{d.Path, d.Version})
	}
	b, err := billOfMaterials(info.Main.Path, r.describe, info.GoVersion, modules, r.when)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(r.out, "certconnector-"+r.version+"-"+t.String()+".cdx.json")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		return nil, fmt.Errorf("writing the bill of materials: %w", err)
	}
	return modules, nil
}

func billOfMaterials(name, version, goVersion string, modules []module, when time.Time) ([]byte, error) {
	of := func(kind, path, version string) component {
		url := "pkg:golang/" + path + "@" + version
		return component{Type: kind, Ref: url, Name: path, Version: version, URL: url}
	}
	type depends struct {
		Ref string   `json:"ref"`
		On  []string `json:"dependsOn"`
	}
	type metadata struct {
		Timestamp string    `json:"timestamp"`
		Component component `json:"component"`
	}
	bom := struct {
		Format       string      `json:"bomFormat"`
		Spec         string      `json:"specVersion"`
		Version      int         `json:"version"`
		Metadata     metadata    `json:"metadata"`
		Components   []component `json:"components"`
		Dependencies []depends   `json:"dependencies"`
	}{Format: "CycloneDX", Spec: "1.6", Version: 1}
	main := of("application", name, version)
	bom.Metadata = metadata{when.Format(time.RFC3339), main}
	on := depends{Ref: main.Ref}
	for _, m := range append([]module{{"std", strings.TrimPrefix(goVersion, "go")}}, modules...) {
		c := of("library", m.path, m.version)
		bom.Components = append(bom.Components, c)
		on.On = append(on.On, c.Ref)
	}
	bom.Dependencies = []depends{on}
	b, err := json.MarshalIndent(bom, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("writing the bill of materials: %w", err)
	}
	return append(b, '\n'), nil
}

// terms are the files that a module states its licence in.
var terms = regexp.MustCompile(`(?i)^(un)?(licen[cs]e|copying|notice|patents|copyright)([.-].*)?$`)

// writeLicences collects the licence of every module that a program is linked
// with: most of them want to be passed on.
func (r *release) writeLicences(ctx context.Context, used []module) error {
	slices.SortFunc(used, func(a, b module) int { return strings.Compare(a.path, b.path) })
	used = slices.Compact(used)
	root, err := run(ctx, nil, "go", "env", "GOROOT")
	if err != nil {
		return err
	}
	var text bytes.Buffer
	text.WriteString("certconnector is linked with the following, each under its own terms.\n")
	if err := addTerms(&text, "The Go standard library and runtime", strings.TrimSpace(string(root))); err != nil {
		return err
	}
	args := []string{"list", "-m", "-f", "{{.Path}} {{.Version}}\t{{.Dir}}"}
	for _, m := range used {
		args = append(args, m.path)
	}
	list, err := run(ctx, nil, "go", args...)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(list)) {
		name, dir, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if err := addTerms(&text, name, dir); err != nil {
			return err
		}
	}
	path := filepath.Join(r.stage, "third-party.txt")
	return errors.Join(os.WriteFile(path, text.Bytes(), 0o644), writeGzip(path+".gz", text.Bytes()))
}

// addTerms adds what a module's root folder says; a module that says nothing
// cannot be passed on.
func addTerms(text *bytes.Buffer, name, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("looking for the licence of %s: %w", name, err)
	}
	found := false
	for _, e := range entries {
		if e.IsDir() || !terms.MatchString(e.Name()) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return fmt.Errorf("reading the licence of %s: %w", name, err)
		}
		fmt.Fprintf(text, "\n%s\n%s: %s\n\n%s\n", strings.Repeat("=", 72), name, e.Name(), bytes.TrimSpace(b))
		found = true
	}
	if !found {
		return fmt.Errorf("%s has no licence in its root folder", name)
	}
	return nil
}
