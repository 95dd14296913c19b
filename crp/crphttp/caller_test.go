package crphttp_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"testing"

	"github.com/certconnector/certconnector/crp/crphttp"
	"github.com/certconnector/certconnector/internal/webauth"
)

// Who is not recognised hears by which rule, on both paths, before a byte of
// the body is read.
func TestClientCertificateRules(t *testing.T) {
	w := newWorld(t)
	const client = x509.ExtKeyUsageClientAuth
	for rule, certificate := range map[string]*tls.Certificate{
		webauth.RuleMissing:   nil,
		webauth.RuleExpired:   issue(t, leaf{names: []string{"scep.corp.example"}, usage: client, expired: true}),
		webauth.RuleUntrusted: issue(t, leaf{names: []string{"scep.corp.example"}, usage: client, foreign: true}),
		webauth.RuleUsage:     issue(t, leaf{names: []string{"scep.corp.example"}, usage: x509.ExtKeyUsageServerAuth}),
		webauth.RuleName:      issue(t, leaf{names: []string{"other.corp.example"}, usage: client}),
		webauth.RulePin:       issue(t, leaf{names: []string{"pinned.corp.example"}, usage: client}),
	} {
		for _, path := range []string{crphttp.VerifyPath, crphttp.NotifyPath} {
			answer, problem := w.post(t, certificate, path, []byte(`{"endpoint":"corp"}`))
			if answer.StatusCode != http.StatusForbidden || problem["rule"] != rule || answer.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s at %s: status %d, %v", rule, path, answer.StatusCode, problem)
			}
		}
		if w.logs.FilterField(ruleField(rule)).Len() == 0 {
			t.Errorf("no line names %s", rule)
		}
	}
	// Known to whoever reads certificates, but configured nowhere.
	if answer, problem := w.post(t, frontEnd(t, "gone"), crphttp.VerifyPath, []byte(`{}`)); answer.StatusCode != http.StatusForbidden || problem["rule"] != webauth.RuleName {
		t.Errorf("status %d, %v", answer.StatusCode, problem)
	}
	if n := len(w.cloud.Calls()); n != 0 {
		t.Errorf("the cloud was called %d times", n)
	}
}

// A front end asks its own tenants only, although another one is served.
func TestTenants(t *testing.T) {
	w := newWorld(t)
	r := w.request(t)
	for _, row := range []struct {
		tenant string
		status int
	}{{"", http.StatusCreated}, {"contoso", http.StatusCreated}, {"fabrikam", http.StatusForbidden}, {"Contoso", http.StatusForbidden}, {"nobody", http.StatusForbidden}} {
		answer, members := w.post(t, frontEnd(t, "scep"), crphttp.VerifyPath, question(t, r, "tenant", row.tenant))
		if answer.StatusCode != row.status || row.status == http.StatusForbidden && members["rule"] != "tenant_not_allowed" {
			t.Errorf("tenant %q: status %d, %v", row.tenant, answer.StatusCode, members)
		}
	}
}

// Paths are compared without regard to case, as IIS does; a browser sees that
// something is there and no more.
func TestPaths(t *testing.T) {
	w := newWorld(t)
	for _, row := range []struct {
		method, path string
		status       int
		serves       bool
	}{
		{"POST", "/certificateregistrationsvc/certificate/verifyrequest", 400, true},
		{"POST", "/CERTIFICATEREGISTRATIONSVC/Certificate/NOTIFY", 400, true},
		{"GET", "/CertificateRegistrationSvc", 403, true},
		{"GET", "/CertificateRegistrationSvc/", 403, true},
		{"HEAD", "/CertificateRegistrationSvc/", 403, true},
		{"GET", crphttp.VerifyPath, 405, true},
		{"PUT", crphttp.NotifyPath, 405, true},
		{"POST", "/CertificateRegistrationSvc/Certificate", 404, true},
		{"POST", "/CertificateRegistrationSvc/Certificate/VerifyRequest/more", 404, true},
		{"GET", "/CertificateRegistrationSvcOther", 404, false},
		{"GET", "/", 404, false},
	} {
		r, err := http.NewRequestWithContext(t.Context(), row.method, "https://"+w.address+row.path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		answer, members := w.do(t, frontEnd(t, "scep"), r)
		if answer.StatusCode != row.status || w.handler.Serves(row.path) != row.serves {
			t.Errorf("%s %s: status %d, served %v; %v", row.method, row.path, answer.StatusCode, w.handler.Serves(row.path), members)
		}
		if row.status == 405 && answer.Header.Get("Allow") != "POST" {
			t.Errorf("Allow is %q", answer.Header.Get("Allow"))
		}
	}
}

func TestTLSBefore12IsRefused(t *testing.T) {
	w := newWorld(t)
	c, err := tls.Dial("tcp", w.address, &tls.Config{RootCAs: w.roots, ServerName: "crp.corp.example", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	if err == nil {
		c.Close()
		t.Error("TLS 1.1 was accepted")
	}
}
