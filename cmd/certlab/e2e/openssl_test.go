//go:build e2e

package e2e

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// Object identifiers as openssl prints them.
var printed = map[string]string{
	"aes": "aes-", "des3": "des-ede3-cbc", "des": "des-cbc", "sha256": "sha256", "sha384": "sha384", "sha512": "sha512", "sha1": "sha1", "sha": "sha",
}

// checkExchange has openssl verify both messages of a PKIOperation, and
// compares what they are encrypted and digested with.
func (w *world) checkExchange(e exchange, cipher, digest string) {
	w.t.Helper()
	need(w.t, "openssl", "openssl")
	if e.status != 200 || e.contentType != "application/x-pki-message" {
		w.t.Errorf("PKIOperation answered %d %s", e.status, e.contentType)
		return
	}
	dir := shortDir(w.t)
	request := w.checkSigned(dir, "request", e.message, digest)
	if got := must(w.t, dir, "openssl", "cms", "-cmsout", "-noout", "-print", "-inform", "DER", "-in", request); !strings.Contains(got, "("+"1.2.840.113549.1.7.3)") || !strings.Contains(strings.ToLower(got), printed[cipher]) {
		w.t.Errorf("the request's envelope is not in %s:\n%s", cipher, got)
	}
	// What devices encrypted opens with the RA's certificate and key.
	must(w.t, dir, "openssl", "cms", "-decrypt", "-inform", "DER", "-in", request,
		"-recip", w.path("ra/encryption.crt.pem"), "-inkey", w.path("ra/encryption.key.pem"), "-out", filepath.Join(dir, "inner"))
	w.checkSigned(dir, "reply", e.answer, digest)
}

// checkSigned has openssl verify a SignedData and returns its content's file.
func (w *world) checkSigned(dir, name string, der []byte, digest string) string {
	w.t.Helper()
	in, out := filepath.Join(dir, name+".der"), filepath.Join(dir, name+".content")
	writeFile(w.t, in, der)
	args := []string{"cms", "-verify", "-noverify", "-inform", "DER", "-in", in, "-out", out, "-signer", filepath.Join(dir, name+".signer")}
	if name == "reply" { // CertRep need not carry its signer's certificate
		args = append(args, "-certfile", w.path("ra/signing.crt.pem"))
		if empty := must(w.t, dir, "openssl", "cms", "-cmsout", "-noout", "-print", "-inform", "DER", "-in", in); strings.Contains(empty, "eContent: <ABSENT>") {
			args = append(args, "-content", "/dev/null") // of FAILURE and PENDING (RFC 8894, section 3.2)
		}
	}
	must(w.t, dir, "openssl", args...)
	text := must(w.t, dir, "openssl", "asn1parse", "-inform", "DER", "-in", in)
	if !strings.Contains(text, ":"+printed[digest]) {
		w.t.Errorf("%s: no %s in\n%s", name, digest, text)
	}
	// messageType, transactionID, senderNonce (RFC 8894, section 3.2.1).
	for _, oid := range []string{"2.16.840.1.113733.1.9.2", "2.16.840.1.113733.1.9.7", "2.16.840.1.113733.1.9.5"} {
		if !strings.Contains(text, oid) {
			w.t.Errorf("%s: attribute %s is missing", name, oid)
		}
	}
	return out
}

// TestOpenSSLReadsEverything has openssl check each object that a device gets.
func TestOpenSSLReadsEverything(t *testing.T) {
	need(t, "openssl", "openssl")
	w := newWorld(t)
	w.start()
	rec := w.record()
	for i, platform := range scepclient.Platforms() {
		key := testkeys.RSA2048(i)
		d := w.device(platform, intunePath)
		d.URL = rec.URL + intunePath
		tx, err := d.Prepare(t.Context(), scepclient.EnrollRequest{Key: key, DER: w.csr(w.challenge(intunetest.Ask{Platform: managed(platform)}), key)})
		if err != nil {
			t.Fatal(err)
		}
		r := send(t, d, tx.Message)
		w.mustIssue(r, key)
		dir := shortDir(t)
		w.openReply(dir, r, tx.Message.Signer.Certificate, writeKey(t, dir+"/key.pem", key))
		digest := "sha256"
		if platform == "ios" || platform == "macos" || platform == "android" {
			digest = "sha512"
		}
		for _, e := range rec.operations("PKIOperation")[i:] {
			w.checkExchange(e, "aes", digest)
		}
	}
	w.checkCACert(rec)
	w.checkFetched(rec)
	w.checkRefusal()
}

