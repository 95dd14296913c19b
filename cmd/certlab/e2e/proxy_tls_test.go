//go:build e2e

package e2e

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"time"

	"github.com/certconnector/certconnector/internal/testkeys"
)

// deviceKey is the key of devices that get no certificate.
var deviceKey = testkeys.RSA2048(5)

// makeTLS writes a certificate for 127.0.0.1 and its key, tls.crt.pem and
// tls.key.pem. The CA that devices trust has signed it: certmonger holds a
// server's certificate against the CA of the SCEP service.
func (w *world) makeTLS(dir string) {
	t := w.t
	t.Helper()
	ca, err := tls.LoadX509KeyPair(w.path("ca/ca.crt.pem"), w.path("ca/ca.key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "127.0.0.1"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, w.root, testkeys.RSA2048(7).Public(), ca.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+"/tls.crt.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	if der, err = x509.MarshalPKCS8PrivateKey(testkeys.RSA2048(7)); err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+"/tls.key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// deviceAt is a device that connects from an address of the loopback network.
func (w *world) deviceAt(address string) *asker {
	pool := x509.NewCertPool()
	pool.AddCert(w.root)
	transport := &http.Transport{
		DialContext:     (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}).DialContext,
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
	}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &asker{t: w.t, http: &http.Client{Transport: transport, Timeout: 2 * time.Minute}}
}
