package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/installer/firstrun"
)

func TestPackageFolders(t *testing.T) {
	base := t.TempDir()
	file, state := filepath.Join(base, "etc", "certconnector.yaml"), filepath.Join(base, "var")
	if err := os.Mkdir(filepath.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	if c, s := packageFolders(file, state); c != "" || s != "" {
		t.Errorf("without a state folder: %q, %q", c, s)
	}
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if c, s := packageFolders(file, state); c != filepath.Dir(file) || s != state {
		t.Errorf("got %q, %q", c, s)
	}
}

func TestStartCommand(t *testing.T) {
	packaged := firstrun.Result{Account: "certconnector", ConfigFile: agent.DefaultConfigPath()}
	const both = "systemctl enable --now certconnector.socket certconnector.service"
	for _, c := range []struct {
		what   string
		result firstrun.Result
		listen string
		plain  bool
		want   string
	}{
		{"a folder of one's own", firstrun.Result{ConfigFile: "/x/certconnector.yaml"}, "", false, "certconnector run --config /x"},
		{"the package's, on 443", packaged, "", false, both},
		{"the package's, on a port that needs no right", packaged, ":8443", false, "systemctl enable --now certconnector.service"},
		{"the package's, on another port below 1024", packaged, "", true, both + "\n   (first set ListenStream= to 80: systemctl edit certconnector.socket)"},
		{"the package's, on one address", packaged, "192.0.2.1:443", false, both + "\n   (first set ListenStream= to 192.0.2.1:443: systemctl edit certconnector.socket)"},
	} {
		if got := startCommand("linux", c.result, c.listen, c.plain, "--config /x"); got != c.want {
			t.Errorf("%s: %q", c.what, strings.TrimSpace(got))
		}
	}
	if got := startCommand("windows", packaged, "", false, ""); !strings.HasPrefix(got, "certconnector service start") {
		t.Errorf("on Windows: %q", got)
	}
}
