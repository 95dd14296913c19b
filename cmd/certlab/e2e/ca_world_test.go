//go:build e2e

package e2e

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/ca/adcstest"
	"github.com/certconnector/certconnector/internal/freeport"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// The names in cas of the bridges to one Microsoft CA, and of the roads to it.
const (
	overDCOM = "dcom" // Kerberos by keytab; revokes, searches, approves
	overICPR = "icpr" // plain RPC alone: cannot search
	overWeb  = "web"  // web enrolment, Kerberos
	overSOAP = "soap" // CEP and CES, user name and password
	overBoth = "roads"
)

var bridges = []string{overDCOM, overICPR, overWeb, overSOAP}

// Templates of the CA.
const (
	deviceTemplate    = "IntuneDevice"
	manualTemplate    = "IntuneManual"
	forbiddenTemplate = "IntuneForbidden"
	unknownTemplate   = "NoSuchTemplate"
	signingTemplate   = "ConnectorSigning"
	encryptTemplate   = "CEPEncryption"
)

const caHost = "ca01.corp.test"

// corp is a world whose connector stands before a Microsoft CA, with a KDC and
// all the ways in.
type corp struct {
	*world
	mock *adcstest.CA
	kdc  *adcstest.KDC
	rpc  *adcstest.RPC
	web  *adcstest.Web
	soap *adcstest.SOAP
	gate *valve // before the web pages
}

// bridgePath is an endpoint's path: of a bridge and of what it is for.
func bridgePath(bridge, use string) string { return "/scep/" + bridge + "-" + use }

// domainKDC starts the KDC of the CA's domain. All tests of the bridges begin
// with it; they run with one connector only.
func domainKDC(t *testing.T) *adcstest.KDC {
	t.Helper()
	if splitAsked() {
		t.Skip("the bridges do not depend on who asks Intune")
	}
	return adcstest.StartKDC(t, "CORP.TEST", map[string]string{
		"svc": adcstest.DefaultPassword, "host/" + caHost: "the CA's own", "HTTP/" + caHost: "the web server's own",
	})
}

// newCorp makes a corp with a KDC of its own.
func newCorp(t *testing.T, bridge string) *corp {
	t.Helper()
	return newCorpOf(t, domainKDC(t), bridge)
}

// newCorpOf starts the CA, configures the connector, and has it get its RA
// certificates through a bridge. The connector does not run yet.
func newCorpOf(t *testing.T, kdc *adcstest.KDC, bridge string) *corp {
	t.Helper()
	c := &corp{world: newWorldOf(t, false), kdc: kdc}
	c.startCA()
	c.secret(adcstest.DefaultPassword)
	writeFile(t, c.path("svc.password"), []byte(adcstest.DefaultPassword+"\n"))
	writeFile(t, c.path("chain.pem"), chainPEM(c.mock.Certificate(), c.mock.Root()))
	writeFile(t, c.path("web.pem"), chainPEM(c.web.Certificate))
	keytab, err := os.ReadFile(c.kdc.KeytabFile)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, c.path("svc.keytab"), keytab)
	address := freeport.ForTest(t)
	c.edit(func(text string) string {
		text = strings.Replace(text, strings.TrimPrefix(c.base, "http://"), address, 1)
		text = strings.Replace(text, "\ncas:\n", "\ncas:\n"+c.casText(), 1)
		return strings.Replace(text, "\njournal:", c.endpointsText()+"\njournal:", 1)
	})
	c.base, c.root = "http://"+address, c.mock.Certificate()
	c.enrollRA(bridge)
	return c
}

