package token_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"maps"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/cms"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/policymodule/moduletest"
	"github.com/certconnector/certconnector/policymodule/token"
	"github.com/certconnector/certconnector/scep/scepclient"
)

func TestContract(t *testing.T) {
	moduletest.Run(t, func(t *testing.T) moduletest.Subject {
		w := newWorld(t)
		return moduletest.Subject{
			Module:       w.module,
			VouchesNames: true,
			Request: func(t *testing.T) policymodule.Request {
				return request(t, goodCSR(), mint(t, encode(t, goodClaims()), w.mdm, w.to))
			},
			Spoil: func(t *testing.T, r policymodule.Request) policymodule.Request {
				csr := goodCSR()
				return request(t, csr, r.CSR.ChallengePassword[:len(r.CSR.ChallengePassword)-8]+"AAAAAAA=")
			},
			Rename: func(t *testing.T, r policymodule.Request) policymodule.Request {
				csr := goodCSR()
				csr.Subject.CommonName = "phone 8"
				return request(t, csr, r.CSR.ChallengePassword)
			},
		}
	})
}

func TestGrant(t *testing.T) {
	w := newWorld(t)
	d := verify(t, w.module, request(t, goodCSR(), mint(t, encode(t, goodClaims()), w.mdm, w.to)))
	made := noon.Add(-5*time.Minute - 2*time.Minute) // not_before, by a clock that may be fast
	if !d.Granted || d.ChallengeID == "" || !d.VouchedNames || d.MaxValidity != 24*time.Hour || !d.ChallengeMade.Equal(made) || d.Notify {
		t.Errorf("decision %+v", d)
	}
	least := goodClaims()
	for _, optional := range []string{"san", "key_usage", "ext_key_usage", "key", "hash", "template", "max_validity"} {
		delete(least, optional)
	}
	csr := goodCSR()
	csr.DNSNames, csr.UPNs = nil, nil
	if d := verify(t, w.module, request(t, csr, mint(t, encode(t, least), w.mdm, w.to))); !d.Granted || d.MaxValidity != 0 {
		t.Errorf("with the required claims alone: %+v", d)
	}
}

