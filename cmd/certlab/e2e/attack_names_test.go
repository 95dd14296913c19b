//go:build e2e

package e2e

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"net/url"
	"testing"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

func commonName(name string) func(*scepclient.CSR) {
	return func(c *scepclient.CSR) { c.Subject = pkix.Name{CommonName: name} }
}

func dnsNames(names ...string) func(*scepclient.CSR) {
	return func(c *scepclient.CSR) { c.DNSNames = names }
}

func (b *besieged) enrol(key int, csr scepclient.CSR) scepclient.EnrollRequest {
	return scepclient.EnrollRequest{Key: testkeys.RSA2048(key), CSR: csr}
}

// swapNames has a challenge that is good, for somebody else. What was refused
// has spent nothing: the right device gets its certificate afterwards.
func (b *besieged) swapNames(t *testing.T) {
	t.Run("P1 one-time password", func(t *testing.T) {
		defer b.during(t)()
		password := b.password("jamf")
		b.repel(onetimePath, b.enrol(0, b.request("phone", password, commonName("ceo.example"))), scep.BadRequest, "subject_not_allowed")
		b.repel(onetimePath, b.enrol(0, b.request("phone", password, dnsNames("dc1.corp.test"))), scep.BadRequest, "san_not_allowed")
		b.repel(onetimePath, b.enrol(0, b.request("phone", password, func(c *scepclient.CSR) {
			c.UPNs = []string{"administrator@corp.example"}
		})), scep.BadRequest, "san_not_allowed")
		b.repel(onetimePath, b.enrol(0, b.request("phone", password, func(c *scepclient.CSR) {
			c.Subject.Organization = []string{"Domain Admins"}
		})), scep.BadRequest, "subject_not_allowed")
		b.get(onetimePath, b.enrol(0, b.request("phone", password)))
	})
	t.Run("P1 signed challenge", func(t *testing.T) {
		defer b.during(t)()
		challenge := b.newToken("phone")
		b.repel(tokenPath, b.enrol(1, b.request("tablet", challenge, dnsNames("phone.corp.example"))), scep.BadRequest, "token_subject")
		b.repel(tokenPath, b.enrol(1, b.request("phone", challenge, dnsNames("tablet.corp.example"))), scep.BadRequest, "token_san")
		b.repel(tokenPath, b.enrol(1, b.request("phone", challenge, dnsNames("phone.corp.example", "dc1.corp.example"))), scep.BadRequest, "token_san")
		b.repel(tokenPath, b.enrol(1, b.request("phone", challenge, commonName("Phone.corp.example"))), scep.BadRequest, "token_subject")
		b.get(tokenPath, b.enrol(1, b.request("phone", challenge)))
	})
	t.Run("P1 challenge of Intune", func(t *testing.T) {
		defer b.during(t)()
		ch := b.challenge(intunetest.Ask{Platform: "windows"})
		right := scepclient.CSR{
			Subject: pkix.Name{CommonName: ch.Device}, DNSNames: ch.SAN.DNS, KeyUsage: x509.KeyUsage(ch.KeyUsage),
			ExtKeyUsage: []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 2}}, Challenge: secretText(ch.Challenge),
		}
		for rule, change := range map[string]func(*scepclient.CSR){
			"intune_subject_mismatch": commonName("administrator"),
			"intune_san_mismatch":     dnsNames("dc1.contoso.example"),
		} {
			csr := right
			change(&csr)
			key := testkeys.RSA2048(2)
			der, err := csr.Encode(key)
			if err != nil {
				t.Fatal(err)
			}
			b.repel(intunePath, scepclient.EnrollRequest{Key: key, DER: der}, scep.BadRequest, rule)
			b.heard(der, 0) // who refuses knows
		}
		b.get(intunePath, b.enrol(2, right))
	})
}

