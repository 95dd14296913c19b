//go:build e2e

package e2e

import (
	"crypto/x509"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// holder enrols a device at the static endpoint, which may then ask for
// certificates and revocation lists.
func (w *world) holder(path string) (*scepclient.Client, scepclient.Identity, *x509.Certificate) {
	w.t.Helper()
	key := testkeys.RSA2048(7)
	d := w.device("macos", path)
	r, err := d.Enroll(w.t.Context(), scepclient.EnrollRequest{Key: key, DER: w.staticCSR("holder", key, w.static)})
	if err != nil {
		w.t.Fatal(err)
	}
	cert := w.mustIssue(r, key)
	return d, scepclient.Identity{Certificate: cert.Raw, Key: key}, cert
}

// crl is the revocation list that a device gets.
func (w *world) crl(path string) *x509.RevocationList {
	w.t.Helper()
	d, by, cert := w.holder(path)
	r, err := d.GetCRL(w.t.Context(), by, cert)
	if err != nil {
		w.t.Fatal(err)
	}
	if r.CRL == nil {
		w.t.Fatalf("GetCRL: %s", describe(r))
	}
	if err := r.CRL.CheckSignatureFrom(w.root); err != nil {
		w.t.Error(err)
	}
	return r.CRL
}
