package webauth_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/internal/webauth"
)

const (
	jamfPassword   = secret.Text("0123456789abcdef0123456789abcdef")
	ivantiPassword = secret.Text("fedcba9876543210fedcba9876543210")
)

func passwords(t *testing.T, clock func() time.Time) *webauth.Passwords {
	t.Helper()
	p, err := webauth.NewPasswords([]webauth.Account{{Name: "Jamf", Password: jamfPassword}, {Name: `CORP\ivanti`, Password: ivantiPassword}}, clock)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// request is a GET over TLS from an address.
func request(from, name string, password secret.Text) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.RemoteAddr = from
	r.TLS = &tls.ConnectionState{}
	if name != "" {
		r.SetBasicAuth(name, password.Reveal())
	}
	return r
}

func TestPasswords(t *testing.T) {
	for _, row := range []struct {
		name     string
		user     string
		password secret.Text
		want     string // "": refused as wrong
	}{
		{"name and password", "Jamf", jamfPassword, "Jamf"},
		{"case of the name", "JAMF", jamfPassword, "Jamf"},
		{"user@domain", "jamf@corp.example", jamfPassword, "Jamf"},
		{`DOMAIN\user`, `CORP\jamf`, jamfPassword, "Jamf"},
		{"a name configured with its domain", `corp\Ivanti`, ivantiPassword, `CORP\ivanti`},
		{"the domain of a configured name is missing", "ivanti", ivantiPassword, ""},
		{"another's password", "jamf", ivantiPassword, ""},
		{"case of the password", "jamf", secret.Text(strings.ToUpper(jamfPassword.Reveal())), ""},
		{"a beginning of the password", "jamf", jamfPassword[:31], ""},
		{"no password", "jamf", "", ""},
		{"an unknown name", "okta", jamfPassword, ""},
		{"a name that ends in a known one", "xjamf", jamfPassword, ""},
		{"no user before the domain", "@jamf", jamfPassword, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			name, err := passwords(t, clock).Identify(request("192.0.2.1:1", row.user, row.password))
			if name != row.want || (row.want == "") != (ruleOf(err) == webauth.RuleWrongCredentials) {
				t.Errorf("identified as %q, error %v; want %q", name, err, row.want)
			}
		})
	}
}

func TestPasswordsWithoutCredentials(t *testing.T) {
	p := passwords(t, clock)
	for _, header := range []string{"", "NTLM TlRMTVNTUAABAAAA", "Negotiate abc", "Bearer abc", "Basic", "Basic !!!", "Basic bm9jb2xvbg=="} {
		for range 50 { // none of them is a failure that counts
			r := request("192.0.2.1:1", "", "")
			if header != "" {
				r.Header.Set("Authorization", header)
			}
			if _, err := p.Identify(r); ruleOf(err) != webauth.RuleNoCredentials {
				t.Fatalf("Authorization of %d octets: %v", len(header), err)
			}
		}
	}
}

func TestPasswordsWantTLS(t *testing.T) {
	for _, row := range []struct {
		name, from string
		rule       string
	}{
		{"another machine", "192.0.2.1:1", webauth.RuleWithoutTLS},
		{"this machine", "127.0.0.1:1", ""},
		{"this machine over IPv6", "[::1]:1", ""},
		{"this machine, mapped", "[::ffff:127.0.0.1]:1", ""},
		{"an address that cannot be read", "@", webauth.RuleWithoutTLS},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := request(row.from, "jamf", jamfPassword)
			r.TLS = nil
			if _, err := passwords(t, clock).Identify(r); ruleOf(err) != row.rule || (err == nil) != (row.rule == "") {
				t.Errorf("error %v, want rule %q", err, row.rule)
			}
		})
	}
}

func TestFailuresAreInherited(t *testing.T) {
	old, next := passwords(t, func() time.Time { return now }), passwords(t, func() time.Time { return now })
	for range 10 {
		_, _ = old.Identify(request("192.0.2.1:1", "jamf", "wrong"))
	}
	next.Inherit(old)
	if _, err := next.Identify(request("192.0.2.1:2", "jamf", "wrong")); ruleOf(err) != webauth.RuleLimited {
		t.Errorf("the guesses are forgotten: %v", err)
	}
	if _, err := next.Identify(request("192.0.2.1:2", "jamf", jamfPassword)); err != nil {
		t.Errorf("the right password: %v", err)
	}
}

