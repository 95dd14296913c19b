package certsrv_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/adcstest"
)

// between puts a server in front of a face that answers some requests itself;
// for the others it returns false.
func between(t *testing.T, s *setup, answer func(w http.ResponseWriter, r *http.Request) bool) {
	t.Helper()
	target, err := url.Parse(s.web.URL)
	if err != nil {
		t.Fatal(err)
	}
	onward := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.web.Roots}}
	proxy := &httputil.ReverseProxy{Transport: onward, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !answer(w, r) {
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(func() { srv.Close(); onward.CloseIdleConnections() })
	s.config.URL, s.config.Roots = srv.URL, x509.NewCertPool()
	s.config.Roots.AddCert(srv.Certificate())
	s.bridge = open(t, s.config)
}

func (s *setup) wantUnknown(t *testing.T, what string) {
	t.Helper()
	_, err := s.bridge.Issue(t.Context(), s.request(t))
	if !errors.Is(err, ca.ErrOutcomeUnknown) || !strings.Contains(err.Error(), what) {
		t.Errorf("got %v, want ErrOutcomeUnknown that says %q", err, what)
	}
}

// TestCertificateOfAnotherCA: the right key, another signer.
func TestCertificateOfAnotherCA(t *testing.T) {
	right, other := start(t, basic, adcstest.WebOptions{}), start(t, basic, adcstest.WebOptions{})
	for name, issuer := range map[string]*x509.Certificate{"configured": right.ca.Certificate(), "shown by the server": nil} {
		t.Run(name, func(t *testing.T) {
			other.config.Issuer = issuer
			target, err := url.Parse(right.web.URL)
			if err != nil {
				t.Fatal(err)
			}
			toRight := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: right.web.Roots}}
			t.Cleanup(toRight.CloseIdleConnections)
			proxy := &httputil.ReverseProxy{Transport: toRight, Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
			face := *other
			between(t, &face, func(w http.ResponseWriter, r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, ".p7b") || strings.HasSuffix(r.URL.Path, "certcarc.asp") {
					proxy.ServeHTTP(w, r)
					return true
				}
				return false
			})
			face.wantUnknown(t, "did not sign it")
		})
	}
}

// TestNumberThatIsNoRequest: a page with a number is believed when the CA
// knows a pending request of that ID.
func TestNumberThatIsNoRequest(t *testing.T) {
	s := start(t, basic, adcstest.WebOptions{})
	between(t, s, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost {
			return false
		}
		io.WriteString(w, "<HTML><P ID=locPageTitle>Wartung</P>Bis 1800 Uhr.</HTML>")
		return true
	})
	s.wantUnknown(t, "does not confirm")
}

// TestLongAnswer: the link stands at the start, but who sends three megabytes
// is no web enrollment.
func TestLongAnswer(t *testing.T) {
	s := start(t, basic, adcstest.WebOptions{})
	between(t, s, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPost {
			return false
		}
		io.WriteString(w, `<A Href="certnew.cer?ReqID=1&">`)
		io.Copy(w, io.LimitReader(zeros{}, 3<<20))
		return true
	})
	s.wantUnknown(t, "longer than")
}

// TestRedirectionsAreNotFollowed, not even within the host.
func TestRedirectionsAreNotFollowed(t *testing.T) {
	s := start(t, basic, adcstest.WebOptions{})
	var elsewhere atomic.Int32
	between(t, s, func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/elsewhere") {
			elsewhere.Add(1)
			return true
		}
		if r.Method == http.MethodPost {
			http.Redirect(w, r, "/elsewhere/", http.StatusFound)
		}
		return r.Method == http.MethodPost
	})
	s.wantUnknown(t, "redirects")
	if elsewhere.Load() != 0 {
		t.Error("the redirection was followed")
	}
}

// TestIssuedButNotFetched: the pages' own error while the certificate is
// fetched is no denial: it was issued.
func TestIssuedButNotFetched(t *testing.T) {
	s := start(t, basic, adcstest.WebOptions{})
	between(t, s, func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "certnew.cer") {
			return false
		}
		io.WriteString(w, "<HTML><P ID=locPageTitle>Error</P>Result: 0x80070005 (WIN32: 5)</HTML>")
		return true
	})
	req := s.request(t)
	_, err := s.bridge.Issue(t.Context(), req)
	_, denied := errors.AsType[*ca.Denied](err)
	if !errors.Is(err, ca.ErrOutcomeUnknown) || denied || !strings.Contains(err.Error(), "issued request 2") {
		t.Errorf("got %v, want ErrOutcomeUnknown that names request 2", err)
	}
}

// TestChainIsKept: it is read again after an hour, and the old one goes on
// while that fails.
func TestChainIsKept(t *testing.T) {
	s := start(t, basic, adcstest.WebOptions{})
	var reads atomic.Int32
	var broken atomic.Bool
	now := time.Now()
	s.config.Now = func() time.Time { return now }
	between(t, s, func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, ".p7b") {
			reads.Add(1)
		}
		if broken.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
		return broken.Load()
	})
	for want, age := range []time.Duration{0, 59 * time.Minute, 2 * time.Minute} {
		now = now.Add(age)
		if _, err := s.bridge.Chain(t.Context()); err != nil || int(reads.Load()) != []int{1, 1, 2}[want] {
			t.Fatalf("after %v: read %d times, %v", age, reads.Load(), err)
		}
	}
	broken.Store(true)
	now = now.Add(2 * time.Hour)
	if chain, err := s.bridge.Chain(t.Context()); err != nil || len(chain) != 2 {
		t.Errorf("server broken: %d certificates, %v", len(chain), err)
	}
}