// sharedSecret has the one secret of an endpoint, which is good for names of
// devices only.
func (b *besieged) sharedSecret(t *testing.T) {
	b.get(fencedPath, b.enrol(3, b.request("printer", b.static)))
	b.repel(fencedPath, b.enrol(3, b.request("printer", b.static, commonName("administrator"))), scep.BadRequest, "subject_not_allowed")
	b.repel(fencedPath, b.enrol(3, b.request("printer", b.static, dnsNames("dc1.corp.test"))), scep.BadRequest, "san_not_allowed")
	b.repel(fencedPath, b.enrol(3, b.request("printer", b.static, func(c *scepclient.CSR) {
		c.Emails = []string{"ceo@corp.example"}
	})), scep.BadRequest, "san_not_allowed")
	b.repel(fencedPath, b.enrol(3, b.request("printer", b.static[1:])), scep.BadRequest, "static_challenge_wrong")
	b.repel(fencedPath, b.enrol(3, b.request("printer", "")), scep.BadRequest, "static_challenge_missing")
	// Where Intune decides it is no challenge at all.
	b.repel(intunePath, b.enrol(3, b.request("printer", b.static)), scep.BadMessageCheck, "intune_challenge_decoding")
}

const (
	administrator = "S-1-5-21-1111111111-2222222222-3333333333-1001"
	sidTag        = "tag:microsoft.com,2022-09-14:sid:"
	// sidExtension is the extension's value for that account (docs/rules.md).
	sidExtension = "3040a03e060a2b060104018237190201a030042e532d312d352d32312d313131313131313131312d323232323232323232322d333333333333333333332d31303031"
)

func extended(id asn1.ObjectIdentifier, value ...byte) func(*scepclient.CSR) {
	return func(c *scepclient.CSR) { c.Extensions = append(c.Extensions, pkix.Extension{Id: id, Value: value}) }
}

func uris(texts ...string) func(*scepclient.CSR) {
	return func(c *scepclient.CSR) {
		for _, s := range texts {
			u, err := url.Parse(s)
			if err != nil {
				panic(err) // of a constant
			}
			c.URIs = append(c.URIs, u)
		}
	}
}

// identifiers asks for the security identifier of an administrator.
func (b *besieged) identifiers(t *testing.T) {
	value, err := hex.DecodeString(sidExtension)
	if err != nil {
		t.Fatal(err)
	}
	extension := extended(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 25, 2}, value...)
	other := sidTag + "S-1-5-21-1-2-3-500"
	t.Run("P4 at endpoints where nobody vouches", func(t *testing.T) {
		defer b.during(t)()
		for _, path := range []string{staticPath, fencedPath} { // static allows any name
			b.repel(path, b.enrol(4, b.request("pc", b.static, extension)), scep.BadRequest, "sid_extension")
			b.repel(path, b.enrol(4, b.request("pc", b.static, uris(sidTag+administrator))), scep.BadRequest, "sid_uri_not_vouched")
			b.repel(path, b.enrol(4, b.request("pc", b.static, uris(sidTag+administrator, other))), scep.BadRequest, "sid_duplicate")
			b.repel(path, b.enrol(4, b.request("pc", b.static, extension, uris(other))), scep.BadRequest, "sid_mismatch")
			b.repel(path, b.enrol(4, b.request("pc", b.static, func(c *scepclient.CSR) {
				c.Emails = []string{"TAG:Microsoft.com,2022-09-14:SID:" + administrator}
			})), scep.BadRequest, "sid_uri_not_vouched")
		}
		password := b.password("jamf")
		b.repel(onetimePath, b.enrol(4, b.request("pc", password, extension)), scep.BadRequest, "sid_extension")
		b.repel(onetimePath, b.enrol(4, b.request("pc", password, uris(sidTag+administrator))), scep.BadRequest, "sid_uri_not_vouched")
		challenge := b.newToken("pc")
		b.repel(tokenPath, b.enrol(4, b.request("pc", challenge, extension)), scep.BadRequest, "sid_extension")
		b.repel(tokenPath, b.enrol(4, b.request("pc", challenge, uris(sidTag+administrator))), scep.BadRequest, "token_san")
		if _, err := b.command("challenge", "new", "--endpoint", "token", "--subject", "CN=pc.corp.example", "--san", "uri:"+sidTag+administrator); err == nil {
			t.Error("a challenge was made that names a security identifier")
		}
	})
	t.Run("P4 vouched by Intune", func(t *testing.T) {
		defer b.during(t)()
		vouchedFor := func(p *intunetest.Profile) {
			p.SAN = intunetest.Names{URI: []string{sidTag + "{{OnPremisesSecurityIdentifier}}"}}
		}
		own := sidTag + "S-1-5-21-1111111111-2222222222-3333333333-1101"
		b.repelVouched(vouchedFor, scep.BadRequest, "sid_extension", uris(own), extended(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 25, 2}, ownSID(value)...))
		b.repelVouched(vouchedFor, scep.BadRequest, "sid_mismatch", uris(own), extended(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 25, 2}, value...))
		b.repelVouched(func(*intunetest.Profile) {}, scep.BadRequest, "sid_extension", extension)
		b.repelVouched(func(p *intunetest.Profile) {
			p.SAN = intunetest.Names{URI: []string{own, other}}
		}, scep.BadRequest, "sid_duplicate", uris(own, other))

		key := testkeys.RSA2048(5)
		stolen := b.vouched(vouchedFor, key, uris(sidTag+administrator))
		b.repel(intunePath, scepclient.EnrollRequest{Key: key, DER: stolen}, scep.BadRequest, "intune_san_mismatch")
		b.heard(stolen, 0)

		der := b.vouched(vouchedFor, key, uris(own))
		cert := b.get(intunePath, scepclient.EnrollRequest{Key: key, DER: der})
		asked, err := x509.ParseCertificateRequest(der)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(extensionOf(cert.Extensions, "2.5.29.17"), extensionOf(asked.Extensions, "2.5.29.17")) {
			t.Error("the subjectAltName is not that of the request, byte for byte")
		}
		if extensionOf(cert.Extensions, "1.3.6.1.4.1.311.25.2") != nil {
			t.Error("the certificate has a security identifier extension")
		}
	})
}