func chainPEM(certs ...*x509.Certificate) []byte {
	var b []byte
	for _, cert := range certs {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return b
}

// startCA starts the CA and its faces; "svc" is the connector's account.
func (c *corp) startCA() {
	t := c.t
	t.Helper()
	templates := append(adcstest.DefaultTemplates(),
		adcstest.Template{Name: signingTemplate, SubjectFromRequest: true, KeyUsage: x509.KeyUsageDigitalSignature},
		adcstest.Template{Name: encryptTemplate, SubjectFromRequest: true, KeyUsage: x509.KeyUsageKeyEncipherment,
			EKU: []asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 311, 20, 2, 1}}})
	accounts := adcstest.DefaultAccounts()
	accounts[0].Enroll = append(accounts[0].Enroll, signingTemplate, encryptTemplate)
	var err error
	if c.mock, err = adcstest.New(adcstest.Options{
		RSA: true, Host: caHost, Templates: templates, Accounts: accounts, PublishOnRevoke: true,
	}); err != nil {
		t.Fatal(err)
	}
	c.serveRPC(portOf(t, freeport.ForTest(t)))
	if c.web, err = c.mock.ServeCertsrv(adcstest.WebOptions{WebAuth: adcstest.WebAuth{Keytab: c.kdc.KeytabFile}}); err != nil {
		t.Fatal(err)
	}
	if c.soap, err = c.mock.ServeSOAP(adcstest.SOAPOptions{}); err != nil {
		t.Fatal(err)
	}
	c.gate = newValve(t, c.web.Host())
	t.Cleanup(func() {
		_ = c.rpc.Close() // closed before, in some tests
		if err := c.web.Close(); err != nil {
			t.Error(err)
		}
		if err := c.soap.Close(); err != nil {
			t.Error(err)
		}
	})
}

// serveRPC opens the RPC face at a port.
func (c *corp) serveRPC(port int) {
	c.t.Helper()
	var err error
	if c.rpc, err = c.mock.ServeRPC(adcstest.RPCOptions{Keytab: c.kdc.KeytabFile, NoNTLM: true, Port: port}); err != nil {
		c.t.Fatal(err)
	}
}

// casText are the bridges. The SOAP face's root goes to a file here, for its
// certificate is made with it. A request that may still be on its way to the CA
// is not searched for within submit_within and half a minute, so that a death
// there costs as long.
func (c *corp) casText() string {
	policy, err := url.Parse(c.soap.Policy(adcstest.SOAPUser))
	if err != nil {
		c.t.Fatal(err)
	}
	writeFile(c.t, c.path("soap.pem"), serverCertificate(c.t, policy.Host))
	kerberos := fmt.Sprintf("kerberos: {principal: svc@%s, keytab: svc.keytab, krb5_conf: %q", c.kdc.Realm, c.kdc.ConfigFile)
	rpc := fmt.Sprintf("config: '%s', address: 127.0.0.1, endpoint_mapper_port: %d, submit_within: 20s, %s}", c.mock.Config(), c.rpc.EndpointMapperPort(), kerberos)
	return fmt.Sprintf(`  - {name: dcom, chain: chain.pem, adcs: {%[1]s, revoke: csra, approve: true}}
  - {name: icpr, chain: chain.pem, adcs: {%[1]s, issue: [icpr], find: ""}}
  - {name: web, chain: chain.pem, certsrv: {url: "https://%[2]s/certsrv/", ca_file: web.pem, submit_within: 20s, %[3]s, spn: HTTP/%[4]s}}}
  - {name: soap, chain: chain.pem, wstep: {policy: %[5]q, ca_file: soap.pem, submit_within: 20s, user: {user: 'CORP\svc', password: {file: svc.password}}}}
  - {name: roads, chain: chain.pem, roads: [dcom, web]}
`, rpc, c.gate.address, kerberos, caHost, policy)
}

