package agent_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/certconnector/certconnector/agent"
)

// What a service that cannot start leaves for whoever asks why is in its state
// folder, which must be found although the configuration is wrong.
func TestTheStateFolderOfAWrongConfiguration(t *testing.T) {
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	for name, row := range map[string]struct{ text, want string }{
		"in order":               {"state_dir: state\n", state},
		"a key that is unknown":  {"state_dir: state\nno_such_key: 1\n", state},
		"no YAML further down":   {"state_dir: state\nlisteners: [\n", state},
		"nothing names a folder": {"no_such_key: 1\n", agent.DefaultStateDir()},
		"no YAML at all":         {"[", agent.DefaultStateDir()},
	} {
		file := filepath.Join(dir, "certconnector.yaml")
		if err := os.WriteFile(file, []byte(row.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := agent.StateDir(file); got != row.want {
			t.Errorf("%s: got %q, want %q", name, got, row.want)
		}
	}
}
