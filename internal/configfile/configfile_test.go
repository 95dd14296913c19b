package configfile_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/certconnector/certconnector/internal/configfile"
)

type tree struct {
	Name    string        `yaml:"name"`
	Wait    time.Duration `yaml:"wait"`
	Size    int           `yaml:"size"`
	On      bool          `yaml:"on"`
	Tags    []string      `yaml:"tags"`
	Items   []item        `yaml:"items"`
	Section *section      `yaml:"section"`
	Inner   section       `yaml:"inner"`
}

type item struct {
	Name   string        `yaml:"name"`
	Wait   time.Duration `yaml:"wait"`
	Secret *ref          `yaml:"secret"`
	Nested *section      `yaml:"nested"`
}

type ref struct {
	File string `yaml:"file" path:"true"`
	Env  string `yaml:"env"`
}

type section struct {
	Path string `yaml:"path" path:"true"`
	Deep deep   `yaml:"deep"`
}

type deep struct {
	Level int `yaml:"level"`
}

func (t *tree) SetDefaults() {
	*t = tree{Name: "default", Wait: time.Second, Size: 3, Tags: []string{"a", "b"}}
}

func (i *item) SetDefaults()    { *i = item{Wait: 25 * time.Second} }
func (s *section) SetDefaults() { *s = section{Deep: deep{Level: 7}} }

func parse(t *testing.T, text string, environ ...string) (tree, error) {
	t.Helper()
	var got tree
	err := configfile.Parse([]byte(text), environ, &got)
	return got, err
}

func TestParse(t *testing.T) {
	base := tree{}
	base.SetDefaults()
	for _, row := range []struct {
		name    string
		text    string
		environ []string
		want    func(*tree)
	}{
		{"an empty file is all defaults", "", nil, func(*tree) {}},
		{"a comment is an empty file", "# nothing\n", nil, func(*tree) {}},
		{"an empty value is the default", "name:\nsize:\n", nil, func(*tree) {}},
		{"values replace defaults", "name: x\nwait: 50m\nsize: 0\non: true\ntags: [c]", nil, func(w *tree) {
			w.Name, w.Wait, w.Size, w.On, w.Tags = "x", 50*time.Minute, 0, true, []string{"c"}
		}},
		{"an empty list replaces a default list", "tags: []", nil, func(w *tree) { w.Tags = []string{} }},
		{"list elements have defaults of their own", "items: [{name: A}, {wait: 1s, nested: {}}]", nil, func(w *tree) {
			w.Items = []item{{Name: "A", Wait: 25 * time.Second}, {Wait: time.Second, Nested: &section{Deep: deep{Level: 7}}}}
		}},
		{"an empty section is present", "section: {}", nil, func(w *tree) { w.Section = &section{Deep: deep{Level: 7}} }},
		{"a section keeps the defaults of other keys", "section: {path: p}", nil, func(w *tree) {
			w.Section = &section{Path: "p", Deep: deep{Level: 7}}
		}},
		{"capitals in values stay", "items: [{name: CaseMatters, secret: {env: MY_Secret}}]", nil, func(w *tree) {
			w.Items = []item{{Name: "CaseMatters", Wait: 25 * time.Second, Secret: &ref{Env: "MY_Secret"}}}
		}},
		{"the environment overrides the file", "name: x\nsection: {path: p}",
			[]string{"CERTCONNECTOR_NAME=Y", "CERTCONNECTOR_SECTION__DEEP__LEVEL=9", "CERTCONNECTOR_WAIT=3s", "CERTCONNECTOR_ON=true", "OTHER=1"},
			func(w *tree) {
				w.Name, w.Wait, w.On, w.Section = "Y", 3*time.Second, true, &section{Path: "p", Deep: deep{Level: 9}}
			}},
		{"the environment sets keys that the file does not have", "", []string{"CERTCONNECTOR_INNER__PATH=/p"}, func(w *tree) {
			w.Inner = section{Path: "/p", Deep: deep{Level: 7}}
		}},
		{"the place of a secret is no override", "items: [{secret: {env: CERTCONNECTOR_PIN}}]", []string{"CERTCONNECTOR_PIN=1"}, func(w *tree) {
			w.Items = []item{{Wait: 25 * time.Second, Secret: &ref{Env: "CERTCONNECTOR_PIN"}}}
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			want := base
			want.Tags = []string{"a", "b"}
			row.want(&want)
			got, err := parse(t, row.text, row.environ...)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, %v\nwant %+v", got, err, want)
			}
		})
	}
}

