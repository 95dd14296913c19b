//go:build e2e

package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// fetch opens the page for passwords and returns its text.
func (b *besieged) fetch(method, user, password string, header http.Header) (*http.Response, string) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.page, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	if user != "" {
		req.SetBasicAuth(user, password)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	body, wide := bytes.CutPrefix(body, []byte{0xff, 0xfe})
	if !wide {
		return resp, string(body)
	}
	units := make([]uint16, 0, len(body)/2)
	for i := 0; i+1 < len(body); i += 2 {
		units = append(units, uint16(body[i])|uint16(body[i+1])<<8)
	}
	return resp, string(utf16.Decode(units))
}

var shownPassword = regexp.MustCompile(`password is: <B> ([A-F0-9]{16,}) </B>`)

// password is what an MDM fetches for a device.
func (b *besieged) password(principal string) string {
	b.t.Helper()
	resp, page := b.fetch(http.MethodGet, principal, b.passwords[principal], nil)
	found := shownPassword.FindStringSubmatch(page)
	if resp.StatusCode != http.StatusOK || found == nil {
		b.t.Fatalf("no password for %s: %s", principal, resp.Status)
	}
	return b.secret(found[1])
}

// hoard has one principal fetch all that it may have (P7).
func (b *besieged) hoard(t *testing.T) {
	theirs := b.password("jamf")
	var hoarded []string
	for range 3 {
		hoarded = append(hoarded, b.password("greedy"))
	}
	for range 5 {
		resp, page := b.fetch(http.MethodGet, "greedy", b.passwords["greedy"], nil)
		if resp.StatusCode != http.StatusOK || !strings.Contains(page, "The password cache is full.") || shownPassword.MatchString(page) {
			t.Errorf("a fourth password: %s", resp.Status)
		}
	}
	others := b.password("jamf")
	for i, password := range []string{theirs, others, hoarded[0], hoarded[2]} { // none was dropped
		b.get(onetimePath, b.enrol(i, b.request("seven", password)))
	}
	hoarded = append(hoarded, b.password("greedy")) // two were spent
	_ = hoarded
}

// relay tries to get a password with somebody else's browser or connection (P8).
func (b *besieged) relay(t *testing.T) {
	good := b.passwords["jamf"]
	for _, a := range []struct {
		name           string
		method         string
		user, password string
		header         http.Header
		status         int
	}{
		{"without credentials", http.MethodGet, "", "", nil, http.StatusUnauthorized},
		{"NTLM, first message", http.MethodGet, "", "", http.Header{"Authorization": {"NTLM TlRMTVNTUAABAAAAB4IIogAAAAAAAAAAAAAAAAAAAAAGAbEdAAAADw=="}}, http.StatusUnauthorized},
		{"Negotiate", http.MethodGet, "", "", http.Header{"Authorization": {"Negotiate YHcGBisGAQUFAqBtMGugMDAu"}}, http.StatusUnauthorized},
		{"wrong password", http.MethodGet, "jamf", b.secret(rand.Text()), nil, http.StatusUnauthorized},
		{"sent by another site", http.MethodGet, "jamf", good, http.Header{"Sec-Fetch-Site": {"cross-site"}}, http.StatusForbidden},
		{"sent by a sister site", http.MethodGet, "jamf", good, http.Header{"Sec-Fetch-Site": {"same-site"}}, http.StatusForbidden},
		{"script of another origin", http.MethodGet, "jamf", good, http.Header{"Origin": {"https://evil.example"}}, http.StatusForbidden},
		{"fetched ahead", http.MethodGet, "jamf", good, http.Header{"Sec-Purpose": {"prefetch"}}, http.StatusForbidden},
		{"HEAD", http.MethodHead, "jamf", good, nil, http.StatusMethodNotAllowed},
		{"POST", http.MethodPost, "jamf", good, nil, http.StatusMethodNotAllowed},
	} {
		t.Run("P8 "+a.name, func(t *testing.T) {
			defer b.during(t)()
			before := strings.Count(b.logText(), `"challenge shown"`)
			resp, page := b.fetch(a.method, a.user, a.password, a.header)
			if resp.StatusCode != a.status || shownPassword.MatchString(page) {
				t.Errorf("status %s", resp.Status)
			}
			for _, scheme := range resp.Header.Values("Www-Authenticate") {
				if !strings.HasPrefix(scheme, "Basic ") {
					t.Errorf("offers %q, which can be relayed", scheme)
				}
			}
			if resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Access-Control-Allow-Origin") != "" {
				t.Errorf("headers %v", resp.Header)
			}
			if strings.Count(b.logText(), `"challenge shown"`) != before {
				t.Error("a password was made")
			}
		})
	}
	t.Run("P8 not among the devices", func(t *testing.T) {
		for _, path := range []string{"/certsrv/mscep_admin/", "/CertSrv/mscep_admin/mscep.dll", "/challenges/onetime"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.url(path), nil)
			if err != nil {
				t.Fatal(err)
			}
			req.SetBasicAuth("jamf", good)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			page, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusNotFound || shownPassword.Match(page) {
				t.Errorf("%s at the devices' listener: %s", path, resp.Status)
			}
		}
	})
	t.Run("P8 plain HTTP beyond this host is no configuration", func(t *testing.T) {
		text, err := os.ReadFile(b.path("certconnector.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		host, _, err := net.SplitHostPort(strings.Split(b.page, "/")[2])
		if err != nil {
			t.Fatal(err)
		}
		old := `- {name: mdms, address: "` + host
		if !strings.Contains(string(text), old) {
			t.Fatal("the listener is not found in the file")
		}
		open := b.path("open.yaml")
		writeFile(t, open, []byte(strings.Replace(string(text), old, `- {name: mdms, address: "0.0.0.0`, 1)))
		out, err := exec.CommandContext(t.Context(), built.release, "validate", "--config", open).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "listeners[0].plain_http") {
			t.Errorf("validate says %v: %s", err, out)
		}
	})
}

