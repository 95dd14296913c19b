//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/freeport"
)

// neighbourName is the DNS name in the client certificate of neighbours.
const neighbourName = "front.example.test"

// neighbours writes what machines know each other by to a folder: a root, a
// certificate of the server "localhost" and one of the client.
func neighbours(t *testing.T, dir string) {
	t.Helper()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Neighbours"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	rootKey := neighbour(t, dir, "root", root, nil, nil)
	neighbour(t, dir, "server", &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{"localhost"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore: root.NotBefore, NotAfter: root.NotAfter,
	}, root, rootKey)
	neighbour(t, dir, "client", &x509.Certificate{
		SerialNumber: big.NewInt(3), DNSNames: []string{neighbourName}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		NotBefore: root.NotBefore, NotAfter: root.NotAfter,
	}, root, rootKey)
}

func neighbour(t *testing.T, dir, name string, template, parent *x509.Certificate, signer *ecdsa.PrivateKey) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	writeFile(t, filepath.Join(dir, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	return key
}

// neighbourClient speaks mutual TLS with what neighbours wrote; without a
// certificate of its own where shown is false.
func neighbourClient(t *testing.T, dir string, shown bool) *http.Client {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "root.pem"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := &tls.Config{RootCAs: x509.NewCertPool()}
	cfg.RootCAs.AppendCertsFromPEM(text)
	if shown {
		pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "client.pem"), filepath.Join(dir, "client.key"))
		if err != nil {
			t.Fatal(err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	// A connection of its own for each call: the other side dies at times.
	return &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}}
}

// invite adds a listener with mutual TLS to a connector that does not run, and
// further keys at the end of its configuration. It returns the address.
func (w *world) invite(face, more string) string {
	w.t.Helper()
	if err := os.Mkdir(w.neighbours(), 0o700); err != nil {
		w.t.Fatal(err)
	}
	neighbours(w.t, w.neighbours())
	address := freeport.ForTest(w.t)
	w.edit(func(text string) string {
		return strings.Replace(text, "listeners:\n", fmt.Sprintf(`listeners:
  - {name: neighbours, address: %q, faces: [%s], client_ca: neighbours/root.pem, tls: {certificate: neighbours/server.pem, key: neighbours/server.key}}
`, address, face), 1) + more
	})
	return strings.Replace("https://"+address, "127.0.0.1", "localhost", 1)
}

// neighbours is the folder of what invite wrote.
func (w *world) neighbours() string { return w.path("neighbours") }
