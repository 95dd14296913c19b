package main

import (
	"bytes"
	"crypto/x509/pkix"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca/embedded"
)

// The exit code is that of the worst finding.
func TestCACheckExitCodes(t *testing.T) {
	dir := t.TempDir()
	for name, life := range map[string]time.Duration{"long": 10 * 365 * 24 * time.Hour, "short": 30 * 24 * time.Hour} {
		if _, err := embedded.Create(filepath.Join(dir, name), embedded.Options{Subject: pkix.Name{CommonName: name}, KeyKind: embedded.P256, Validity: life}); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(dir, "certconnector.yaml")
	text := `state_dir: .
listeners: [{name: l, address: ":80", faces: [scep], plain_http: true}]
endpoints:
  - {name: e, path: /scep/e, ca: long, policy: {static: {challenge: {file: c}, allow_static_challenge: true}}, ra: {signing: {certificate: a, key: b}, shape: combined}, allow: {subject: ["CN=*"]}}
cas:
`
	for _, ca := range [][3]string{{"long", "long", "long"}, {"short", "short", "short"}, {"broken", "long", "short"}} {
		text += fmt.Sprintf("  - {name: %s, embedded: {certificate: %s/%s, key: %s/%s}}\n", ca[0], ca[1], embedded.ChainFile, ca[2], embedded.KeyFile)
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		names []string
		code  int
	}{{[]string{"long"}, exitOK}, {[]string{"short"}, exitRefused}, {[]string{"long", "short"}, exitRefused}, {[]string{"broken"}, exitError}, {nil, exitError}} {
		for _, format := range [][]string{nil, {"--json"}, {"--quiet"}} {
			var out, fail bytes.Buffer
			args := append(append([]string{"ca", "check", "--config", config}, format...), c.names...)
			if code := run(args, &out, &fail); code != c.code || fail.Len() > 0 {
				t.Errorf("%v %v: exit code %d, want %d\n%s%s", format, c.names, code, c.code, out.String(), fail.String())
			}
		}
	}
}
