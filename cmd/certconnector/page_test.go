package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// A section of docs/first-run.md, and what a machine for tests needs to run
// its commands.
var firstRunPage = []struct {
	heading string
	init    string            // flags that init gets besides
	before  string            // of the script
	after   map[string]string // what a person, a CA or nobody does after a command that begins so
	fails   map[string]string // commands that cannot succeed here, by their beginning, and what they say
}{
	{
		heading: "A laboratory: embedded CA, one shared challenge",
		init:    "--dir c --listen 127.0.0.1:$PORT --plain-http --ca-key p256",
		after:   map[string]string{"certconnector requests": "stdout 'released +devices +CN=laptop'"},
	},
	{
		heading: "Intune",
		init: "--dir c --listen 127.0.0.1:$PORT --plain-http --ca-key p256 " +
			"--cloud custom --authority-url $AUTHORITY --graph-url $GRAPH --resource-url $RESOURCE --cloud-ca-file roots.pem",
		before: "cloud start roots.pem",
		after: map[string]string{
			"certconnector init":         "cloud upload c/entra/entra.crt.pem",
			"certconnector intune check": "stdout '^in order$'",
			"certconnector export-root":  "exists embedded-root.cer",
		},
	},
	{
		heading: "A Microsoft CA",
		init:    "--dir c --listen 127.0.0.1:$PORT --plain-http",
		before: makeCA("Corp Issuing CA") + "exec openssl crl2pkcs7 -nocrl -certfile ca.pem -out chain.p7b\n" +
			"cp key svc-connector.keytab\nchmod 600 svc-connector.keytab",
		// There is no CA here: both get as far as asking it.
		fails: map[string]string{"certconnector ca check": "stdout '^CA issuing$'", "certconnector ra enroll": "! stderr 'unknown flag'"},
	},
	{
		heading: "A server certificate that devices trust",
		before: "exec certconnector init --dir c --hostname old.corp.example --listen 127.0.0.1:$PORT --policy static --ca-key p256\n" +
			makeCA("Web CA"),
		after: map[string]string{
			"certconnector csr tls --hostname": "exec openssl x509 -req -in c/tls/tls.crt.pem.csr.pem -CA ca.pem -CAkey key -CAcreateserial -out leaf.pem -days 100 -copy_extensions copyall\n" +
				"exec openssl crl2pkcs7 -nocrl -certfile ca.pem -certfile leaf.pem -out answer.p7b",
			"certconnector csr tls --complete": "stdout 'by CN=Web CA'",
		},
	},
}

func makeCA(name string) string {
	return "exec openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out ca.pem -subj '/CN=" + name + "' -days 300 -addext keyUsage=critical,keyCertSign,cRLSign\n"
}

// TestFirstRunPage runs the commands of docs/first-run.md, so that the page
// says what is so.
func TestFirstRunPage(t *testing.T) {
	ordinaryUmask(t)
	page, err := os.ReadFile("../../docs/first-run.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	found := map[string]string{}
	for section := range strings.SplitSeq(string(page), "\n## ") {
		heading, text, _ := strings.Cut(section, "\n")
		if _, commands, ok := strings.Cut(text, "```console\n"); ok {
			found[heading], _, _ = strings.Cut(commands, "```")
		}
	}
	if len(found) != len(firstRunPage) || strings.Count(string(page), "```console") != len(firstRunPage) {
		t.Fatalf("the page has other sections with commands than the test: %d", len(found))
	}
	for i, section := range firstRunPage {
		var script strings.Builder
		fmt.Fprintln(&script, section.before)
		for line := range strings.Lines(found[section.heading]) {
			command, ok := strings.CutPrefix(strings.TrimSpace(line), "# ")
			if !ok {
				t.Fatalf("%s: %q is no command of root", section.heading, line)
			}
			command = strings.TrimPrefix(command, "runuser -u certconnector -- ")
			fmt.Fprintln(&script, here(t, command, section.init, matching(section.fails, command) != ""))
			fmt.Fprintln(&script, matching(section.after, command)+matching(section.fails, command))
		}
		name := filepath.Join(dir, fmt.Sprintf("%d.txtar", i+1))
		if err := os.WriteFile(name, []byte(script.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	testscript.Run(t, testscript.Params{
		Dir: dir, RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("PORT", freePort(t))
			e.Values[cloudKey{}] = &cloudOfScript{}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"waitport": waitPort, "enroll": enroll, "cloud": cloud},
	})
}

func matching(list map[string]string, command string) string {
	for begin, text := range list {
		if strings.HasPrefix(command, begin) {
			return text
		}
	}
	return ""
}

// here is a command of the page as lines of a script.
func here(t *testing.T, command, init string, fails bool) string {
	t.Helper()
	name, _, _ := strings.Cut(command, " ")
	lines := "exec "
	if fails {
		lines = "! exec "
	}
	switch {
	case name == "dpkg":
		return "# " + command
	case name == "systemctl":
		return "exec certconnector run --config c/certconnector.yaml &service&\nwaitport 127.0.0.1:$PORT"
	case name == "certlab":
		return "enroll SUCCESS http://127.0.0.1:$PORT/certsrv/mscep/mscep.dll c/challenge 4 laptop"
	case strings.HasPrefix(command, "certconnector init"):
		command = strings.NewReplacer("TENANT", "$TENANT", "CLIENT-ID", "$CLIENT", "/etc/certconnector/", "").Replace(command)
		if !strings.Contains(init, "cloud") {
			command = strings.NewReplacer("$TENANT", "contoso.onmicrosoft.com", "$CLIENT", "11111111-2222-3333-4444-555555555555").Replace(command)
		}
		return lines + command + " " + init
	case name == "certconnector":
		command, input, _ := strings.Cut(command, " < ")
		if input != "" {
			lines = "stdin " + input + "\n" + lines
		}
		return lines + command + " --config c/certconnector.yaml"
	}
	t.Fatalf("the page has the command %q, which this test does not know", command)
	return ""
}
