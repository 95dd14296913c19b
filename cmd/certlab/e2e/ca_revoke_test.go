//go:build e2e

package e2e

import (
	"crypto/x509"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/ca/adcstest"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// TestADCSRevokes revokes by our command over the administration interface:
// the CA's database has it, and openssl finds serial and reason in the list
// that a device gets over SCEP.
func TestADCSRevokes(t *testing.T) {
	c := newCorp(t, overDCOM)
	c.start()
	key := testkeys.RSA2048(1)
	device, tx := c.atStatic(overDCOM, "static", key)
	cert := c.mustIssue(until(t, device, tx.Message, scep.Success), key)
	revoke := func(args ...string) (string, error) { return c.command(append([]string{"revoke"}, args...)...) }
	if out, err := revoke("--ca", overDCOM, serialText(cert), "--reason", "keyCompromise"); err != nil || !strings.Contains(out, "is revoked") {
		t.Fatalf("revoke: %v\n%s", err, out)
	}
	row := c.row(cert)
	if row.Disposition != adcstest.DispositionRevoked || row.Reason != 1 || row.RevokedAt.IsZero() {
		t.Errorf("the CA's database has disposition %d, reason %d, revoked %v", row.Disposition, row.Reason, row.RevokedAt)
	}
	for _, caller := range c.rpc.Callers() {
		if caller.Mechanism != "Kerberos" || caller.Level != 6 {
			t.Errorf("somebody called by %v", caller)
		}
	}

	// Who asks must have a certificate that is good.
	otherKey := testkeys.RSA2048(2)
	device, tx = c.atStatic(overDCOM, "static", otherKey)
	other := c.mustIssue(until(t, device, tx.Message, scep.Success), otherKey)
	reply, err := device.GetCRL(t.Context(), scepclient.Identity{Certificate: other.Raw, Key: otherKey}, other)
	if err != nil {
		t.Fatal(err)
	}
	if reply.CRL == nil {
		t.Fatalf("GetCRL: %s", describe(reply))
	}
	dir := shortDir(t)
	writeFile(t, dir+"/list.crl", reply.CRL.Raw)
	writeFile(t, dir+"/issuer.pem", chainPEM(c.mock.Certificate(), c.mock.Root()))
	o := execute(t, dir, nil, "openssl", "crl", "-inform", "DER", "-in", "list.crl", "-noout", "-text", "-CAfile", "issuer.pem")
	_, entry, found := strings.Cut(o.stdout, "Serial Number: "+serialText(cert))
	entry, _, _ = strings.Cut(entry, "Serial Number")
	if !found || !strings.Contains(entry, "Key Compromise") || !strings.Contains(o.stdout+o.stderr, "verify OK") {
		t.Errorf("openssl does not find %s for Key Compromise in a list that verifies\n%s%s", serialText(cert), o.stdout, o.stderr)
	}

	if _, err := revoke("--ca", overDCOM, serialText(cert), "--reason", "keyCompromise"); err != nil {
		t.Errorf("a second revocation is no success: %v", err)
	}
	if _, err := revoke("--ca", overDCOM, "0123456789ABCDEF", "--reason", "keyCompromise"); err == nil {
		t.Error("a serial number that was never issued was revoked")
	}
	for _, bridge := range []string{overICPR, overWeb, overSOAP} {
		if _, err := revoke("--ca", bridge, serialText(cert)); err == nil || !strings.Contains(err.Error(), "cannot revoke") {
			t.Errorf("revoke over %s says %v, want that it cannot", bridge, err)
		}
	}
}

// row is a certificate's row in the CA's database.
func (c *corp) row(cert *x509.Certificate) adcstest.Row {
	c.t.Helper()
	for _, r := range c.mock.Rows() {
		if string(r.Certificate) == string(cert.Raw) {
			return r
		}
	}
	c.t.Fatal("the CA does not know the certificate")
	return adcstest.Row{}
}