// ownSID is the extension with the identifier of the device's user.
func ownSID(value []byte) []byte {
	return bytes.Replace(value, []byte("-1001"), []byte("-1101"), 1)
}

func extensionOf(list []pkix.Extension, id string) []byte {
	for _, e := range list {
		if e.Id.String() == id {
			return e.Value
		}
	}
	return nil
}

// vouched is a request that Intune grants, with more in it than Intune looks
// at.
func (b *besieged) vouched(change func(*intunetest.Profile), key *rsa.PrivateKey, add ...func(*scepclient.CSR)) []byte {
	b.t.Helper()
	ch := b.setProfile(b.t, profile(change))
	csr := scepclient.CSR{
		Subject: pkix.Name{CommonName: matrixDevice}, KeyUsage: x509.KeyUsage(ch.KeyUsage), Challenge: secretText(ch.Challenge),
		ExtKeyUsage: []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 2}},
	}
	for _, a := range add {
		a(&csr)
	}
	der, err := csr.Encode(key)
	if err != nil {
		b.t.Fatal(err)
	}
	return der
}

// repelVouched wants a refusal of what Intune has granted, and Intune to hear
// of it.
func (b *besieged) repelVouched(change func(*intunetest.Profile), info scep.FailInfo, rule string, add ...func(*scepclient.CSR)) {
	b.t.Helper()
	key := testkeys.RSA2048(6)
	der := b.vouched(change, key, add...)
	b.repel(intunePath, scepclient.EnrollRequest{Key: key, DER: der}, info, rule)
	b.heard(der, 1)
}