// endpointsText are, for every bridge, a static endpoint, one that asks
// Intune, and one for each template that does not issue at once.
func (c *corp) endpointsText() string {
	const static = "policy: {static: {challenge: {file: challenge}, allow_static_challenge: true}}\n    allow: {subject: [\"*\"], san: [\"*\"]}"
	const intune = "policy: {intune: {tenant: intune}}\n    allow: {eku: [clientAuth, " + ipsecTunnel + "]}"
	var b strings.Builder
	for _, bridge := range append([]string{overBoth}, bridges...) {
		for _, e := range []struct{ use, policy, template, more string }{
			{"static", static, deviceTemplate, "\n    renewal: {without_challenge: true}"},
			{"intune", intune, deviceTemplate, ""},
			{"soon", intune, deviceTemplate, "\n    " + soonAnswer},
			{"manual", static, manualTemplate, "\n    " + soonAnswer},
			{"forbidden", intune, forbiddenTemplate, ""},
			{"unknown", intune, unknownTemplate, ""},
		} {
			text := endpointIn(bridge+"-"+e.use, bridgePath(bridge, e.use), e.policy, "templates: {general: "+e.template+"}"+e.more)
			text = strings.Replace(text, "ca: "+caName, "ca: "+bridge, 1)
			b.WriteString(strings.ReplaceAll(text, " ra/", " corp/"))
		}
	}
	return b.String()
}

// enrollRA has the CA sign the RA's certificates, which all endpoints share.
func (c *corp) enrollRA(bridge string) {
	c.t.Helper()
	if err := os.MkdirAll(c.path("corp"), 0o700); err != nil {
		c.t.Fatal(err)
	}
	if out, err := c.command("ra", "enroll", "--endpoint", bridge+"-static", "--hostname", "scep.corp.test",
		"--signing-template", signingTemplate, "--encryption-template", encryptTemplate); err != nil {
		c.t.Fatalf("%v\n%s", err, out)
	}
}

// issued are the certificates that the CA has issued to devices.
func (c *corp) issued() []adcstest.Row {
	var list []adcstest.Row
	for _, r := range c.mock.Rows() {
		if r.Certificate != nil && r.Template != signingTemplate && r.Template != encryptTemplate {
			list = append(list, r)
		}
	}
	return list
}

// mustIssue wants a certificate of the CA for the key, and openssl to agree.
func (c *corp) mustIssue(r *scepclient.Reply, key *rsa.PrivateKey) *x509.Certificate {
	c.t.Helper()
	if r.Status != scep.Success {
		c.t.Fatalf("no certificate: %s", describe(r))
	}
	if !key.PublicKey.Equal(r.Certificate.PublicKey) {
		c.t.Error("the certificate is for another key")
	}
	c.verify(r.Certificate)
	return r.Certificate
}

// verify has openssl build the chain to the root. What else the certificate
// says is the mock's affair, so zlint is not asked.
func (c *corp) verify(cert *x509.Certificate) {
	c.t.Helper()
	dir := shortDir(c.t)
	writeFile(c.t, dir+"/leaf.pem", chainPEM(cert))
	writeFile(c.t, dir+"/issuer.pem", chainPEM(c.mock.Certificate()))
	writeFile(c.t, dir+"/root.pem", chainPEM(c.mock.Root()))
	must(c.t, dir, "openssl", "verify", "-CAfile", "root.pem", "-untrusted", "issuer.pem", "-purpose", "sslclient", "leaf.pem")
}

// toldOf wants the cloud to know a certificate, once.
func (c *corp) toldOf(cert *x509.Certificate) {
	c.t.Helper()
	n := 0
	for _, told := range c.cloud.Notifications() {
		if told.Success && told.SerialNumber == serialText(cert) {
			n++
		}
	}
	if n != 1 {
		c.t.Errorf("the cloud was told %d times of %s", n, serialText(cert))
	}
}

// lastIssued is the certificate that the CA has issued last.
func (c *corp) lastIssued() *x509.Certificate {
	c.t.Helper()
	list := c.issued()
	if len(list) == 0 {
		c.t.Fatal("the CA has issued nothing")
	}
	cert, err := x509.ParseCertificate(list[len(list)-1].Certificate)
	if err != nil {
		c.t.Fatal(err)
	}
	return cert
}