func TestFailuresAreLimited(t *testing.T) {
	at := now
	p := passwords(t, func() time.Time { return at })
	try := func(from string, password secret.Text) error {
		_, err := p.Identify(request(from, "jamf", password))
		return err
	}
	for range 10 {
		if err := try("192.0.2.1:1", "wrong"); ruleOf(err) != webauth.RuleWrongCredentials {
			t.Fatalf("within the limit: %v", err)
		}
	}
	if err := try("192.0.2.1:2", "wrong"); ruleOf(err) != webauth.RuleLimited {
		t.Errorf("beyond the limit: %v", err)
	}
	// Behind a proxy all have one address: nobody locks others out.
	if err := try("192.0.2.1:2", jamfPassword); err != nil {
		t.Errorf("the right password beyond the limit: %v", err)
	}
	if err := try("192.0.2.2:1", jamfPassword); err != nil {
		t.Errorf("another source: %v", err)
	}
	at = at.Add(6*time.Second + time.Millisecond)
	if err := try("192.0.2.1:3", jamfPassword); err != nil {
		t.Errorf("after six seconds: %v", err)
	}
	if err := try("192.0.2.1:4", "wrong"); ruleOf(err) != webauth.RuleWrongCredentials {
		t.Errorf("the right password took the token: %v", err)
	}
	if err := try("192.0.2.1:5", "wrong"); ruleOf(err) != webauth.RuleLimited {
		t.Errorf("one token came back, not more: %v", err)
	}
	for i := range 10 {
		if err := try(fmt.Sprintf("[2001:db8::%d]:1", i), "wrong"); ruleOf(err) != webauth.RuleWrongCredentials {
			t.Fatalf("IPv6, within the limit: %v", err)
		}
	}
	if err := try("[2001:db8::ffff]:1", "wrong"); ruleOf(err) != webauth.RuleLimited {
		t.Errorf("a /64 is one source: %v", err)
	}
}

// TestManySources has more sources fail than are remembered, from many
// goroutines: honest callers stay unaffected.
func TestManySources(t *testing.T) {
	p := passwords(t, clock)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				_, _ = p.Identify(request(fmt.Sprintf("10.%d.%d.%d:1", g, i/256, i%256), "jamf", "wrong"))
			}
		})
	}
	wg.Wait()
	if name, err := p.Identify(request("192.0.2.1:1", "jamf", jamfPassword)); err != nil || name != "Jamf" {
		t.Errorf("an honest caller: %q, %v", name, err)
	}
}

func TestNewPasswordsRefuses(t *testing.T) {
	for _, row := range []struct {
		name     string
		accounts []webauth.Account
		want     string
	}{
		{"nobody", nil, "no account"},
		{"a password that can be guessed", []webauth.Account{{"jamf", "Summer-2026!"}}, "can be guessed"},
		{"long but simple", []webauth.Account{{"jamf", secret.Text(strings.Repeat("abcdefg", 20))}}, "can be guessed"},
		{"no password", []webauth.Account{{"jamf", ""}}, "can be guessed"},
		{"no name", []webauth.Account{{"", jamfPassword}}, "no name"},
		{"a colon ends a name of HTTP Basic", []webauth.Account{{"a:b", jamfPassword}}, "colon"},
		{"one name twice", []webauth.Account{{"jamf", jamfPassword}, {"JAMF", ivantiPassword}}, "two accounts"},
		{"one password twice", []webauth.Account{{"jamf", jamfPassword}, {"ivanti", jamfPassword}}, "one password"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := webauth.NewPasswords(row.accounts, nil)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Fatalf("error %v, want one about %q", err, row.want)
			}
			for _, a := range row.accounts {
				if a.Password != "" && strings.Contains(err.Error(), a.Password.Reveal()) {
					t.Error("the error shows a password")
				}
			}
		})
	}
}

