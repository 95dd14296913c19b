package demo

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/certconnector/certconnector/installer/firstrun"
)

// Names of the configuration.
const (
	tenantName = "intune"  // as "certconnector init" calls it
	corpCA     = "issuing" // as "certlab adcs" calls it
	corpPath   = "/scep/corp"

	corpTemplate   = "IntuneDevice"
	corpSigning    = "ConnectorSigning"
	corpEncryption = "CEPEncryption"
)

// Files and folders beside the connector's.
const (
	corpFolder  = "corp"
	queueRoot   = "queue-root.pem"
	queueClient = "queue-client" // .pem and .key: what the connector shows to the queue
	recipient   = "recipient"    // .pem and .key: whom keys are sealed to
)

// makeKeys makes what somebody else would bring: the certificate that the
// queue knows the connector by, and the recipient's.
func (w *world) makeKeys() error {
	client, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making a key: %w", err)
	}
	if err := w.selfSigned(queueClient, client, x509.KeyUsageDigitalSignature, x509.ExtKeyUsageClientAuth); err != nil {
		return err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("making a key: %w", err)
	}
	return w.selfSigned(recipient, key, x509.KeyUsageKeyEncipherment)
}

func (w *world) selfSigned(name string, key crypto.Signer, usage x509.KeyUsage, ekus ...x509.ExtKeyUsage) error {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, KeyUsage: usage, ExtKeyUsage: ekus,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fmt.Errorf("making the certificate %s: %w", name, err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("making the certificate %s: %w", name, err)
	}
	for _, f := range []struct {
		name, kind string
		der        []byte
	}{{name + ".pem", "CERTIFICATE", der}, {name + ".key", "PRIVATE KEY", secret}} {
		if err := os.WriteFile(w.path(f.name), pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.der}), 0o600); err != nil {
			return fmt.Errorf("making the certificate %s: %w", name, err)
		}
	}
	return nil
}

// configure lets devices wait a second only, has the sign-in certificate
// managed, the tenant asked for revocations and the queue for jobs, and adds an
// endpoint that keeps certificates for seconds only and one of the Microsoft CA.
func (w *world) configure() error {
	b, err := os.ReadFile(w.made.ConfigFile)
	if err != nil {
		return fmt.Errorf("reading the configuration: %w", err)
	}
	cas, err := w.corpCAs()
	if err != nil {
		return err
	}
	text := string(b)
	const credential, endpoint, journal = "credential: {certificate: entra/entra.crt.pem, key: entra/entra.key.pem}", "endpoints:\n  - name: devices\n", "\njournal:"
	for _, e := range []struct{ at, put string }{
		{credential, "credential: {managed: {host: connector.contoso.example}}\n    revocation: {interval: 1s}"},
		{"\ncas:\n", "\ncas:\n" + cas},
		{endpoint, endpoint + "    answer_within: 1s\n"},
		{journal, w.moreText() + journal},
	} {
		if strings.Count(text, e.at) != 1 {
			return fmt.Errorf("%s has another form than this certlab knows: are certlab and certconnector of one version?", w.made.ConfigFile)
		}
		text = strings.Replace(text, e.at, e.put, 1)
	}
	if err := os.MkdirAll(filepath.Join(w.path(connectorFolder), corpFolder), 0o700); err != nil { // for the RA's certificates
		return fmt.Errorf("writing the configuration: %w", err)
	}
	if err := os.WriteFile(w.made.ConfigFile, []byte(text), 0o600); err != nil {
		return fmt.Errorf("writing the configuration: %w", err)
	}
	return nil
}

// corpCAs is the way over DCOM, of those that the Microsoft CA's sample has.
func (w *world) corpCAs() (string, error) {
	b, err := os.ReadFile(filepath.Join(w.path(corpFolder), "cas.yaml"))
	if err != nil {
		return "", fmt.Errorf("reading how to reach the Microsoft CA: %w", err)
	}
	_, text, found := strings.Cut(string(b), "cas:\n")
	text, _, more := strings.Cut(text, "  - name: "+corpCA+"-web")
	if !found || !more || !strings.HasPrefix(text, "  - name: "+corpCA+"\n") {
		return "", fmt.Errorf("cas.yaml of the Microsoft CA has another form than this certlab knows")
	}
	return text, nil
}

// moreText are the endpoints that are added, and the source of jobs.
func (w *world) moreText() string {
	return fmt.Sprintf(`
  - name: impatient
    path: %[1]s
    ca: %[2]s
    templates: {general: device}
    policy: {intune: {tenant: %[3]s}}
    answer_within: 1s
    withhold_for: %[4]s
    ra:
      signing: {certificate: ra/signing.crt.pem, key: ra/signing.key.pem}
      encryption: {certificate: ra/encryption.crt.pem, key: ra/encryption.key.pem}
  - name: corp
    path: %[5]s
    ca: %[6]s
    templates: {general: %[7]s}
    policy: {intune: {tenant: %[3]s}}
    ra:
      templates: {signing: %[8]s, encryption: %[9]s}
      signing: {certificate: corp/signing.crt.pem, key: corp/signing.key.pem}
      encryption: {certificate: corp/encryption.crt.pem, key: corp/encryption.key.pem}
jobs:
  sources:
    - name: mail
      queue: {url: %[10]q, certificate: %[11]q, key: %[12]q, ca_file: %[13]q}
      ca: %[2]s
      template: device
      allow: {subject: ["CN=*"], san: ["email:*@contoso.example"]}
      recipients: [{certificate: %[14]q}]
      interval: 1s`,
		impatientPath, firstrun.CAName, tenantName, withholdFor, corpPath, corpCA, corpTemplate, corpSigning, corpEncryption,
		w.info.Queue.URL, w.path(queueClient+".pem"), w.path(queueClient+".key"), w.path(queueRoot), w.path(recipient+".pem"))
}