// openReply decrypts a CertRep's envelope and lists the certificates in it.
func (w *world) openReply(dir string, r *scepclient.Reply, signer []byte, key string) {
	w.t.Helper()
	envelope := w.checkSigned(dir, "reply", r.Raw, "sha")
	writeFile(w.t, dir+"/signer.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signer}))
	args := []string{"cms", "-decrypt", "-inform", "DER", "-in", envelope, "-inkey", key, "-out", dir + "/certs.p7"}
	if _, err := x509.ParseCertificate(signer); err == nil { // openssl, too, refuses some signers as recipients
		args = append(args, "-recip", dir+"/signer.pem")
	}
	must(w.t, dir, "openssl", args...)
	list := must(w.t, dir, "openssl", "pkcs7", "-inform", "DER", "-in", dir+"/certs.p7", "-print_certs")
	if n := strings.Count(list, "BEGIN CERTIFICATE"); n != 1 {
		w.t.Errorf("%d certificates in the reply, want the issued one alone", n)
	}
	writeFile(w.t, dir+"/issued.pem", []byte(list))
	must(w.t, dir, "openssl", "verify", "-CAfile", w.path("ca/ca.crt.pem"), dir+"/issued.pem")
	if cert := parsePEM(w.t, list); !bytes.Equal(cert.Raw, r.Certificate.Raw) {
		w.t.Error("openssl and our client read different certificates")
	}
}

// checkCACert lists and verifies the answer to GetCACert.
func (w *world) checkCACert(rec *recorder) {
	w.t.Helper()
	dir := shortDir(w.t)
	e := rec.operations("GetCACert")[0]
	if e.contentType != "application/x-x509-ca-ra-cert" {
		w.t.Errorf("GetCACert has Content-Type %s", e.contentType)
	}
	writeFile(w.t, dir+"/ca.p7", e.answer)
	text := must(w.t, dir, "openssl", "pkcs7", "-inform", "DER", "-in", dir+"/ca.p7", "-print_certs")
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		writeFile(w.t, dir+"/one.pem", pem.EncodeToMemory(block))
		must(w.t, dir, "openssl", "verify", "-CAfile", w.path("ca/ca.crt.pem"), dir+"/one.pem")
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			w.t.Fatal(err)
		}
		lint(w.t, cert)
	}
	if n := strings.Count(text, "BEGIN CERTIFICATE"); n != 3 {
		w.t.Errorf("GetCACert has %d certificates, want two of the RA and the root", n)
	}
}

// checkFetched checks GetCRL and GetCert.
func (w *world) checkFetched(*recorder) {
	w.t.Helper()
	dir := shortDir(w.t)
	list := w.crl(staticPath)
	writeFile(w.t, dir+"/ca.crl", list.Raw)
	o := execute(w.t, dir, nil, "openssl", "crl", "-inform", "DER", "-in", "ca.crl", "-noout", "-CAfile", w.path("ca/ca.crt.pem"))
	if o.err != nil || !strings.Contains(o.stdout+o.stderr, "verify OK") {
		w.t.Errorf("openssl does not verify the revocation list: %v %s", o.err, o.stderr)
	}
	d, by, cert := w.holder(staticPath)
	r, err := d.GetCert(w.t.Context(), by, cert)
	if err != nil {
		w.t.Fatal(err)
	}
	if r.Status != scep.Success || !bytes.Equal(r.Certificate.Raw, cert.Raw) {
		w.t.Errorf("GetCert: %s", describe(r))
	}
}

// checkRefusal has openssl verify a signed FAILURE.
func (w *world) checkRefusal() {
	w.t.Helper()
	key := testkeys.RSA2048(5)
	d := w.device("ios", staticPath)
	r, err := d.Enroll(w.t.Context(), scepclient.EnrollRequest{Key: key, DER: w.staticCSR("refused", key, "not the challenge at all")})
	if err != nil {
		w.t.Fatal(err)
	}
	if r.Status != scep.Failure {
		w.t.Fatalf("a wrong challenge got %s", describe(r))
	}
	dir := shortDir(w.t)
	w.checkSigned(dir, "reply", r.Raw, "sha")
	content, err := os.ReadFile(dir + "/reply.content")
	if err != nil || len(content) > 1 {
		w.t.Errorf("a FAILURE has content %s (%v)", hex.EncodeToString(content), err)
	}
}

// wantAttribute has openssl print a SCEP attribute of a reply.
func wantAttribute(t *testing.T, file, oid, value string) {
	t.Helper()
	_, after, found := strings.Cut(must(t, ".", "openssl", "asn1parse", "-inform", "DER", "-in", file), oid)
	lines := strings.SplitN(after, "\n", 4) // rest of the line, SET, the value
	if !found || len(lines) < 4 || !strings.HasSuffix(lines[2], ":"+value) {
		t.Errorf("attribute %s is not %s", oid, value)
	}
}
