package agent_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/internal/configfile"
)

func TestSamplesLoad(t *testing.T) {
	for _, row := range []struct {
		file     string
		warnings int
	}{
		{"certconnector.yaml", 0},
		{"certconnector.full.yaml", 4}, // a client secret, a static challenge, NTLM twice
		{"laboratory.yaml", 2},         // two static challenges; plain HTTP on loopback is none
	} {
		t.Run(row.file, func(t *testing.T) {
			c, err := agent.LoadConfig("../configs/" + row.file)
			if err != nil {
				t.Fatal(err)
			}
			if w := c.Warnings(); len(w) != row.warnings {
				t.Errorf("warnings: %q", w)
			}
		})
	}
}

// Each file has one mistake and is named after it; its first lines say what
// the operator is told.
func TestBadFiles(t *testing.T) {
	if _, err := agent.LoadConfig("testdata/config/good.yaml"); err != nil {
		t.Fatalf("the file that the bad ones differ from: %v", err)
	}
	files, err := filepath.Glob("testdata/config/bad/*.yaml")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for line := range strings.Lines(string(text)) {
				if w, ok := strings.CutPrefix(line, "# want: "); ok {
					want = append(want, strings.TrimSpace(w))
				}
			}
			_, err = agent.LoadConfig(file)
			got, ok := errors.AsType[configfile.Mistakes](err)
			if !ok {
				t.Fatalf("got %v, want a list of mistakes", err)
			}
			for _, w := range want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("got  %v\nwant %s", err, w)
				}
			}
			if len(want) == 1 && len(got) > 3 {
				t.Errorf("one mistake is told as %d:\n%v", len(got), err)
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Error("a secret is repeated")
			}
		})
	}
}

func TestPathsStartAtTheFilesFolder(t *testing.T) {
	c, err := agent.LoadConfig("testdata/config/good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	folder, err := filepath.Abs("testdata/config")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ name, got, want string }{
		{"a path in the file", c.CAs[0].Embedded.Key, filepath.Join(folder, "ca.key")},
		{"the journal, from state_dir", c.Journal.SQLite.Path, filepath.Join(agent.DefaultStateDir(), "journal.db")},
		{"the local key, from state_dir", c.Secrets.LocalKey, filepath.Join(agent.DefaultStateDir(), "local.key")},
		{"the socket, from state_dir", c.Control.Socket, filepath.Join(agent.DefaultStateDir(), "control.sock")},
		{"a log on standard error", c.Log.File, ""},
	} {
		if row.got != row.want {
			t.Errorf("%s: %q, want %q", row.name, row.got, row.want)
		}
	}
}

func TestEnvironmentOverrides(t *testing.T) {
	t.Setenv("CERTCONNECTOR_JOURNAL__SQLITE__PATH", "elsewhere.db")
	t.Setenv("CERTCONNECTOR_SHUTDOWN_GRACE", "3s")
	c, err := agent.LoadConfig("testdata/config/good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Base(c.Journal.SQLite.Path) != "elsewhere.db" || c.ShutdownGrace != 3*time.Second {
		t.Errorf("got %q, %s", c.Journal.SQLite.Path, c.ShutdownGrace)
	}
}

func TestUnsafeChoicesAreNamed(t *testing.T) {
	c, err := agent.LoadConfig("testdata/config/good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if w := c.Warnings(); len(w) != 0 {
		t.Fatalf("a safe configuration warns: %q", w)
	}
	c.Listeners[0].PlainHTTP, c.Listeners[0].Faces = true, []string{agent.FaceSCEP, agent.FaceStatus}
	c.Tenants[0].Credential = agent.Credential{Secret: &agent.SecretRef{Env: "S"}}
	c.Tenants[0].Cloud = "custom"
	c.Endpoints[0].Algorithms.LegacySHA1 = true
	c.Endpoints[0].Renewal = agent.Renewal{Grace: time.Hour}
	got := strings.Join(c.Warnings(), "\n")
	for _, want := range []string{"plain_http", "faces", "credential.secret", "tenants[0].cloud", "legacy_sha1", "grace"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not named in:\n%s", want, got)
		}
	}
}

