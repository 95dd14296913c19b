//go:build e2e

package e2e

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net/http"
	neturl "net/url"
	"os"
	"strings"

	"github.com/certconnector/certconnector/internal/freeport"
)

// mdmBehindProxy adds a listener for MDM servers whose certificates a proxy
// hands on, an endpoint with one-time passwords, and the principal machine,
// which may have them. It returns the listener's address.
func (w *world) mdmBehindProxy() string {
	t := w.t
	t.Helper()
	if err := os.Mkdir(w.neighbours(), 0o700); err != nil {
		t.Fatal(err)
	}
	neighbours(t, w.neighbours())
	address := freeport.ForTest(t)
	endpoint := endpointIn("passwords", passwordPath, "policy: {onetime: {}}", "templates: {general: device}\n    allow: {subject: [\"CN=probe\"]}")
	w.edit(func(text string) string {
		text = strings.Replace(text, "listeners:\n", fmt.Sprintf(`listeners:
  - name: mdm
    address: %q
    faces: [challenges]
    plain_http: true
    client_ca: neighbours/root.pem
    trusted_proxies: ["127.0.0.1"]
    client_certificate_header: X-SSL-Client-Cert
`, address), 1)
		text = strings.Replace(text, "\njournal:", endpoint+"\njournal:", 1)
		return text + "\nprincipals:\n  - {name: machine, certificate: {dns_name: " + neighbourName + "}, rights: [{endpoint: passwords, subject: [\"CN=probe\"]}]}\n"
	})
	return address
}

// forgesCertificates asks nginx for a challenge with and without the
// certificate of a principal. The endpoint does not exist, which is told to
// principals only.
func (w *world) forgesCertificates(url string) {
	t := w.t
	t.Helper()
	client := readCertificate(t, w.neighbours()+"/client.pem")
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: client.Raw}))
	forged := strings.ReplaceAll(neturl.QueryEscape(text), "+", "%20")
	own, err := tls.LoadX509KeyPair(w.neighbours()+"/client.pem", w.neighbours()+"/client.key")
	if err != nil {
		t.Fatal(err)
	}
	others, err := tls.LoadX509KeyPair(w.path("ca/ca.crt.pem"), w.path("ca/ca.key.pem")) // any that is not of client_ca
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name   string
		shown  []tls.Certificate
		header http.Header
		status int
		rule   string
	}{
		{"nothing", nil, nil, http.StatusForbidden, "client_certificate_missing"},
		{"a forged header", nil, http.Header{"X-SSL-Client-Cert": {forged}}, http.StatusForbidden, "client_certificate_missing"},
		{"a forged header, twice", nil, http.Header{"X-Ssl-Client-Cert": {forged, forged}}, http.StatusForbidden, "client_certificate_missing"},
		{"a forged header with underscores", nil, http.Header{"X_SSL_Client_Cert": {forged}}, http.StatusForbidden, "client_certificate_missing"},
		{"another's certificate and a forged header", []tls.Certificate{others}, http.Header{"X-SSL-Client-Cert": {forged}}, http.StatusForbidden, "client_certificate_"},
		{"the principal's own", []tls.Certificate{own}, nil, http.StatusNotFound, "challenge_unknown_endpoint"},
		{"the principal's own and a forged header", []tls.Certificate{own}, http.Header{"X-SSL-Client-Cert": {"forged"}}, http.StatusNotFound, "challenge_unknown_endpoint"},
	} {
		d := w.deviceAt("127.0.0.6")
		d.http.Transport.(*http.Transport).TLSClientConfig.Certificates = row.shown
		status, body := d.ask(http.MethodPost, url+"/challenges/nowhere", row.header)
		if status != row.status || !strings.Contains(body, row.rule) {
			t.Errorf("%s: status %d %.200q, want %d and %s", row.name, status, body, row.status, row.rule)
		}
	}
}
