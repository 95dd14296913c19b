package agent_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/installer/firstrun"
	"github.com/certconnector/certconnector/internal/testkeys"
)

// Who relies on a certificate finds list, responder and issuer at the addresses
// that stand in it, and hears of a revocation.
func TestRelyingPartiesHearOfARevocation(t *testing.T) {
	s := install(t, firstrun.Options{Policy: firstrun.PolicyStatic})
	address := freePort(t)
	s.cfg.Listeners = append(s.cfg.Listeners, agent.Listener{
		Name: "relying-parties", Address: address, Faces: []string{agent.FaceCRL, agent.FaceOCSP}, PlainHTTP: true,
	})
	e := s.cfg.CAs[0].Embedded
	e.CRLURL, e.IssuerURL, e.OCSPURL = "http://"+address+"/pki/lab.crl", "http://"+address+"/pki/lab.cer", "http://"+address+"/ocsp"
	if err := s.cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	s.start()
	reply := s.ask(testkeys.RSA2048(0), "laptop", s.challenge())
	s.wantCertificate(reply)
	cert := reply.Certificate

	issuer, err := x509.ParseCertificate(fetch(t, cert.IssuingCertificateURL[0]))
	if err != nil || cert.CheckSignatureFrom(issuer) != nil {
		t.Fatalf("the issuer at its address: %v", err)
	}
	if got := askOCSP(t, cert, issuer); got != ocsp.Good {
		t.Errorf("OCSP says %d before the revocation", got)
	}
	if err := s.running.Revoke(t.Context(), s.cfg.CAs[0].Name, cert.SerialNumber.Text(16), ca.KeyCompromise); err != nil {
		t.Fatal(err)
	}
	if got := askOCSP(t, cert, issuer); got != ocsp.Revoked {
		t.Errorf("OCSP says %d after the revocation", got)
	}
	listed := false
	for deadline := time.Now().Add(patience); !listed && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		list, err := x509.ParseRevocationList(fetch(t, cert.CRLDistributionPoints[0]))
		if err != nil || list.CheckSignatureFrom(issuer) != nil {
			t.Fatalf("the list at its address: %v", err)
		}
		for _, r := range list.RevokedCertificateEntries {
			listed = listed || r.SerialNumber.Cmp(cert.SerialNumber) == 0 && r.ReasonCode == int(ca.KeyCompromise)
		}
	}
	if !listed {
		t.Error("the list does not name the revoked certificate")
	}
	s.mustStop()
	b, err := os.ReadFile(e.Certificate)
	if block, _ := pem.Decode(b); err != nil || !bytes.Equal(block.Bytes, issuer.Raw) {
		t.Error("the certificate at the issuer's address is another")
	}
}

func fetch(t *testing.T, url string) []byte {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", url, resp.Status, err)
	}
	return b
}

func askOCSP(t *testing.T, cert, issuer *x509.Certificate) int {
	t.Helper()
	question, err := ocsp.CreateRequest(cert, issuer, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(cert.OCSPServer[0], "application/ocsp-request", bytes.NewReader(question))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := ocsp.ParseResponseForCert(b, cert, issuer)
	if err != nil {
		t.Fatalf("%s: %v", resp.Status, err)
	}
	return answer.Status
}