// secrecy brings secrets along on every way in, and looks for them in the logs
// and in the journal (P11). All others of the suite are looked for when the
// world ends.
func (b *besieged) secrecy(t *testing.T) {
	mark := len(b.secrets)
	password := b.password("jamf")
	query, bearer := b.secret(rand.Text()), b.secret(rand.Text())
	wrong := b.secret(rand.Text())

	// The whole message in the URL, and a challenge beside it.
	d := b.device("linux", onetimePath)
	key := testkeys.RSA2048(0)
	tx, err := d.Prepare(t.Context(), scepclient.EnrollRequest{Key: key, CSR: b.request("eleven", password), TransactionID: rand.Text()})
	if err != nil {
		t.Fatal(err)
	}
	b.secretCSR(tx.DER)
	b.secret(scepclient.Escape(tx.Message.Raw, scepclient.EscapeNone)[200:264])
	d.Quirks.AlwaysGET = true
	b.mustIssue(send(t, d, tx.Message), key)
	for _, target := range []string{
		b.url(onetimePath) + "?operation=PKIOperation&challenge=" + query,
		b.url("/nowhere/"+query) + "?password=" + query,
		b.page + "?password=" + query,
		strings.Replace(b.page, "/certsrv/mscep_admin/", "/challenges/token?token="+query, 1),
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+bearer)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	b.fetch(http.MethodGet, "jamf", wrong, nil)
	b.repel(onetimePath, b.enrol(1, b.request("eleven", wrong)), scep.BadRequest, "onetime_challenge_unknown")
	b.repel(tokenPath, b.enrol(1, b.request("eleven", wrong)), scep.BadRequest, "token_malformed")

	at := map[string]string{"the logs": b.logText()}
	for _, name := range []string{"journal.db", "journal.db-wal"} {
		content, err := os.ReadFile(b.path(name))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		at[name] = string(content)
	}
	for where, text := range at {
		for i, s := range b.secrets[mark:] {
			if strings.Contains(text, s) {
				t.Errorf("%s: secret number %d", where, i)
			}
		}
	}
}

// readableKeys starts the program with key files that other accounts can read
// (P14).
func (b *besieged) readableKeys(t *testing.T) {
	b.stop()
	for _, name := range []string{
		"ra/signing.key.pem", "ra/encryption.key.pem", "ca/ca.key.pem", "local.key", "entra/entra.key.pem", "signer.key", "recipient.key",
	} {
		t.Run("P14 "+name, func(t *testing.T) {
			path := b.path(name)
			if b.back != nil && strings.HasPrefix(name, "entra/") {
				t.Skip("another machine has this key")
			}
			for _, mode := range []os.FileMode{0o644, 0o640, 0o604} {
				if err := os.Chmod(path, mode); err != nil {
					t.Fatal(err)
				}
				for _, command := range []string{"run", "validate"} {
					out, err := exec.CommandContext(t.Context(), built.release, command, "--config", b.path("certconnector.yaml")).CombinedOutput()
					if err == nil || !strings.Contains(string(out), name[strings.LastIndexByte(name, '/')+1:]) {
						t.Errorf("%s with mode %v: %v: %.500s", command, mode, err, out)
					}
				}
			}
			if err := os.Chmod(path, 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
	b.start() // all are as they should be again
}

// readKey reads a private key that "init" made.
func readKey(t *testing.T, path string) any {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatal("no PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
