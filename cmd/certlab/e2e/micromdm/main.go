// Command micromdm enrols with the code of micromdm's scepclient, but in AES:
// the program itself always encrypts with single DES, which a server must
// refuse. It has a module of its own so that its requirements stay out of the
// connector's.
//
//	micromdm -url URL -key FILE -out FILE [-cert FILE] [-challenge TEXT] [-cn NAME] [-dns NAME] [-cipher aes128|aes256]
//
// With -cert it renews (RenewalReq), signed with that certificate and -key,
// for the key in -newkey. It exits with 0 when a certificate was written.
package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"time"

	"github.com/micromdm/scep/v2/cryptoutil/x509util"
	"github.com/smallstep/pkcs7"
	"github.com/smallstep/scep"
)

type options struct {
	url, key, newKey, cert, out, challenge, cn, dns, cipher string
}

func main() {
	var o options
	flag.StringVar(&o.url, "url", "", "endpoint")
	flag.StringVar(&o.key, "key", "", "PEM file with the key that signs")
	flag.StringVar(&o.newKey, "newkey", "", "renewal: PEM file with the new key")
	flag.StringVar(&o.cert, "cert", "", "renewal: PEM file with the old certificate")
	flag.StringVar(&o.out, "out", "", "file for the certificate")
	flag.StringVar(&o.challenge, "challenge", "", "challenge password")
	flag.StringVar(&o.cn, "cn", "", "common name")
	flag.StringVar(&o.dns, "dns", "", "DNS name")
	flag.StringVar(&o.cipher, "cipher", "aes128", "aes128 or aes256")
	flag.Parse()
	if err := o.run(); err != nil {
		fmt.Fprintln(os.Stderr, "micromdm:", err)
		os.Exit(1)
	}
}

func (o options) run() error {
	pkcs7.ContentEncryptionAlgorithm = pkcs7.EncryptionAlgorithmAES128CBC
	if o.cipher == "aes256" {
		pkcs7.ContentEncryptionAlgorithm = pkcs7.EncryptionAlgorithmAES256CBC
	}
	key, err := readKey(o.key)
	if err != nil {
		return err
	}
	subjectKey := key
	if o.newKey != "" {
		if subjectKey, err = readKey(o.newKey); err != nil {
			return err
		}
	}
	csr, err := o.csr(subjectKey)
	if err != nil {
		return err
	}
	kind, signer := scep.PKCSReq, (*x509.Certificate)(nil)
	if o.cert == "" {
		signer, err = selfSigned(key, csr)
	} else {
		kind = scep.RenewalReq
		signer, err = readCertificate(o.cert)
	}
	if err != nil {
		return err
	}
	cert, err := o.exchange(kind, csr, signer, key)
	if err != nil {
		return err
	}
	return os.WriteFile(o.out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), 0o600)
}

// csr makes the request as scepclient does.
func (o options) csr(key *rsa.PrivateKey) (*x509.CertificateRequest, error) {
	der, err := x509util.CreateCertificateRequest(rand.Reader, &x509util.CertificateRequest{
		CertificateRequest: x509.CertificateRequest{
			Subject: pkix.Name{CommonName: o.cn}, DNSNames: []string{o.dns}, SignatureAlgorithm: x509.SHA256WithRSA,
		},
		ChallengePassword: o.challenge,
	}, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificateRequest(der)
}

func (o options) exchange(kind scep.MessageType, csr *x509.CertificateRequest, signer *x509.Certificate, key *rsa.PrivateKey) (*x509.Certificate, error) {
	body, err := receive(http.Get(o.url + "?operation=GetCACert&message=ca"))
	if err != nil {
		return nil, err
	}
	known, err := scep.CACerts(body)
	if err != nil {
		return nil, err
	}
	message, err := scep.NewCSRRequest(csr, &scep.PKIMessage{
		MessageType: kind, Recipients: known, SignerKey: key, SignerCert: signer,
	}, scep.WithCertsSelector(scep.EnciphermentCertsSelector()))
	if err != nil {
		return nil, err
	}
	body, err = receive(http.Post(o.url+"?operation=PKIOperation", "application/octet-stream", bytes.NewReader(message.Raw)))
	if err != nil {
		return nil, err
	}
	reply, err := scep.ParsePKIMessage(body, scep.WithCACerts(known))
	if err != nil {
		return nil, err
	}
	if reply.PKIStatus != scep.SUCCESS {
		return nil, fmt.Errorf("pkiStatus %s, failInfo %s", reply.PKIStatus, reply.FailInfo)
	}
	if err := reply.DecryptPKIEnvelope(signer, key); err != nil {
		return nil, err
	}
	return reply.CertRepMessage.Certificate, nil
}

func receive(resp *http.Response, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(resp.Status)
	}
	return io.ReadAll(resp.Body)
}

func selfSigned(key *rsa.PrivateKey, csr *x509.CertificateRequest) (*x509.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: csr.Subject,
		NotBefore: time.Now().Add(-10 * time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func readPEM(file string) ([]byte, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s is not PEM", file)
	}
	return block.Bytes, nil
}

func readKey(file string) (*rsa.PrivateKey, error) {
	der, err := readPEM(file)
	if err != nil {
		return nil, err
	}
	return x509.ParsePKCS1PrivateKey(der)
}

func readCertificate(file string) (*x509.Certificate, error) {
	der, err := readPEM(file)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
