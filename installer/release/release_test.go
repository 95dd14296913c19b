package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var when = time.Date(2026, 1, 31, 12, 30, 0, 0, time.UTC)

func TestPackageVersion(t *testing.T) {
	for _, c := range []struct{ what, describe, want string }{
		{"a release", "v1.2.3", "1.2.3"},
		{"a release without the letter", "1.2.3", "1.2.3"},
		{"a candidate sorts before its release", "v1.2.3-rc.1", "1.2.3~rc.1"},
		{"a commit after a release sorts behind it", "v1.2.3-5-g95db447", "1.2.3+5.g95db447"},
		{"a commit after a candidate", "v1.2.3-rc.1-5-g95db447", "1.2.3~rc.1+5.g95db447"},
		{"a tree that was edited", "v1.2.3-dirty", "1.2.3+dirty"},
		{"no tag: before all releases, by time", "95db447", "0.0.0~git20260131.123000.95db447"},
		{"no tag, and edited", "95db447-dirty", "0.0.0~git20260131.123000.95db447.dirty"},
	} {
		if got := packageVersion(c.describe, when); got != c.want {
			t.Errorf("%s: %q", c.what, got)
		}
	}
}

func TestArchivesCarryNothingOfTheMachine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(file, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	list := []entry{{"x/program", file, 0o755}, {"x/text", file, 0o644}}
	for name, pack := range map[string]func(io.Writer, []entry, time.Time) error{"tar": packTar, "zip": packZip} {
		var first, second bytes.Buffer
		if err := pack(&first, list, when); err != nil {
			t.Fatal(err)
		}
		later := time.Now().Add(time.Hour)
		if err := os.Chtimes(file, later, later); err != nil {
			t.Fatal(err)
		}
		if err := pack(&second, list, when); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(first.Bytes(), second.Bytes()) {
			t.Errorf("%s: other bytes for the same content", name)
		}
		if name == "tar" {
			readTar(t, &first)
		} else {
			readZip(t, first.Bytes())
		}
	}
}

func readTar(t *testing.T, b io.Reader) {
	t.Helper()
	z, err := gzip.NewReader(b)
	if err != nil {
		t.Fatal(err)
	}
	h, err := tar.NewReader(z).Next()
	if err != nil || h.Name != "x/program" || h.Mode != 0o755 || !h.ModTime.Equal(when) || h.Uid != 0 || h.Uname != "" {
		t.Errorf("%+v, %v", h, err)
	}
}

func readZip(t *testing.T, b []byte) {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
	if err != nil || len(z.File) != 2 {
		t.Fatalf("%+v, %v", z, err)
	}
	if f := z.File[0]; f.Name != "x/program" || !f.Modified.Equal(when) {
		t.Errorf("%+v", f.FileHeader)
	}
}

func TestBillOfMaterials(t *testing.T) {
	b, err := billOfMaterials("example.org/program", "v1.2.3", "go1.26.8", []module{{"example.org/used", "v0.1.0"}}, when)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Format     string `json:"bomFormat"`
		Components []struct{ Name, Version, Purl string }
		Metadata   struct{ Timestamp string }
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if got.Format != "CycloneDX" || got.Metadata.Timestamp != "2026-01-31T12:30:00Z" || len(got.Components) != 2 {
		t.Fatalf("got %s", b)
	}
	if c := got.Components[0]; c.Name != "std" || c.Version != "1.26.8" {
		t.Errorf("the standard library is %+v", c)
	}
	if c := got.Components[1]; c.Purl != "pkg:golang/example.org/used@v0.1.0" {
		t.Errorf("the module is %+v", c)
	}
}

func TestLicences(t *testing.T) {
	dir := t.TempDir()
	var text bytes.Buffer
	if err := addTerms(&text, "example.org/used v0.1.0", dir); err == nil {
		t.Error("a module without a licence was passed on")
	}
	for _, name := range []string{"LICENSE.txt", "NOTICE", "licensed.go"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("terms of "+name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := addTerms(&text, "example.org/used v0.1.0", dir); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"example.org/used v0.1.0: LICENSE.txt", "terms of NOTICE"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("%q is not in it", want)
		}
	}
	if strings.Contains(text.String(), "licensed.go") {
		t.Error("a source file was taken for a licence")
	}
}
