//go:build e2ewindows

package winetest_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/installer/windows/winetest"
)

// TestWindows shows that a program made by Go runs in a prefix, and that its
// service manager survives a reboot.
func TestWindows(t *testing.T) {
	w := winetest.New(t)
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod": "module example.org/probe\n",
		"probe_test.go": `package probe
import ("crypto/rand"; "os"; "path/filepath"; "runtime"; "testing")
func TestProbe(t *testing.T) {
	if err := os.MkdirAll(filepath.Join(t.TempDir(), "a", "b"), 0o700); err != nil { t.Fatal(err) }
	t.Log(runtime.GOOS, rand.Text())
}
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := w.GoTest(t, dir, "-count", "1", "-v", "./..."); err != nil || !strings.Contains(out, "PASS: TestProbe") {
		t.Errorf("a test made by Go: %v\n%s", err, out)
	}
	w.Reboot(t)
	if out, err := w.Run("reg", "query", `HKLM\SYSTEM\CurrentControlSet\Services`); err != nil {
		t.Errorf("the registry after a reboot: %v\n%s", err, out)
	}
	if got := w.Path(w.Drive("ProgramData", "x")); got != `C:\ProgramData\x` {
		t.Errorf("a path below C: is %s", got)
	}
}
