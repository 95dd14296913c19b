package webserver_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/internal/webserver"
)

// patience is for what takes a moment on a machine that does nothing else.
const patience = time.Minute

// start serves until the test ends or stop is called; stop returns what Serve
// returned. Without a grace of the test's own a stop has time.
func start(t *testing.T, c webserver.Config) (addr string, stop func() error) {
	t.Helper()
	c.Address = "127.0.0.1:0"
	if c.Grace == 0 {
		c.Grace = patience
	}
	s, err := webserver.Listen(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.WaitForNewcomers(2 * patience)
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	stopped := false
	stop = func() error {
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() {
		if !stopped {
			if err := stop(); err != nil {
				t.Errorf("Serve: %v", err)
			}
		}
	})
	return s.Addr().String(), stop
}

func get(t *testing.T, c *http.Client, url string) (int, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode, string(b)
}

func hello(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "hello") }

func TestLongURLs(t *testing.T) {
	addr, _ := start(t, webserver.Config{Handler: http.HandlerFunc(hello)})
	// A PKIOperation by GET carries the message in the URL (65534 bytes at NDES).
	if code, _ := get(t, http.DefaultClient, "http://"+addr+"/?message="+strings.Repeat("A", 66000)); code != 200 {
		t.Errorf("66,000 bytes: status %d", code)
	}
	// The answer may be lost, since the client is still sending.
	resp, err := http.Get("http://" + addr + "/?message=" + strings.Repeat("A", 200000))
	if err == nil {
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("200,000 bytes: status %d", resp.StatusCode)
		}
	}
}

func TestRequestsInFlightFinish(t *testing.T) {
	entered, news := make(chan struct{}), make(chan struct{})
	addr, stop := start(t, webserver.Config{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(entered)
			select {
			case <-news: // what it was held for, or the server stops
			case <-r.Context().Done():
				t.Error("the request was cut off")
			}
			hello(w, r)
		}),
		OnStop: func() { close(news) },
	})
	body := make(chan string, 1)
	go func() { _, b := get(t, &http.Client{}, "http://"+addr+"/"); body <- b }()
	<-entered
	if err := stop(); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if got := <-body; got != "hello" {
		t.Errorf("got %q", got)
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("a stopped server accepts")
	}
}

func TestGraceHasAnEnd(t *testing.T) {
	entered := make(chan struct{})
	addr, stop := start(t, webserver.Config{
		Grace: 10 * time.Millisecond,
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(entered)
			<-r.Context().Done()
		}),
	})
	go func() {
		if resp, err := http.Get("http://" + addr + "/"); err == nil {
			_ = resp.Body.Close()
		}
	}()
	<-entered
	if err := stop(); err == nil || !strings.Contains(err.Error(), "in flight") {
		t.Errorf("got %v", err)
	}
}

func TestAddressInUse(t *testing.T) {
	addr, _ := start(t, webserver.Config{Handler: http.HandlerFunc(hello)})
	if _, err := webserver.Listen(webserver.Config{Address: addr, Handler: http.HandlerFunc(hello)}); err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("got %v", err)
	}
}

// writePair writes a self-signed certificate for 127.0.0.1.
func writePair(t *testing.T, dir string, serial int64, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pk, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{
		"tls.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pk}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func trusting(version uint16, certs ...*x509.Certificate) *http.Client {
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool, MaxVersion: version}}}
}

// show is a certificate as listeners ask for it: anew for each connection.
func show(dir string) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.pem"), filepath.Join(dir, "tls.key"))
		return &pair, err
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	first := writePair(t, dir, 1, testkeys.P256(0))
	addr, _ := start(t, webserver.Config{GetCertificate: show(dir), Handler: http.HandlerFunc(hello)})
	if _, b := get(t, trusting(tls.VersionTLS12, first), "https://"+addr); b != "hello" {
		t.Errorf("TLS 1.2: got %q", b)
	}
	if _, err := trusting(tls.VersionTLS11, first).Get("https://" + addr); err == nil {
		t.Error("TLS 1.1 was accepted")
	}

	second := writePair(t, dir, 2, testkeys.P256(1))
	if _, b := get(t, trusting(0, second), "https://"+addr); b != "hello" {
		t.Errorf("after the certificate was replaced: got %q", b)
	}
}

func TestClientCertificatesOnlyWhenWanted(t *testing.T) {
	dir := t.TempDir()
	cert := writePair(t, dir, 1, testkeys.P256(0))
	own := show(dir)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	for _, row := range []struct {
		name string
		want bool
		cas  *x509.CertPool
	}{{"devices are never asked", false, nil}, {"a mutual-TLS face asks", true, pool}} {
		t.Run(row.name, func(t *testing.T) {
			addr, _ := start(t, webserver.Config{Handler: http.HandlerFunc(hello), GetCertificate: own, ClientCAs: row.cas})
			asked := false
			c := trusting(0, cert)
			c.Transport.(*http.Transport).TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				asked = true
				return own(nil)
			}
			if _, b := get(t, c, "https://"+addr); b != "hello" || asked != row.want {
				t.Errorf("got %q, asked %v", b, asked)
			}
			// Who shows none still reaches the handler, which can say what is wrong.
			if _, b := get(t, trusting(0, cert), "https://"+addr); b != "hello" {
				t.Errorf("without a certificate: got %q", b)
			}
		})
	}
}
