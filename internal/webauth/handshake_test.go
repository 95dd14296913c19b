package webauth_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/internal/webauth"
)

// TestHandshake shows certificates and passwords over real connections, to a
// listener that asks for a certificate and verifies none: what is wrong with
// one is then an answer and not a broken handshake.
func TestHandshake(t *testing.T) {
	rootKey, key := testkeys.P256(0), testkeys.P256(1)
	root := authority(t, "Root", rootKey)
	roots := x509.NewCertPool()
	roots.AddCert(root)
	auth := &webauth.Authenticator{
		Passwords:    passwords(t, clock),
		Certificates: &webauth.Certificates{Roots: roots, Clock: clock, Clients: []webauth.Client{{Name: "front1", DNSName: "ndes1.corp.example"}}},
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, err := auth.Identify(r)
		if err != nil {
			auth.Refuse(w, r, err)
			return
		}
		_, _ = io.WriteString(w, name)
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, ClientCAs: roots}
	server.StartTLS()
	defer server.Close()

	leaf := func(from, to time.Time) *x509.Certificate {
		return signed(t, &x509.Certificate{DNSNames: []string{"ndes1.corp.example"}, ExtKeyUsage: clientAuth, NotBefore: from, NotAfter: to}, root, key, rootKey)
	}
	for _, row := range []struct {
		name     string
		cert     *x509.Certificate
		password string
		status   int
		body     string // a part of it
	}{
		{"a certificate", leaf(now.AddDate(0, -1, 0), now.AddDate(0, 1, 0)), "", 200, "front1"},
		{"an expired certificate", leaf(now.AddDate(0, -2, 0), now.AddDate(0, -1, 0)), "", 403, webauth.RuleExpired},
		{"a password", nil, jamfPassword.Reveal(), 200, "Jamf"},
		{"neither", nil, "", 401, webauth.RuleNoCredentials},
	} {
		t.Run(row.name, func(t *testing.T) {
			transport := server.Client().Transport.(*http.Transport).Clone()
			defer transport.CloseIdleConnections()
			if row.cert != nil {
				transport.TLSClientConfig.Certificates = []tls.Certificate{{Certificate: [][]byte{row.cert.Raw}, PrivateKey: key}}
			}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			if row.password != "" {
				r.SetBasicAuth(`CORP\jamf`, row.password)
			}
			answer, err := (&http.Client{Transport: transport}).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer answer.Body.Close()
			body, err := io.ReadAll(answer.Body)
			if err != nil || answer.StatusCode != row.status || !strings.Contains(string(body), row.body) {
				t.Errorf("status %d, %q, error %v; want %d, %q", answer.StatusCode, body, err, row.status, row.body)
			}
		})
	}
}