func TestMistakes(t *testing.T) {
	for _, row := range []struct {
		name, text, environ, want string
	}{
		{"unknown key", "nmae: x", "", "nmae: is unknown; did you mean name? (line 1)"},
		{"unknown key that resembles none", "colour: red", "", "colour: is unknown; known keys are name, wait"},
		{"unknown key in a list element", "items:\n- name: a\n- adress: b", "", "items[1].adress: is unknown"},
		{"keys are lower case", "Name: x", "", "Name: is unknown; did you mean name?"},
		{"a key twice", "name: x\nsize: 1\nname: y", "", "name: is given twice, first in line 1 (line 3)"},
		{"a number for a text", "name: 0123", "", "name: is not read as text; put it in quotes"},
		{"a text for a number", "size: many", "", "size: is no whole number"},
		{"a number that is too large", "size: 99999999999999999999", "", "size: is no whole number"},
		{"yes for true", "on: yes", "", "on: is neither true nor false"},
		{"a number for a duration", "wait: 25", "", "wait: is no duration; want one as 25s"},
		{"a duration in days", "wait: 7d", "", "wait: is no duration"},
		{"one value for a list", "tags: a", "", "tags: is no list"},
		{"a list for a value", "name: [a]", "", "name: is no text"},
		{"a list for a section", "section: [a]", "", "section: is no section; want keys out of path, deep"},
		{"an empty section", "section:", "", "section: is empty; write {} for all defaults"},
		{"an empty list element", "items:\n-\n", "", "items[0]: is empty"},
		{"a secret in the file", "items: [{secret: hunter2}]", "", "items[0].secret: is no section; want keys out of file, env"},
		{"an anchor", "inner: &a {path: p}\nsection: *a", "", "section: uses a YAML anchor"},
		{"two documents", "name: x\n---\nname: y", "", "more than one document"},
		{"no YAML", "name: [", "", "is no YAML"},
		{"the root is a list", "- a", "", "is no section; want keys out of name"},
		{"an environment variable of no key", "", "CERTCONNECTOR_NMAE=x", "environment variable CERTCONNECTOR_NMAE: overrides no key; did you mean CERTCONNECTOR_NAME?"},
		{"an environment variable for a list", "", "CERTCONNECTOR_TAGS=x", "CERTCONNECTOR_TAGS: overrides no key"},
		{"an environment variable of a wrong type", "", "CERTCONNECTOR_SIZE=x", "CERTCONNECTOR_SIZE: is no whole number"},
	} {
		t.Run(row.name, func(t *testing.T) {
			var environ []string
			if row.environ != "" {
				environ = []string{row.environ}
			}
			_, err := parse(t, row.text, environ...)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got  %v\nwant %s", err, row.want)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Error("the message repeats a secret")
			}
		})
	}
}

func TestAllMistakesAtOnce(t *testing.T) {
	_, err := parse(t, "nmae: x\nwait: 7d\nitems: [{wait: 1}, {name: [x]}]\n", "CERTCONNECTOR_ON=1")
	list, ok := err.(configfile.Mistakes)
	if !ok || len(list) != 5 {
		t.Errorf("got %d mistakes, want 5:\n%v", len(list), err)
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.yaml")
	if err := configfile.Load(path, &tree{}); !os.IsNotExist(err) {
		t.Errorf("missing file: %v", err)
	}
	absolute := filepath.Join(t.TempDir(), "abs")
	text := "name: x\nitems: [{secret: {file: s}}]\nsection: {path: '" + absolute + "'}"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var got tree
	if err := configfile.Load(path, &got); err != nil {
		t.Fatal(err)
	}
	configfile.ResolvePaths(&got, filepath.FromSlash("/etc/x"))
	if got.Items[0].Secret.File != filepath.FromSlash("/etc/x/s") || got.Section.Path != absolute || got.Inner.Path != "" {
		t.Errorf("paths became %q, %q, %q", got.Items[0].Secret.File, got.Section.Path, got.Inner.Path)
	}
}

func TestSchema(t *testing.T) {
	source := "package x\n// T.\ntype tree struct {\n\t// How long to\n\t// wait.\n\tWait int\n}\n"
	var d tree
	d.SetDefaults()
	b, err := configfile.Schema("test", d, fstest.MapFS{"x.go": {Data: []byte(source)}})
	if err != nil {
		t.Fatal(err)
	}
	var s struct {
		Schema     string `json:"$schema"`
		Additional bool   `json:"additionalProperties"`
		Properties map[string]struct {
			Type, Description string
			Default           any
			Items             struct {
				Properties map[string]struct{ Default any }
			}
		}
	}
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	wait := s.Properties["wait"]
	if wait.Type != "string" || wait.Default != "1s" || wait.Description != "How long to wait." {
		t.Errorf("wait is described as %+v", wait)
	}
	if got := s.Properties["items"].Items.Properties["wait"].Default; got != "25s" {
		t.Errorf("default in a list element is %v", got)
	}
	if !strings.Contains(s.Schema, "2020-12") || len(s.Properties) != 8 {
		t.Errorf("schema:\n%s", b)
	}
}

func FuzzConfig(f *testing.F) {
	f.Add("name: x\nitems: [{secret: {file: s}}]", "CERTCONNECTOR_SIZE=4")
	f.Add("section: {}\ntags: [a", "CERTCONNECTOR_ON=true")
	f.Add("a: &a [*a]\n<<: *a", "")
	f.Fuzz(func(t *testing.T, text, variable string) {
		var got tree
		if err := configfile.Parse([]byte(text), []string{variable}, &got); err == nil {
			// What is accepted is accepted again, with the same meaning.
			var again tree
			if err := configfile.Parse([]byte(text), []string{variable}, &again); err != nil || !reflect.DeepEqual(got, again) {
				t.Errorf("second reading differs: %v", err)
			}
		} else if _, ok := err.(configfile.Mistakes); !ok {
			t.Errorf("%T is no list of mistakes: %v", err, err)
		}
	})
}
