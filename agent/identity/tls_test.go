package identity_test

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/identity"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/secret"
)

func (w *world) tlsConfig() identity.TLSConfig {
	return identity.TLSConfig{
		Name: "listener devices", Hosts: []string{"scep.corp.example", "192.0.2.7"}, Folder: w.path("identity/tls-devices"),
		Chain: identity.NewChain(w.ca.Chain, w.clock.Now), Renew: identity.Renewal{Direct: w.ca.direct}, Clock: w.clock.Now, Log: w.logger,
	}
}

func (w *world) openTLS(cfg identity.TLSConfig) *identity.TLS {
	w.t.Helper()
	own, err := identity.OpenTLS(w.t.Context(), cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return own
}

func (w *world) leaf(own *identity.TLS) *x509.Certificate {
	w.t.Helper()
	c, err := own.GetCertificate(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return c.Leaf
}

func TestTLSIsMadeAtTheFirstStartAndRenewed(t *testing.T) {
	w := newWorld(t)
	own := w.openTLS(w.tlsConfig())
	first := w.leaf(own)
	if err := first.VerifyHostname("scep.corp.example"); err != nil {
		t.Error(err)
	}
	if !w.leaf(w.openTLS(w.tlsConfig())).Equal(first) {
		t.Error("made anew at the second start")
	}
	w.clock.Add(260 * day)
	w.tend(own)
	if !w.leaf(own).Equal(first) {
		t.Error("renewed before its time")
	}
	w.clock.Add(10 * day)
	w.tend(own)
	second := w.leaf(own)
	if second.Equal(first) || !w.leaf(w.openTLS(w.tlsConfig())).Equal(second) {
		t.Error("not renewed, or forgotten")
	}
	if i := item(t, own, identity.KindTLS); !i.Managed || i.Source != w.path("identity/tls-devices/0002") {
		t.Errorf("row %+v", i)
	}
	for range 3 {
		w.clock.Add(280 * day)
		w.tend(own)
	}
	if folders, err := os.ReadDir(w.path("identity/tls-devices")); err != nil || len(folders) != 2 {
		t.Errorf("%d generations are kept, want two: %v", len(folders), err)
	}
}

func TestTLSFilesArePrivate(t *testing.T) {
	w := newWorld(t)
	w.openTLS(w.tlsConfig())
	files, err := filepath.Glob(w.path("identity/tls-devices/0001/*"))
	if err != nil || len(files) != 4 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		if err := secret.CheckPrivate(f); err != nil {
			t.Error(err)
		}
	}
}

func TestTLSFollowsNamesAndCA(t *testing.T) {
	w := newWorld(t)
	w.openTLS(w.tlsConfig())
	cfg := w.tlsConfig()
	cfg.Hosts = []string{"new.corp.example"}
	own := w.openTLS(cfg)
	w.tend(own)
	if err := w.leaf(own).VerifyHostname("new.corp.example"); err != nil {
		t.Error(err)
	}
	w.ca.renew(10*365*day, "Issuing CA 2")
	w.clock.Add(25 * time.Hour)
	w.tend(own)
	if got := w.leaf(own).Issuer.CommonName; got != "Issuing CA 2" {
		t.Errorf("issued by %q", got)
	}
	before := w.leaf(own)
	w.clock.Add(time.Hour)
	if err := own.Renew(t.Context()); err != nil || w.leaf(own).Equal(before) {
		t.Errorf("not renewed when somebody asked: %v", err)
	}
}

func TestTLSWithoutACAIsNoStart(t *testing.T) {
	w := newWorld(t)
	w.ca.set(ca.ErrUnavailable)
	if _, err := identity.OpenTLS(t.Context(), w.tlsConfig()); err == nil {
		t.Fatal("a listener without a certificate")
	}
	w.ca.set(nil)
	own := w.openTLS(w.tlsConfig())
	w.ca.set(ca.ErrUnavailable)
	w.clock.Add(300 * day)
	if err := own.Tend(t.Context()); err == nil || !strings.Contains(err.Error(), "two thirds") {
		t.Errorf("got %v", err)
	}
	if !w.leaf(w.openTLS(w.tlsConfig())).Equal(w.leaf(own)) {
		t.Error("a restart while the CA is down serves another certificate")
	}
}

func TestTLSHandshake(t *testing.T) {
	w := newWorld(t)
	roots := x509.NewCertPool()
	chain, err := w.ca.Chain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	roots.AddCert(chain[len(chain)-1])
	own := w.openTLS(w.tlsConfig())
	client, server := net.Pipe()
	defer client.Close()
	go func() {
		defer server.Close()
		_ = tls.Server(server, &tls.Config{GetCertificate: own.GetCertificate, Time: w.clock.Now}).HandshakeContext(t.Context())
	}()
	if err := tls.Client(client, &tls.Config{ServerName: "scep.corp.example", RootCAs: roots, Time: w.clock.Now}).HandshakeContext(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestARemovalThatWasCutOffIsFinished: a power failure while an old generation
// is removed leaves neither keys nor half a generation behind.
func TestARemovalThatWasCutOffIsFinished(t *testing.T) {
	w := newWorld(t)
	own := w.openTLS(w.tlsConfig())
	left := w.path("identity/tls-devices/dropped")
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	w.write(filepath.Join(left, "tls.key.pem"), []byte("a key"))
	for range 3 {
		if err := own.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(w.path("identity/tls-devices"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if got := strings.Join(names, " "); got != "0003 0004" {
		t.Errorf("the folder holds %s, want the newest two generations", got)
	}
	if err := os.Mkdir(left, 0o700); err != nil {
		t.Fatal(err)
	}
	w.openTLS(w.tlsConfig())
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("still there after a start: %v", err)
	}
}
