package embedded_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/embedded"
)

func newDistribution(t testing.TB, cas ...*embedded.CA) *embedded.Distribution {
	t.Helper()
	d, err := embedded.NewDistribution(embedded.DistributionConfig{CAs: cas})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// ask sends a request with headers in pairs.
func ask(t testing.TB, h http.Handler, method, target string, body []byte, headers ...string) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, bytes.NewReader(body))
	for pair := range slices.Chunk(headers, 2) {
		r.Header.Set(pair[0], pair[1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func TestDistribution(t *testing.T) {
	at := startOf2031()
	authority, _ := publishingCA(t, at, nil)
	d := newDistribution(t, authority)
	want := []string{"/ca+.crl", "/ca.cer", "/ca.crl", "/crl/lab+.crl", "/crl/lab.cer", "/crl/lab.crl"}
	if got := d.Paths(); !slices.Equal(got, want) {
		t.Errorf("paths %q, want %q", got, want)
	}
	if d.Serves("/scep") || d.Serves("/crl/") || !d.Serves("/ca+.crl") {
		t.Error("it claims what is not its own, or leaves what is")
	}
	if got := ask(t, d, "GET", "/ca.crl", nil); got.StatusCode != http.StatusServiceUnavailable || got.Header.Get("Retry-After") == "" {
		t.Errorf("status %d before the first list was made", got.StatusCode)
	}
	list, delta := currentCRL(t, authority), mustDelta(t, authority)
	chain, err := authority.Chain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		path, kind string
		want       []byte
	}{
		{"/ca.crl", "application/pkix-crl", list.Raw},
		{"/crl/lab.crl", "application/pkix-crl", list.Raw},
		{"/ca+.crl", "application/pkix-crl", delta},
		{"/crl/lab+.crl", "application/pkix-crl", delta},
		{"/ca.cer", "application/pkix-cert", chain[0].Raw},
		{"/crl/lab.cer", "application/pkix-cert", chain[0].Raw},
	} {
		got := ask(t, d, "GET", c.path, nil)
		if body := readAll(t, got); got.StatusCode != http.StatusOK || !bytes.Equal(body, c.want) || got.Header.Get("Content-Type") != c.kind {
			t.Errorf("%s: status %d, %d bytes of %s", c.path, got.StatusCode, len(body), got.Header.Get("Content-Type"))
		}
		tag, modified := got.Header.Get("ETag"), got.Header.Get("Last-Modified")
		if tag == "" || modified == "" || got.Header.Get("Expires") != at.at.UTC().Add(5*time.Minute).Format(http.TimeFormat) {
			t.Errorf("%s: headers %v", c.path, got.Header)
		}
		if head := ask(t, d, "HEAD", c.path, nil); head.StatusCode != http.StatusOK || head.Header.Get("ETag") != tag || len(readAll(t, head)) != 0 {
			t.Errorf("%s: HEAD is %d with %v", c.path, head.StatusCode, head.Header)
		}
		if again := ask(t, d, "GET", c.path, nil, "If-None-Match", tag); again.StatusCode != http.StatusNotModified {
			t.Errorf("%s: status %d for the tag", c.path, again.StatusCode)
		}
		if again := ask(t, d, "GET", c.path, nil, "If-Modified-Since", modified); again.StatusCode != http.StatusNotModified {
			t.Errorf("%s: status %d for the time", c.path, again.StatusCode)
		}
		if post := ask(t, d, "POST", c.path, nil); post.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("%s: POST is %d", c.path, post.StatusCode)
		}
	}
	if got := ask(t, d, "GET", "/crl/other.crl", nil); got.StatusCode != http.StatusNotFound {
		t.Errorf("status %d for a list that is not ours", got.StatusCode)
	}
}

func mustDelta(t *testing.T, authority *embedded.CA) []byte {
	t.Helper()
	list, _ := currentDelta(t, authority)
	return list.Raw
}

func readAll(t testing.TB, r *http.Response) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := b.ReadFrom(r.Body); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestRequestsMakeNoLists asks when another list is due: only Run makes it.
func TestRequestsMakeNoLists(t *testing.T) {
	at := startOf2031()
	authority, reg := publishingCA(t, at, nil)
	d := newDistribution(t, authority)
	first := currentCRL(t, authority)
	issueRevoked(t, authority)
	at.at = at.at.Add(8 * day)
	for range 3 {
		if got := ask(t, d, "GET", "/ca.crl", nil); !bytes.Equal(readAll(t, got), first.Raw) || !strings.Contains(got.Header.Get("Cache-Control"), "max-age=0") {
			t.Errorf("another list, or one that has ended may be kept: %v", got.Header)
		}
	}
	if n, err := reg.NextCRLNumber(t.Context(), "lab"); err != nil || n != 2 {
		t.Errorf("requests used numbers up to %d, %v", n-1, err)
	}
}

func TestRunMakesLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := &clock{time.Now()}
		authority, reg := publishingCA(t, at, func(cfg *embedded.Config) { cfg.Clock = time.Now })
		d := newDistribution(t, authority)
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- d.Run(ctx) }()
		served := func() *x509.RevocationList {
			t.Helper()
			synctest.Wait()
			list, err := x509.ParseRevocationList(readAll(t, ask(t, d, "GET", "/ca.crl", nil)))
			if err != nil {
				t.Fatal(err)
			}
			return list
		}
		want := func(what string, number int64, entries int) {
			t.Helper()
			if got := served(); got.Number.Int64() != number || len(got.RevokedCertificateEntries) != entries {
				t.Errorf("%s: list %v with %d entries, want %d with %d", what, got.Number, len(got.RevokedCertificateEntries), number, entries)
			}
		}
		want("at the start", 1, 0)
		for range 5 {
			issueRevoked(t, authority)
		}
		time.Sleep(2 * time.Second)
		want("two seconds after five revocations", 2, 5)

		// Another machine revokes: its register is this one's.
		other := issueOne(t, authority)
		if err := reg.RevokeCertificate(t.Context(), "lab", other.SerialNumber, ca.Superseded, time.Now()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Minute)
		want("minutes after another machine's revocation", 3, 6)

		// The CA cannot sign; the last list is served, and soon the next.
		issueRevoked(t, authority)
		reg.Break("NextCRLNumber", errDisk, false)
		time.Sleep(2 * time.Second)
		want("while the register fails", 3, 6)
		time.Sleep(2 * time.Minute)
		want("when it works again", 4, 7)

		before := served().Number.Int64()
		time.Sleep(4 * day)
		if got := served(); got.Number.Int64() <= before || time.Until(got.NextUpdate) < 3*day {
			t.Errorf("list %v ends %v, %v", got.Number, got.NextUpdate, time.Now())
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestPathsOfTwoCAs(t *testing.T) {
	at := startOf2031()
	one, _ := publishingCA(t, at, nil)
	two, _ := publishingCA(t, at, func(cfg *embedded.Config) { cfg.Name = "other" })
	if _, err := embedded.NewDistribution(embedded.DistributionConfig{CAs: []*embedded.CA{one, two}}); err == nil || !strings.Contains(err.Error(), `"/ca.crl"`) {
		t.Errorf("two CAs at one address: %v", err)
	}
	three, _ := publishingCA(t, at, func(cfg *embedded.Config) {
		cfg.Name, cfg.CRLURLs, cfg.DeltaCRLURLs, cfg.IssuerURLs = "third", []string{"ldap:///CN=x", "http://pki.contoso.example/"}, nil, nil
	})
	if d := newDistribution(t, one, three); !d.Serves("/crl/third.crl") || d.Serves("/") || d.Serves("/crl/third+.crl") {
		t.Errorf("paths %q", d.Paths())
	}
}

// TestCurlAndOpenSSL fetch a list as the programs of other people do.
func TestCurlAndOpenSSL(t *testing.T) {
	for _, tool := range []string{"curl", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	authority, _ := publishingCA(t, &clock{time.Now()}, nil)
	issueRevoked(t, authority)
	currentCRL(t, authority)
	server := httptest.NewServer(newDistribution(t, authority))
	defer server.Close()
	dir := t.TempDir()
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	list, root := filepath.Join(dir, "list.crl"), filepath.Join(dir, "root.cer")
	curl := func(args ...string) string { // whatever proxy the environment names
		t.Helper()
		return run("curl", append([]string{"-sS", "--noproxy", "*"}, args...)...)
	}
	curl("--fail", "-o", root, server.URL+"/ca.cer")
	run("openssl", "x509", "-inform", "DER", "-in", root, "-out", root+".pem")
	curl("--fail", "--etag-save", filepath.Join(dir, "tag"), "-o", list, server.URL+"/ca.crl")
	if text := run("openssl", "crl", "-inform", "DER", "-in", list, "-CAfile", root+".pem", "-noout", "-verify", "-text"); !strings.Contains(text, "verify OK") || !strings.Contains(text, "X509v3 Freshest CRL") {
		t.Error(text)
	}
	if code := curl("--etag-compare", filepath.Join(dir, "tag"), "-w", "%{http_code}", "-o", os.DevNull, server.URL+"/ca.crl"); code != "304" {
		t.Errorf("conditional GET: %s", code)
	}
	if text := curl("-I", server.URL+"/ca+.crl"); !strings.Contains(text, "200 OK") || !strings.Contains(text, "application/pkix-crl") {
		t.Error(text)
	}
}