// applicationPolicy encodes one of Microsoft's application policies.
func applicationPolicy(t *testing.T, oid asn1.ObjectIdentifier) []byte {
	t.Helper()
	der, err := asn1.Marshal([]struct{ OID asn1.ObjectIdentifier }{{oid}})
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func uri(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestClaimsAgainstRequest changes one thing of a request that fits.
func TestClaimsAgainstRequest(t *testing.T) {
	w := newWorld(t)
	for _, row := range []struct {
		name   string
		claims func(object)
		csr    func(*scepclient.CSR)
		rule   policymodule.Reason // "": granted
	}{
		{name: "another common name", csr: func(c *scepclient.CSR) { c.Subject.CommonName = "phone 8" }, rule: token.RuleSubject},
		{name: "another letter case", csr: func(c *scepclient.CSR) { c.Subject.CommonName = "Phone 7" }, rule: token.RuleSubject},
		{name: "an attribute more", csr: func(c *scepclient.CSR) { c.Subject.OrganizationalUnit = []string{"x"} }, rule: token.RuleSubject},
		{name: "an attribute less", csr: func(c *scepclient.CSR) { c.Subject.Organization = nil }, rule: token.RuleSubject},
		{name: "no subject at all", csr: func(c *scepclient.CSR) { c.Subject = pkix.Name{} }, rule: token.RuleSubject},
		{name: "the same values under other types", csr: func(c *scepclient.CSR) {
			c.Subject = pkix.Name{OrganizationalUnit: []string{"Corp"}, CommonName: "phone 7"}
		}, rule: token.RuleSubject},
		{name: "one value that reads as two attributes", csr: func(c *scepclient.CSR) { c.Subject = pkix.Name{CommonName: "phone 7,O=Corp"} }, rule: token.RuleSubject},
		{name: "two attributes in one RDN", claims: func(o object) {
			o["subject"] = []any{[]any{object{"type": "O", "value": "Corp"}, object{"type": "CN", "value": "phone 7"}}}
		}, rule: token.RuleSubject},
		{name: "RDNs in another order", claims: func(o object) {
			o["subject"] = []any{[]any{object{"type": "CN", "value": "phone 7"}}, []any{object{"type": "O", "value": "Corp"}}}
		}, rule: token.RuleSubject},

		{name: "another DNS name", csr: func(c *scepclient.CSR) { c.DNSNames = []string{"phone8.corp.example"} }, rule: token.RuleSAN},
		{name: "a DNS name more", csr: func(c *scepclient.CSR) { c.DNSNames = append(c.DNSNames, "dc1.corp.example") }, rule: token.RuleSAN},
		{name: "a DNS name twice", csr: func(c *scepclient.CSR) { c.DNSNames = append(c.DNSNames, c.DNSNames[0]) }, rule: token.RuleSAN},
		{name: "a name less", csr: func(c *scepclient.CSR) { c.UPNs = nil }, rule: token.RuleSAN},
		{name: "no alternative names", csr: func(c *scepclient.CSR) { c.DNSNames, c.UPNs = nil, nil }, rule: token.RuleSAN},
		{name: "a name of another kind", csr: func(c *scepclient.CSR) { c.UPNs, c.Emails = nil, []string{"anna@corp.example"} }, rule: token.RuleSAN},
		{name: "an address that was not claimed", csr: func(c *scepclient.CSR) { c.IPs = []net.IP{net.IPv4(10, 0, 0, 1)} }, rule: token.RuleSAN},
		{name: "names without a claim of any", claims: func(o object) { delete(o, "san") }, rule: token.RuleSAN},
		{name: "names with an empty claim", claims: func(o object) { o["san"] = []any{} }, rule: token.RuleSAN},
		{name: "an empty subjectAltName", claims: func(o object) { delete(o, "san") }, csr: func(c *scepclient.CSR) { c.RawSAN = []byte{0x30, 0} }, rule: token.RuleSAN},
		{name: "a directoryName", csr: func(c *scepclient.CSR) {
			c.RawSAN = []byte{0x30, 4, 0xa4, 2, 0x30, 0}
		}, rule: token.RuleSAN},
		{name: "a security identifier that was not claimed", csr: func(c *scepclient.CSR) {
			c.URIs = []*url.URL{uri(t, "tag:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-500")}
		}, rule: token.RuleSAN},
		{name: "the names in another order", claims: func(o object) {
			o["san"] = []any{object{"upn": "anna@corp.example"}, object{"dns": "phone7.corp.example"}}
		}},
		{name: "addresses and URIs", claims: func(o object) {
			o["san"] = []any{object{"ip": "10.0.0.1"}, object{"ip": "2001:db8::1"}, object{"uri": "urn:uuid:1"}, object{"email": "a@b.example"}}
		}, csr: func(c *scepclient.CSR) {
			c.DNSNames, c.UPNs, c.Emails = nil, nil, []string{"a@b.example"}
			c.IPs = []net.IP{net.ParseIP("2001:db8::1"), net.IPv4(10, 0, 0, 1)}
			c.URIs = []*url.URL{uri(t, "urn:uuid:1")}
		}},

		{name: "fewer key usages", csr: func(c *scepclient.CSR) { c.KeyUsage = x509.KeyUsageDigitalSignature }},
		{name: "another key usage", csr: func(c *scepclient.CSR) { c.KeyUsage |= x509.KeyUsageCertSign }, rule: token.RuleKeyUsage},
		{name: "no key usage", csr: func(c *scepclient.CSR) { c.KeyUsage = 0 }, rule: token.RuleKeyUsage},
		{name: "another extended key usage", csr: func(c *scepclient.CSR) { c.ExtKeyUsage = append(c.ExtKeyUsage, serverAuth) }, rule: token.RuleExtKeyUsage},
		{name: "no extended key usage", csr: func(c *scepclient.CSR) { c.ExtKeyUsage = nil }, rule: token.RuleExtKeyUsage},
		{name: "another application policy", csr: func(c *scepclient.CSR) {
			c.Extensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 21, 10}, Value: applicationPolicy(t, serverAuth)}}
		}, rule: token.RuleExtKeyUsage},
		{name: "application policies that cannot be read", csr: func(c *scepclient.CSR) {
			c.Extensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 21, 10}, Value: []byte{4, 0}}}
		}, rule: token.RuleExtKeyUsage},
		{name: "another type of key", claims: func(o object) { o["key"] = object{"type": "ec"} }, rule: token.RuleKey},
		{name: "a shorter key", claims: func(o object) { o["key"] = object{"min_bits": 3072} }, rule: token.RuleKey},
		{name: "a weaker hash", claims: func(o object) { o["hash"] = "sha384" }, rule: token.RuleHash},
		{name: "another template", claims: func(o object) { o["template"] = "Servers" }, rule: token.RuleTemplate},

		{name: "another endpoint", claims: func(o object) { o["endpoint"] = "lab" }, rule: token.RuleEndpoint},
		{name: "expired", claims: func(o object) { o["not_after"] = "2026-03-01T11:58:00Z" }, rule: token.RuleExpired},
		{name: "expired within the skew", claims: func(o object) { o["not_after"] = "2026-03-01T11:58:01Z" }},
		{name: "not yet valid", claims: func(o object) { o["not_before"] = "2026-03-01T12:02:01Z" }, rule: token.RuleNotYetValid},
		{name: "not yet valid within the skew", claims: func(o object) { o["not_before"] = "2026-03-01T12:02:00Z" }},
		{name: "too long a life", claims: func(o object) { o["not_after"] = "2026-03-01T12:55:01Z" }, rule: token.RuleLifetime},
		{name: "an end before the beginning", claims: func(o object) { o["not_after"] = "2026-03-01T11:55:00Z" }, rule: token.RuleLifetime},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, csr := goodClaims(), goodCSR()
			if row.claims != nil {
				row.claims(c)
			}
			if row.csr != nil {
				row.csr(csr)
			}
			d := verify(t, w.module, request(t, csr, mint(t, encode(t, c), w.mdm, w.to)))
			if d.Rule != row.rule || d.Granted != (row.rule == "") {
				t.Errorf("granted %v by rule %q (%s), want rule %q", d.Granted, d.Rule, d.Detail, row.rule)
			}
		})
	}
}

