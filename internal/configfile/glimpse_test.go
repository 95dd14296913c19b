package configfile_test

import (
	"maps"
	"os"
	"path/filepath"
	"testing"

	"github.com/certconnector/certconnector/internal/configfile"
)

func TestGlimpseReadsWhatItCan(t *testing.T) {
	for _, row := range []struct {
		name, text string
		want       map[string]string
	}{
		{"a file with a key that nobody knows", "state_dir: a\nnonsense: 1\ncontrol: {socket: b}\n", map[string]string{"state_dir": "a", "control.socket": "b"}},
		{"a file that ends in the middle", "state_dir: a\ncontrol:\n  socket: b\nlisteners:\n  - {name: x\n", map[string]string{"state_dir": "a", "control.socket": "b"}},
		{"a file broken at its beginning", "}state_dir: a\n", map[string]string{}},
		{"a value of another kind", "state_dir: [a]\ncontrol: 3\n", map[string]string{}},
		{"nothing", "", map[string]string{}},
	} {
		t.Run(row.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "c.yaml")
			if err := os.WriteFile(path, []byte(row.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := configfile.Glimpse(path, "state_dir", "control.socket"); !maps.Equal(got, row.want) {
				t.Errorf("got %v", got)
			}
		})
	}
	if got := configfile.Glimpse(filepath.Join(t.TempDir(), "none"), "state_dir"); len(got) > 0 {
		t.Errorf("of no file: %v", got)
	}
}
