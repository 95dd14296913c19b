package agent

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/identity"
	"github.com/certconnector/certconnector/internal/testkeys"
)

// pairFiles writes a self-signed certificate and its key.
func pairFiles(t *testing.T, p KeyPair, name string, key crypto.Signer) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := errors.Join(os.WriteFile(p.Certificate, certificate, 0o600),
		os.WriteFile(p.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600)); err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// A client certificate that somebody has replaced is shown with the next
// question, though a connection was open.
func TestQueueIsAskedWithTheNewCertificate(t *testing.T) {
	folder := t.TempDir()
	var shown []string
	queue := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown = append(shown, r.TLS.PeerCertificates[0].Subject.CommonName)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"value":[]}`)
	}))
	served := KeyPair{Certificate: filepath.Join(folder, "queue.pem"), Key: filepath.Join(folder, "queue.key")}
	root := pairFiles(t, served, "queue", testkeys.P256(0))
	queue.TLS = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{root.Raw}, PrivateKey: testkeys.P256(0)}},
		ClientAuth:   tls.RequireAnyClientCert, MinVersion: tls.VersionTLS12,
	}
	queue.StartTLS()
	defer queue.Close()

	ours := KeyPair{Certificate: filepath.Join(folder, "ours.pem"), Key: filepath.Join(folder, "ours.key")}
	pairFiles(t, ours, "old", testkeys.P256(1))
	a := &Agent{cfg: Config{}, options: Options{Clock: time.Now}, log: zap.NewNop(), keeper: identity.NewKeeper(identity.Config{})}
	source := JobSource{Name: "mail"}
	source.Queue.URL, source.Queue.CAFile, source.Queue.Certificate, source.Queue.Key = queue.URL, served.Certificate, ours.Certificate, ours.Key
	client, err := a.queueClient(source)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Reconnect()
	ask := func() {
		t.Helper()
		if _, err := client.Download(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
	ask()
	pairFiles(t, ours, "new", testkeys.P256(1))
	ask()
	a.keeper.Tend(t.Context())
	ask()
	if got := strings.Join(shown, " "); got != "old old new" {
		t.Errorf("shown: %s", got)
	}
}