func TestAuthenticator(t *testing.T) {
	key := testkeys.P256(0)
	root := authority(t, "Root", key)
	roots := x509.NewCertPool()
	roots.AddCert(root)
	certificates := &webauth.Certificates{Roots: roots, Clock: clock, Clients: []webauth.Client{{Name: "front1", DNSName: "ndes1.corp.example"}}}
	leaf := func(name string) *x509.Certificate {
		return signed(t, &x509.Certificate{DNSNames: []string{name}, ExtKeyUsage: clientAuth}, root, testkeys.P256(1), key)
	}
	good, wrong := leaf("ndes1.corp.example"), leaf("phone7.corp.example")
	both := &webauth.Authenticator{Passwords: passwords(t, clock), Certificates: certificates, Realm: "the \"admin\" \\ page\r\n"}
	onlyPasswords, onlyCertificates := &webauth.Authenticator{Passwords: both.Passwords}, &webauth.Authenticator{Certificates: certificates}
	for _, row := range []struct {
		name     string
		auth     *webauth.Authenticator
		cert     *x509.Certificate
		password secret.Text
		want     string
		rule     string
		status   int
	}{
		{"a certificate", both, good, "", "front1", "", 0},
		{"a password", both, nil, jamfPassword, "Jamf", "", 0},
		{"a certificate goes before a password", both, good, jamfPassword, "front1", "", 0},
		{"a wrong certificate is not saved by a password", both, wrong, jamfPassword, "", webauth.RuleName, 403},
		{"neither", both, nil, "", "", webauth.RuleNoCredentials, 401},
		{"a wrong password", both, nil, "wrong", "", webauth.RuleWrongCredentials, 401},
		{"no certificate where only they count", onlyCertificates, nil, jamfPassword, "", webauth.RuleMissing, 403},
		{"a certificate where only passwords count", onlyPasswords, good, jamfPassword, "Jamf", "", 0},
		{"nothing is configured", &webauth.Authenticator{}, good, jamfPassword, "", "", 500},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := request("192.0.2.1:1", "", "")
			if row.password != "" {
				r.SetBasicAuth("jamf", row.password.Reveal())
			}
			if row.cert != nil {
				r.TLS.PeerCertificates = []*x509.Certificate{row.cert}
			}
			name, err := row.auth.Identify(r)
			if name != row.want || ruleOf(err) != row.rule || (err == nil) != (row.want != "") {
				t.Fatalf("identified as %q, error %v; want %q, rule %q", name, err, row.want, row.rule)
			}
			if err == nil {
				return
			}
			w := httptest.NewRecorder()
			row.auth.Refuse(w, r, err)
			checkRefusal(t, w, row.status, row.rule, row.auth == both)
		})
	}
}

func checkRefusal(t *testing.T, w *httptest.ResponseRecorder, status int, rule string, realm bool) {
	t.Helper()
	if w.Code != status {
		t.Errorf("status %d, want %d", w.Code, status)
	}
	if body := w.Body.String(); rule != "" && !strings.Contains(body, `"rule":"`+rule+`"`) || w.Header().Get("Content-Type") != "application/problem+json" {
		t.Errorf("answer %q of type %q", body, w.Header().Get("Content-Type"))
	}
	if w.Header().Get("Cache-Control") != "no-store" {
		t.Error("the refusal may be stored")
	}
	want := ""
	if status == http.StatusUnauthorized {
		want = `Basic realm="certconnector", charset="UTF-8"`
		if realm {
			want = `Basic realm="the \"admin\" \\ page", charset="UTF-8"`
		}
	}
	if got := w.Header().Get("WWW-Authenticate"); got != want {
		t.Errorf("WWW-Authenticate %q, want %q", got, want)
	}
}

func TestRefuseSaysWhenToComeAgain(t *testing.T) {
	auth := &webauth.Authenticator{Passwords: passwords(t, clock)}
	r := request("192.0.2.1:1", "jamf", "wrong")
	var err error
	for range 11 {
		_, err = auth.Identify(r)
	}
	w := httptest.NewRecorder()
	auth.Refuse(w, r, fmt.Errorf("asking: %w", err))
	if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") != "6" {
		t.Errorf("status %d, Retry-After %q; want 429 and 6", w.Code, w.Header().Get("Retry-After"))
	}
	checkRefusal(t, w, http.StatusTooManyRequests, webauth.RuleLimited, false)

	r.TLS = nil
	_, err = auth.Identify(r)
	w = httptest.NewRecorder()
	auth.Refuse(w, r, err)
	checkRefusal(t, w, http.StatusForbidden, webauth.RuleWithoutTLS, false)
}