// TestClaimsThatAreNone: signed by the right party, and yet no claims.
func TestClaimsThatAreNone(t *testing.T) {
	w := newWorld(t)
	with := func(name string, value any) string {
		c := goodClaims()
		if c[name] = value; value == nil {
			delete(c, name)
		}
		return encode(t, c)
	}
	good := encode(t, goodClaims())
	rows := map[string]string{
		"no JSON":                        "hello",
		"nothing":                        "",
		"an array":                       "[" + good + "]",
		"more after the end":             good + "{}",
		"cut off":                        good[:len(good)-1],
		"a member twice":                 `{"endpoint":"corp",` + good[1:],
		"a member in another case":       strings.Replace(good, `"endpoint"`, `"Endpoint"`, 1),
		"an unknown member":              with("crit", "x"),
		"a member where it is not known": with("dns", "a"),
		"null":                           strings.Replace(good, `"hash":"sha256"`, `"hash":null`, 1),
		"not UTF-8":                      strings.Replace(good, "phone 7", "phone \xff", 1),
		"half a surrogate pair":          strings.Replace(good, "phone 7", `phone \ud800`, 1),
		"a NUL in a name":                strings.Replace(good, "phone 7", `phone 7\u0000`, 1),
		"nested deep":                    with("subject", strings.Repeat("[", 9)),
		"nested really deep":             `{"subject":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + "}",
		"another typ":                    with("typ", "JWT"),
		"another version":                with("version", 2),
		"a version that is a text":       with("version", "1"),
		"a short id":                     with("id", base64.RawURLEncoding.EncodeToString(make([]byte, 15))),
		"a padded id":                    with("id", base64.URLEncoding.EncodeToString(make([]byte, 16))),
		"an id with bits to spare":       with("id", "AAAAAAAAAAAAAAAAAAAAAB"),
		"a time with an offset":          with("not_after", "2026-03-01T12:30:00+00:00"),
		"an empty RDN":                   with("subject", []any{[]any{}}),
		"an unknown attribute":           with("subject", []any{[]any{object{"type": "COLOUR", "value": "red"}}}),
		"an attribute without a value":   with("subject", []any{[]any{object{"type": "CN"}}}),
		"a name of two kinds":            with("san", []any{object{"dns": "a", "email": "b"}}),
		"a name of no kind":              with("san", []any{object{}}),
		"a name twice":                   with("san", []any{object{"dns": "a"}, object{"dns": "a"}}),
		"an address in another form":     with("san", []any{object{"ip": "010.0.0.1"}}),
		"an address within another":      with("san", []any{object{"ip": "::ffff:10.0.0.1"}}),
		"an unknown key usage":           with("key_usage", []any{"everything"}),
		"a CA's key usage":               with("key_usage", []any{"keyCertSign"}),
		"no key usage":                   with("key_usage", []any{}),
		"no extended key usage":          with("ext_key_usage", []any{}),
		"a name for an EKU":              with("ext_key_usage", []any{"clientAuth"}),
		"an empty key":                   with("key", object{}),
		"an unknown type of key":         with("key", object{"type": "dsa"}),
		"an unknown hash":                with("hash", "sha1"),
		"an empty hash":                  with("hash", ""),
		"an empty template":              with("template", ""),
		"no validity":                    with("max_validity", 0),
		"an endless validity":            with("max_validity", int64(1)<<60),
		"half a second":                  with("max_validity", 0.5),
	}
	for _, required := range []string{"typ", "version", "id", "endpoint", "not_before", "not_after", "subject"} {
		rows["without "+required] = with(required, nil)
	}
	for name, content := range rows {
		t.Run(name, func(t *testing.T) {
			d := verify(t, w.module, request(t, goodCSR(), mint(t, content, w.mdm, w.to)))
			if d.Granted || d.Rule != token.RuleClaims {
				t.Errorf("granted %v, rule %q (%s)", d.Granted, d.Rule, d.Detail)
			}
		})
	}
}

// TestChallengesThatAreNone: what is in the challengePassword is no message
// that the module could believe.
func TestChallengesThatAreNone(t *testing.T) {
	w := newWorld(t)
	stranger := newParty(t, "stranger", testkeys.RSA2048(2))
	elsewhere := recipient(t, "elsewhere", testkeys.RSA2048(2))
	impostor := party{certificate(t, "mdm", testkeys.P256(1), noon, x509.KeyUsageDigitalSignature), testkeys.P256(1)}
	impostor.cert.RawIssuer, impostor.cert.SerialNumber = w.mdm.cert.RawIssuer, w.mdm.cert.SerialNumber
	content := encode(t, goodClaims())
	good := mint(t, content, w.mdm, w.to)
	der, err := base64.StdEncoding.DecodeString(good.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	text := func(b []byte) secret.Text { return secret.Text(base64.StdEncoding.EncodeToString(b)) }
	flip := func(at int) secret.Text {
		changed := append([]byte(nil), der...)
		changed[at] ^= 1
		return text(changed)
	}
	signed, err := cms.Sign([]byte(content), w.mdm.cert, w.mdm.key, noon)
	if err != nil {
		t.Fatal(err)
	}
	signed[len(signed)-1] ^= 1
	for _, row := range []struct {
		name      string
		challenge secret.Text
		rule      policymodule.Reason
	}{
		{"none", "", token.RuleMissing},
		{"a word", "password", token.RuleMalformed},
		{"a one-time password of NDES", "0123456789ABCDEF0123456789ABCDEF", token.RuleMalformed},
		{"base64url", secret.Text(strings.NewReplacer("+", "-", "/", "_").Replace(good.Reveal())), token.RuleMalformed},
		{"a JSON web token", "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJkZXZpY2UifQ.c2lnbmF0dXJl", token.RuleMalformed},
		{"claims in the open", text([]byte(content)), token.RuleMalformed},
		{"signed but not sealed", text(signed), token.RuleMalformed},
		{"sealed but not signed", seal(t, []byte(content), w.to), token.RuleMalformed},
		{"as Intune's, a SignedData around an EnvelopedData", text(intuneLike(t, w)), token.RuleMalformed},
		{"random bytes as long as Intune's", text(make([]byte, 3000)), token.RuleMalformed},
		{"truncated", text(der[:len(der)-1]), token.RuleMalformed},
		{"followed by more", text(append(append([]byte(nil), der...), 0)), token.RuleMalformed},
		{"deep", text(append([]byte{0x30, 0x81, 100}, strings.Repeat("\x30\x80", 50)...)), token.RuleMalformed},
		{"huge", secret.Text(strings.Repeat("A", 8<<10+1)), token.RuleMalformed},
		{"for another recipient", mint(t, content, w.mdm, elsewhere), token.RuleNotOpened},
		{"with a changed content key", flip(200), token.RuleNotOpened},
		{"by a stranger", mint(t, content, stranger, w.to), token.RuleSigner},
		{"by an impostor under the party's name", mint(t, content, impostor, w.to), token.RuleSignature},
		{"with a wrong signature", seal(t, signed, w.to), token.RuleSignature},
		{"by the recipient itself", mint(t, content, party{w.to.Certificate, testkeys.RSA2048(0)}, w.to), token.RuleSigner},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := verify(t, w.module, request(t, goodCSR(), row.challenge))
			if d.Granted || d.Rule != row.rule {
				t.Errorf("granted %v, rule %q (%s), want %q", d.Granted, d.Rule, d.Detail, row.rule)
			}
		})
	}
	for name, challenge := range map[string]secret.Text{
		"lines":        secret.Text(strings.Join([]string{good.Reveal()[:64], good.Reveal()[64:]}, "\r\n") + "\n"),
		"no padding":   secret.Text(strings.TrimRight(good.Reveal(), "=")),
		"as it should": good,
	} {
		if d := verify(t, w.module, policymodule.Request{CSR: withChallenge(t, challenge), Template: "Devices"}); !d.Granted {
			t.Errorf("base64 with %s: %s (%s)", name, d.Rule, d.Detail)
		}
	}
}

// intuneLike is a message of the kind that Intune's challenge is, made with our
// own keys: not even then.
func intuneLike(t *testing.T, w *world) []byte {
	t.Helper()
	sealed, err := cms.Seal([]byte(encode(t, goodClaims())), []*x509.Certificate{w.to.Certificate})
	if err != nil {
		t.Fatal(err)
	}
	der, err := cms.Sign(sealed, w.mdm.cert, w.mdm.key, noon)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestRightsOfTheSigner(t *testing.T) {
	const sid = "tag:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-1001"
	withSID := func(o object) { o["san"] = append(o["san"].([]any), object{"uri": sid}) }
	sidCSR := func(c *scepclient.CSR) { c.URIs = []*url.URL{uri(t, sid)} }
	subject, san := []string{"O=Corp", "CN=phone *"}, []string{"dns:*.corp.example", "upn:*@corp.example"}
	for _, row := range []struct {
		name         string
		subject, san []string
		eku          []asn1.ObjectIdentifier
		claims       func(object)
		csr          func(*scepclient.CSR)
		granted      bool
	}{
		{name: "within them", subject: subject, san: san, granted: true},
		{name: "another subject", subject: []string{"O=Corp", "CN=tablet *"}, san: san},
		{name: "an attribute that is not named", subject: []string{"CN=*"}, san: san},
		{name: "another name", subject: subject, san: []string{"dns:*.corp.example"}},
		{name: "an extended key usage beyond them", subject: subject, san: san, eku: []asn1.ObjectIdentifier{serverAuth}},
		{name: "no claim, and the request goes beyond them", subject: subject, san: san, eku: []asn1.ObjectIdentifier{serverAuth},
			claims: func(o object) { delete(o, "ext_key_usage") }},
		{name: "no claim, and the request is within them", subject: subject, san: san, eku: []asn1.ObjectIdentifier{clientAuth},
			claims: func(o object) { delete(o, "ext_key_usage") }, granted: true},
		{name: "no claim, and the request leaves it to the template", subject: subject, san: san, eku: []asn1.ObjectIdentifier{clientAuth},
			claims: func(o object) { delete(o, "ext_key_usage") }, csr: func(c *scepclient.CSR) { c.ExtKeyUsage = nil }},
		{name: "a security identifier without a right to it", subject: []string{"*"}, san: []string{"*"}, claims: withSID, csr: sidCSR},
		{name: "a security identifier of another domain", subject: []string{"*"}, san: []string{"*", "sid:S-1-5-21-9-*"}, claims: withSID, csr: sidCSR},
		{name: "a security identifier with a right to it", subject: []string{"*"}, san: []string{"*", "sid:S-1-5-21-1-2-3-*"}, claims: withSID, csr: sidCSR, granted: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, func(w *world) {
				w.config.Signers[0].Rights = policymodule.Rights{Names: names(t, row.subject, row.san), ExtKeyUsages: row.eku}
			})
			c, csr := goodClaims(), goodCSR()
			if row.claims != nil {
				row.claims(c)
			}
			if row.csr != nil {
				row.csr(csr)
			}
			d := verify(t, w.module, request(t, csr, mint(t, encode(t, c), w.mdm, w.to)))
			if d.Granted != row.granted || !d.Granted && d.Rule != token.RuleRights {
				t.Errorf("granted %v, rule %q (%s), want granted %v", d.Granted, d.Rule, d.Detail, row.granted)
			}
		})
	}
}

// TestOneChallengeHasOneID: sealing or signing once more makes no other.
func TestOneChallengeHasOneID(t *testing.T) {
	newer := newParty(t, "mdm 2", testkeys.RSA2048(4))
	other := newParty(t, "other", testkeys.RSA2048(5))
	w := newWorld(t, func(w *world) {
		w.config.Signers = append(w.config.Signers,
			token.Signer{Name: "mdm", Certificate: newer.cert, Rights: everything(t)},
			token.Signer{Name: "other", Certificate: other.cert, Rights: everything(t)})
	})
	content := goodClaims()
	id := func(c object, by party) string {
		d := verify(t, w.module, request(t, goodCSR(), mint(t, encode(t, c), by, w.to)))
		if !d.Granted {
			t.Fatalf("%s: %s", d.Rule, d.Detail)
		}
		return d.ChallengeID
	}
	first := id(content, w.mdm)
	if id(content, w.mdm) != first {
		t.Error("sealed and signed again: another ID")
	}
	if id(content, newer) != first {
		t.Error("signed with the party's next key: another ID")
	}
	later := maps.Clone(content)
	later["not_after"] = "2026-03-01T12:40:00Z"
	if id(later, w.mdm) != first {
		t.Error("the same id with other claims: another ID")
	}
	if id(content, other) == first {
		t.Error("another party's challenge with the same id has the same ID")
	}
	if id(goodClaims(), w.mdm) == first {
		t.Error("another challenge has the same ID")
	}
}

// TestRollOver: old and new recipient and signer beside each other, and the
// old ones gone.
func TestRollOver(t *testing.T) {
	oldTo, newTo := recipient(t, "old recipient", testkeys.RSA2048(0)), recipient(t, "new recipient", testkeys.RSA2048(2))
	oldBy, newBy := newParty(t, "old", testkeys.RSA2048(4)), newParty(t, "new", testkeys.RSA2048(5))
	expired := party{certificate(t, "expired", testkeys.RSA2048(6), noon.AddDate(0, 0, -1), x509.KeyUsageDigitalSignature), testkeys.RSA2048(6)}
	signer := func(p party) token.Signer {
		return token.Signer{Name: "mdm", Certificate: p.cert, Rights: everything(t)}
	}
	during := newWorld(t, func(w *world) {
		w.config.Recipients = []token.Recipient{newTo, oldTo}
		w.config.Signers = []token.Signer{signer(newBy), signer(oldBy), signer(expired)}
	})
	after := newWorld(t, func(w *world) {
		w.config.Recipients, w.config.Signers = []token.Recipient{newTo}, []token.Signer{signer(newBy)}
	})
	for _, row := range []struct {
		name   string
		world  *world
		by     party
		to     []token.Recipient
		expect policymodule.Reason
	}{
		{"all old, during", during, oldBy, []token.Recipient{oldTo}, ""},
		{"all new, during", during, newBy, []token.Recipient{newTo}, ""},
		{"new signer, old recipient", during, newBy, []token.Recipient{oldTo}, ""},
		{"sealed to both, after", after, newBy, []token.Recipient{oldTo, newTo}, ""},
		{"old recipient, after", after, newBy, []token.Recipient{oldTo}, token.RuleNotOpened},
		{"old signer, after", after, oldBy, []token.Recipient{newTo}, token.RuleSigner},
		{"expired signer", during, expired, []token.Recipient{newTo}, token.RuleExpiredBy},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := verify(t, row.world.module, request(t, goodCSR(), mint(t, encode(t, goodClaims()), row.by, row.to...)))
			if d.Rule != row.expect || d.Granted != (row.expect == "") {
				t.Errorf("granted %v, rule %q (%s), want %q", d.Granted, d.Rule, d.Detail, row.expect)
			}
		})
	}
}

func TestRenewals(t *testing.T) {
	for _, allow := range []bool{false, true} {
		for _, renewal := range []*x509.Certificate{nil, {}} {
			t.Run(fmt.Sprintf("allowed %v, signed by ours %v", allow, renewal != nil), func(t *testing.T) {
				w := newWorld(t, func(w *world) { w.config.AllowRenewals = allow })
				r := request(t, goodCSR(), "")
				r.Renewal = renewal
				want := allow && renewal != nil
				rule := map[bool]policymodule.Reason{true: token.RuleRenewal, false: token.RuleMissing}[renewal != nil]
				if want {
					rule = ""
				}
				if d := verify(t, w.module, r); d.Granted != want || d.Rule != rule || d.VouchedNames || d.ChallengeID != "" {
					t.Errorf("decision %+v, want granted %v", d, want)
				}
			})
		}
	}
}
