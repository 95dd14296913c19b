package onetime_test

import (
	"context"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/internal/webauth"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/policymodule/onetime"
)

// made is a challenger that counts.
type made struct{ times int }

func (m *made) GenerateChallenge(context.Context, policymodule.Principal, policymodule.ChallengeWish) (policymodule.MadeChallenge, error) {
	m.times++
	return policymodule.MadeChallenge{Challenge: "0123456789ABCDEF0123456789ABCDEF", ID: "id"}, nil
}

// FuzzPage sends what strangers may send. A password is made only when the
// page is asked for, by GET, by somebody who signs in, and is then shown.
func FuzzPage(f *testing.F) {
	f.Add("GET", "/certsrv/mscep_admin", "", "", "192.0.2.7:1", true)
	f.Add("GET", "/CERTSRV/MSCEP_ADMIN/mscep.dll", "Basic amFtZjowMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZg==", "", "192.0.2.7:1", true)
	f.Add("GET", "/certsrv/mscep_admin/", "basic bm9jb2xvbg==", "cross-site", "[::1]:1", false)
	f.Add("HEAD", "/certsrv/../certsrv/mscep_admin", "NTLM TlRMTVNTUAAB", "none", "", true)
	f.Add("POST", "//certsrv/mscep_admin\x00", "Basic \xff", "same-origin", "@", false)

	counter := &made{}
	auth := &webauth.Authenticator{}
	var err error
	if auth.Passwords, err = webauth.NewPasswords([]webauth.Account{{Name: "jamf", Password: jamfPassword}}, nil); err != nil {
		f.Fatal(err)
	}
	s, err := onetime.NewPage(onetime.PageConfig{
		Challenger: counter, Endpoint: endpoint, Refuse: auth.Refuse,
		CA: func() (*x509.Certificate, error) { return authority(), nil },
		Authenticate: func(r *http.Request) (policymodule.Principal, error) {
			name, err := auth.Identify(r)
			return principal(name, endpoint), err
		},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, method, path, authorization, site, from string, tls bool) {
		before := counter.times
		r := get("/")
		r.Method, r.URL, r.RemoteAddr = method, &url.URL{Path: path}, from
		r.Header.Del("Authorization")
		if authorization != "" {
			r.Header["Authorization"] = []string{authorization}
		}
		if site != "" {
			r.Header["Sec-Fetch-Site"] = []string{site}
		}
		if !tls {
			r.TLS = nil
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		switch w.Code {
		case 200, 401, 403, 404, 405, 429:
		default:
			t.Errorf("status %d", w.Code)
		}
		shown := strings.Contains(decode(w.Body.Bytes()), "0123456789ABCDEF0123456789ABCDEF")
		if shown != (counter.times == before+1) {
			t.Errorf("shown %v, made %d", shown, counter.times-before)
		}
		if _, password, ok := r.BasicAuth(); shown && (!ok || password != jamfPassword.Reveal() || method != http.MethodGet || !s.Serves(path)) {
			t.Error("a stranger was shown a password")
		}
		if w.Header().Get("Cache-Control") != "no-store" {
			t.Error("the answer may be stored")
		}
	})
}
