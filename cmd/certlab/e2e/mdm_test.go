//go:build e2e

package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// The endpoints where an MDM has challenges made. The name of corp is that in
// the recipe of docs/policy-token.md.
const (
	passwordPath = "/scep/passwords"
	otherPath    = "/scep/other"
	corpPath     = "/scep/corp"
)

// mdm is a world with an MDM server in it.
type mdm struct {
	*world
	url       string            // of the listener with the face challenges
	passwords map[string]string // of principals
	served    string            // folder of the keys around signed challenges
}

// mdm adds to a world the endpoints with one-time passwords and signed
// challenges, and principals: jamf, guest, who has a right elsewhere only, and
// one that shows a certificate. Nothing runs yet.
func (w *world) mdm() *mdm {
	w.t.Helper()
	need(w.t, "openssl", "openssl")
	m := &mdm{world: w, passwords: map[string]string{}, served: w.path("token")}
	m.makeKeys()
	for _, name := range []string{"jamf", "guest"} {
		m.passwords[name] = w.secret(rand.Text())
		writeFile(w.t, w.path(name), []byte(m.passwords[name]+"\n"))
	}
	const names = `subject: ["C=CH", "O=Probe", "CN=sw1", "CN=` + cmName + `"], san: ["dns:` + swanName + `", "dns:` + cmName + `"]`
	m.url = w.invite("challenges", `
principals:
  - {name: jamf, password: {file: jamf}, rights: [{endpoint: passwords, `+names+`, max_outstanding: 2, per_minute: 600}]}
  - {name: guest, password: {file: guest}, rights: [{endpoint: other, `+names+`}]}
  - {name: machine, certificate: {dns_name: `+neighbourName+`}, rights: [{endpoint: corp, subject: ["O=Corp", "CN=phone 1*"], san: ["dns:phone1*.corp.example"]}]}
`)
	const wide = "\n    allow: {subject: [\"*\"], san: [\"*\"]}"
	endpoints := endpointIn("passwords", passwordPath, "policy: {onetime: {}}", "templates: {general: device}"+wide) +
		endpointIn("other", otherPath, "policy: {onetime: {admin_path: /other/mscep_admin}}", "templates: {general: device}"+wide) +
		endpointIn("corp", corpPath, `policy:
      token:
        signing: {certificate: token/here.pem, key: token/here.key}
        recipients: [{certificate: token/recipient.crt, key: token/recipient.key}]
        trusted: [{name: mdm, certificate: token/mdm.crt, subject: ["O=Corp", "CN=phone *"], san: ["dns:*.corp.example"]}]`,
			`templates: {general: device}
    allow: {subject: ["O=Corp", "CN=phone *"], san: ["dns:*.corp.example"]}`)
	w.edit(func(text string) string { return strings.Replace(text, "\njournal:", endpoints+"\njournal:", 1) })
	return m
}

// page fetches mscep_admin as somebody and returns its text.
func (m *mdm) page(user, password string) (status int, text string) {
	m.t.Helper()
	req, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, m.url+"/CertSrv/mscep_admin/", nil)
	if err != nil {
		m.t.Fatal(err)
	}
	req.SetBasicAuth(user, password)
	resp, err := neighbourClient(m.t, m.neighbours(), false).Do(req)
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode, string(b)
	}
	return resp.StatusCode, fromUTF16(m.t, b)
}

// fromUTF16 reads the page as MDM servers do.
func fromUTF16(t *testing.T, b []byte) string {
	t.Helper()
	rest, marked := bytes.CutPrefix(b, []byte{0xff, 0xfe})
	if !marked || len(rest)%2 != 0 {
		t.Fatalf("the page is not in UTF-16LE with its mark: %.40q", b)
	}
	units := make([]uint16, len(rest)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(rest[2*i:])
	}
	return string(utf16.Decode(units))
}

var passwordOnPage = regexp.MustCompile(`The enrollment challenge password is: <B> ([0-9A-F]{32}) </B>`)

// cutOut finds the password on the page.
func (m *mdm) cutOut(text string) string {
	m.t.Helper()
	found := passwordOnPage.FindStringSubmatch(text)
	if found == nil {
		m.t.Fatalf("the page shows no password: %.600q", text)
	}
	return m.secret(found[1])
}

// password has jamf fetch a password.
func (m *mdm) password() string {
	m.t.Helper()
	status, text := m.page("jamf", m.passwords["jamf"])
	if status != http.StatusOK {
		m.t.Fatalf("the page answers %d: %.300q", status, text)
	}
	return m.cutOut(text)
}

// curl fetches the page with somebody else's HTTP and TLS; the password goes
// by standard input, as it should.
func (m *mdm) curl() string {
	m.t.Helper()
	cmd := exec.CommandContext(m.t.Context(), "curl", "--silent", "--show-error", "--fail", "--config", "-")
	cmd.Stdin = strings.NewReader(fmt.Sprintf("url = %q\ncacert = %q\nuser = %q\n",
		m.url+"/certsrv/mscep_admin/", filepath.Join(m.neighbours(), "root.pem"), "jamf:"+m.passwords["jamf"]))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		m.t.Fatalf("curl: %v: %s", err, errs.String())
	}
	return m.cutOut(fromUTF16(m.t, out.Bytes()))
}

// newChallenge is "certconnector challenge new".
func (w *world) newChallenge(endpoint string, more ...string) string {
	w.t.Helper()
	out, err := w.command(append([]string{"challenge", "new", "--endpoint", endpoint}, more...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.secret(strings.TrimSpace(out))
}

// traced wants the newest decision about an endpoint to name a rule.
func (w *world) traced(endpoint, rule string) {
	w.t.Helper()
	out, err := w.command("trace")
	if err != nil {
		w.t.Fatal(err)
	}
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) > 3 && fields[2] == endpoint {
			if !strings.Contains(line, " "+rule+" ") {
				w.t.Errorf("the trace does not name %s: %s", rule, line)
			}
			return
		}
	}
	w.t.Errorf("the trace knows nothing of endpoint %s:\n%s", endpoint, out)
}

// ask sends the request of an emulated device.
func (w *world) ask(path string, key int, csr scepclient.CSR) *scepclient.Reply {
	w.t.Helper()
	der, err := csr.Encode(testkeys.RSA2048(key))
	if err != nil {
		w.t.Fatal(err)
	}
	d := w.device("windows", path)
	tx, err := d.Prepare(w.t.Context(), scepclient.EnrollRequest{Key: testkeys.RSA2048(key), DER: w.secretCSR(der)})
	if err != nil {
		w.t.Fatal(err)
	}
	return send(w.t, d, tx.Message)
}

// refused wants a request refused under a rule, and nothing issued.
func (w *world) refused(path, endpoint string, key int, csr scepclient.CSR, info scep.FailInfo, rule string) {
	w.t.Helper()
	before := len(w.certificates())
	mustRefuse(w.t, w.ask(path, key, csr), info)
	w.traced(endpoint, rule)
	if n := len(w.certificates()); n != before {
		w.t.Errorf("%d certificates came with the refusal", n-before)
	}
}