// escalate asks for what makes a certificate more than a device's.
func (b *besieged) escalate(t *testing.T) {
	usages := func(list ...asn1.ObjectIdentifier) func(*scepclient.CSR) {
		return func(c *scepclient.CSR) { c.ExtKeyUsage = list }
	}
	client := asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
	server := asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
	anyPurpose, agent := asn1.ObjectIdentifier{2, 5, 29, 37, 0}, asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 1}
	// SEQUENCE of one PolicyInformation: the request agent.
	policies := []byte{0x30, 0x0e, 0x30, 0x0c, 0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x14, 0x02, 0x01}
	templateName := append([]byte{0x1e, 0x08}, "\x00U\x00s\x00e\x00r"...)
	template := []byte{0x30, 0x09, 0x06, 0x07, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37}
	profileUsages := func(eku ...string) func(*intunetest.Profile) { return func(p *intunetest.Profile) { p.EKU = eku } }
	for _, a := range []struct {
		name    string
		rule    string
		profile func(*intunetest.Profile) // what Intune would have to be set to; nil: nothing
		add     func(*scepclient.CSR)
	}{
		{"certificate of a CA", "ca_certificate", nil, extended(asn1.ObjectIdentifier{2, 5, 29, 19}, 0x30, 0x03, 0x01, 0x01, 0xff)},
		{"unreadable basicConstraints", "ca_certificate", nil, extended(asn1.ObjectIdentifier{2, 5, 29, 19}, 0x30, 0x03, 0x01, 0x01, 0x01)},
		{"keyCertSign", "key_usage", func(p *intunetest.Profile) { p.KeyUsage = signs | int(x509.KeyUsageCertSign) },
			func(c *scepclient.CSR) { c.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign }},
		{"cRLSign", "key_usage", func(p *intunetest.Profile) { p.KeyUsage = signs | int(x509.KeyUsageCRLSign) },
			func(c *scepclient.CSR) { c.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign }},
		{"any purpose", "extended_key_usage", profileUsages(anyPurpose.String()), usages(anyPurpose)},
		{"Certificate Request Agent", "extended_key_usage", profileUsages(clientAuth, agent.String()), usages(client, agent)},
		{"usage that the endpoint does not give", "extended_key_usage", profileUsages(server.String()), usages(server)},
		{"request agent as application policy", "extended_key_usage", nil, extended(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 21, 10}, policies...)},
		{"template by name", "device_chosen_template", nil, extended(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2}, templateName...)},
		{"template by identifier", "device_chosen_template", nil, extended(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 21, 7}, template...)},
		{"extension that nobody knows", "extension_not_allowed", nil, extended(asn1.ObjectIdentifier{1, 2, 3, 4}, 0x05, 0x00)},
	} {
		t.Run("P5 "+a.name, func(t *testing.T) {
			defer b.during(t)()
			b.repel(fencedPath, b.enrol(0, b.request("pc", b.static, a.add)), scep.BadRequest, a.rule)
			if a.profile == nil {
				a.profile = func(*intunetest.Profile) {}
			}
			b.repelVouched(a.profile, scep.BadRequest, a.rule, a.add)
		})
	}
}

// templatePair names a template in Microsoft's name/value pair, which is for
// the validity: it is passed over. The template "reviewed" would park the
// request, and the validity of the other is known.
func (b *besieged) templatePair(t *testing.T) {
	text := func(s string) []byte {
		body := []byte{}
		for _, r := range s {
			body = append(body, 0, byte(r))
		}
		return append([]byte{0x1e, byte(len(body))}, body...)
	}
	type pair struct{ Name, Value asn1.RawValue }
	type attribute struct {
		Type   asn1.ObjectIdentifier
		Values []pair `asn1:"set"`
	}
	der, err := asn1.Marshal(attribute{asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 13, 2, 1}, []pair{
		{asn1.RawValue{FullBytes: text("CertificateTemplate")}, asn1.RawValue{FullBytes: text("reviewed")}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	add := func(c *scepclient.CSR) { c.Attributes = append(c.Attributes, der) }
	cert := b.get(fencedPath, b.enrol(1, b.request("pair", b.static, add)))
	ekuIs(clientAuth)(t, cert)
	for _, id := range []string{"1.3.6.1.4.1.311.20.2", "1.3.6.1.4.1.311.21.7"} {
		if extensionOf(cert.Extensions, id) != nil {
			t.Errorf("the certificate has the template extension %s", id)
		}
	}
	key := testkeys.RSA2048(2)
	b.get(intunePath, scepclient.EnrollRequest{Key: key, DER: b.vouched(func(*intunetest.Profile) {}, key, add)})
}