// A proxy on this machine makes of a loopback address one that devices reach,
// and of every account here one that may write its headers.
func TestProxiesOfThisMachineAreNamed(t *testing.T) {
	c, err := agent.LoadConfig("testdata/config/good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	l := &c.Listeners[0]
	l.Address, l.Faces = "127.0.0.1:8080", []string{agent.FaceSCEP, agent.FaceStatus}
	if w := c.Warnings(); len(w) != 0 {
		t.Fatalf("nobody reaches it, and yet: %q", w)
	}
	l.TrustedProxies, l.ClientCertificateHeader = []string{"127.0.0.1"}, "X-SSL-Client-Cert"
	got := strings.Join(c.Warnings(), "\n")
	for _, want := range []string{"shows health to devices", "listeners[0].client_certificate_header: whoever has an account on this machine"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is not named in:\n%s", want, got)
		}
	}
	l.TrustedProxies = []string{"192.0.2.1"}
	if w := strings.Join(c.Warnings(), "\n"); strings.Contains(w, "client_certificate_header") {
		t.Errorf("a proxy elsewhere, and yet: %s", w)
	}
}

func TestCloudOfOnesOwn(t *testing.T) {
	c := agent.Defaults()
	c.Tenants = []agent.Tenant{{Cloud: "custom", URLs: agent.TenantURLs{Graph: "https://127.0.0.1:7443/", Resource: "https://sim.example/"}}}
	if err := c.Resolve("."); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(c.Tenants[0].URLs.ServiceHosts, " "); got != "127.0.0.1 sim.example" {
		t.Errorf("tokens may go to %q", got)
	}
}

func TestSecretRef(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Setenv("A_SECRET", "from the environment")
	for _, row := range []struct {
		name string
		ref  agent.SecretRef
		want string // "": an error
	}{
		{"a file", agent.SecretRef{File: write("a", "text")}, "text"},
		{"one line break is not part of it", agent.SecretRef{File: write("b", "text \r\n")}, "text "},
		{"a second one is", agent.SecretRef{File: write("c", "text\n\n")}, "text\n"},
		{"the environment", agent.SecretRef{Env: "A_SECRET"}, "from the environment"},
		{"an empty file", agent.SecretRef{File: write("d", "\n")}, ""},
		{"no file", agent.SecretRef{File: filepath.Join(dir, "none")}, ""},
		{"no variable", agent.SecretRef{Env: "NOT_SET_ANYWHERE"}, ""},
		{"nothing", agent.SecretRef{}, ""},
	} {
		got, err := row.ref.Read()
		if got.Reveal() != row.want || (err == nil) != (row.want != "") {
			t.Errorf("%s: %q, %v", row.name, got.Reveal(), err)
		}
	}
}

func TestCheckFiles(t *testing.T) {
	c, err := agent.LoadConfig("testdata/config/good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, ok := errors.AsType[configfile.Mistakes](c.CheckFiles())
	if !ok || len(got) != 7 { // TLS, credential, CA, two of the RA, local key, journal
		t.Errorf("got %d mistakes:\n%v", len(got), got)
	}
}

func TestDefaultPlaces(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has other places")
	}
	if agent.DefaultConfigPath() != "/etc/certconnector/certconnector.yaml" || agent.DefaultStateDir() != "/var/lib/certconnector" {
		t.Errorf("%s, %s", agent.DefaultConfigPath(), agent.DefaultStateDir())
	}
}

func TestConfigSchema(t *testing.T) {
	s, err := agent.ConfigSchema()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"withhold_for"`, `"default": "50m0s"`, "Unsafe: accept and offer SHA-1"} {
		if !strings.Contains(string(s), want) {
			t.Errorf("%s is not in the schema", want)
		}
	}
}
