package webauth_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/certconnector/certconnector/internal/forwarded"
	"github.com/certconnector/certconnector/internal/webauth"
)

// Behind a proxy that ends TLS a password is taken when the proxy is on this
// machine, and wrong ones count against the device and not against the proxy.
func TestPasswordsBehindAProxy(t *testing.T) {
	trusted, err := forwarded.ParseNetworks([]string{"127.0.0.1", "10.0.0.5"})
	if err != nil {
		t.Fatal(err)
	}
	p := passwords(t, clock)
	identify := func(remote, device, password string) (rule string) {
		h := forwarded.Config{Trusted: trusted}.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, err := p.Identify(r)
			rule = ruleOf(err)
		}))
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = remote
		r.Header.Set("X-Forwarded-For", device)
		r.SetBasicAuth("jamf", password)
		h.ServeHTTP(httptest.NewRecorder(), r)
		return rule
	}
	if rule := identify("127.0.0.1:1", "198.51.100.7", jamfPassword.Reveal()); rule != "" {
		t.Errorf("the right password by a proxy here: %s", rule)
	}
	if rule := identify("10.0.0.5:1", "198.51.100.7", jamfPassword.Reveal()); rule != webauth.RuleWithoutTLS {
		t.Errorf("in the clear from a proxy elsewhere: %q", rule)
	}
	if rule := identify("198.51.100.7:1", "127.0.0.1", jamfPassword.Reveal()); rule != webauth.RuleWithoutTLS {
		t.Errorf("a device that says it is this machine: %q", rule)
	}
	for range 20 {
		identify("127.0.0.1:1", "198.51.100.7", "wrong")
	}
	if rule := identify("127.0.0.1:1", "198.51.100.7", "wrong"); rule != webauth.RuleLimited {
		t.Errorf("the device that guesses: %q", rule)
	}
	if rule := identify("127.0.0.1:1", "203.0.113.9", "wrong"); rule != webauth.RuleWrongCredentials {
		t.Errorf("another device behind the same proxy: %q", rule)
	}
}
