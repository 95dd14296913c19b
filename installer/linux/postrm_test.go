//go:build unix

package linux_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestAPurgeLeavesALiveInstallation: the package was removed, which keeps keys
// and journal, and "certconnector service install" has made a service of an
// archive's program on them. A later purge of the package's remains is not its end.
func TestAPurgeLeavesALiveInstallation(t *testing.T) {
	script, err := filepath.Abs("postrm")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name, action string
		live, delete bool
	}{
		{"a removal keeps all", "remove", false, false},
		{"a purge deletes", "purge", false, true},
		{"a purge below a service of its own unit", "purge", true, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			root := t.TempDir()
			tools := filepath.Join(root, "tools")
			log := filepath.Join(root, "log")
			for name, text := range map[string]string{ // nothing else is on the path: nothing real is removed
				"tools/rm":        "#!/bin/sh\necho \"rm $*\" >>'" + log + "'\n",
				"tools/systemctl": "#!/bin/sh\n",
			} {
				put(t, filepath.Join(root, name), text)
			}
			if row.live {
				put(t, filepath.Join(root, "etc/systemd/system/certconnector.service"), "[Service]\n")
			}
			c := exec.CommandContext(t.Context(), "/bin/sh", script, row.action)
			c.Env = []string{"PATH=" + tools, "DPKG_ROOT=" + root}
			out, err := c.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			removed, err := os.ReadFile(log)
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			if got := strings.Contains(string(removed), "/var/lib/certconnector"); got != row.delete {
				t.Errorf("what it removes: %q", removed)
			}
			if row.live && !strings.Contains(string(out), "/var/lib/certconnector") {
				t.Errorf("it does not tell what stays: %q", out)
			}
		})
	}
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}
