package enroll_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/enroll"
	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/scep"
)

const (
	sidTag   = "tag:microsoft.com,2022-09-14:sid:"
	anna     = "S-1-5-21-1111111111-2222222222-3333333333-1001"
	director = "S-1-5-21-1111111111-2222222222-3333333333-500"
)

// wantRule wants a request to be refused by a rule before the CA was asked,
// or to be issued for "".
func (w *world) wantRule(req *scep.Request, rule policymodule.Reason, info scep.FailInfo) *scep.Result {
	w.t.Helper()
	res := w.send(req)
	if rule == "" {
		return w.want(res, scep.Success)
	}
	w.wantFailure(res, info)
	if e := w.entries(1)[0]; e.State != journal.Failed || e.Failure == nil || e.Failure.Rule != string(rule) {
		w.t.Errorf("entry is %v with %+v, want it refused by %s", e.State, e.Failure, rule)
	}
	if !bytes.HasPrefix([]byte(res.FailText), []byte(string(rule)+": ")) {
		w.t.Errorf("the answer's text is %q, want it to begin with the rule's name", res.FailText)
	}
	if w.core.issues != 0 {
		w.t.Error("the CA was asked")
	}
	return res
}

// sidExtension builds the extension of scep-ndes 8.1.
func sidExtension(t *testing.T, sid string) pkix.Extension {
	t.Helper()
	explicit := func(b []byte) asn1.RawValue { return asn1.RawValue{Class: 2, Tag: 0, IsCompound: true, Bytes: b} }
	name := slices.Concat(mustDER(t, oid(1, 3, 6, 1, 4, 1, 311, 25, 2, 1)), mustDER(t, explicit(mustDER(t, []byte(sid)))))
	return pkix.Extension{Id: oid(1, 3, 6, 1, 4, 1, 311, 25, 2), Value: mustDER(t, []asn1.RawValue{explicit(name)})}
}

func TestSIDExtensionVector(t *testing.T) { // the value octets of KB5014754 as published
	want := "3040a03e060a2b060104018237190201a030042e532d312d352d32312d313131313131313131312d323232323232323232322d333333333333333333332d31303031"
	got := new(big.Int).SetBytes(sidExtension(t, anna).Value).Text(16)
	if got != want {
		t.Errorf("the test's own extension is %s, want %s", got, want)
	}
}

func generalNames(t *testing.T, names ...asn1.RawValue) pkix.Extension {
	return pkix.Extension{Id: oid(2, 5, 29, 17), Value: mustDER(t, names)}
}

func uri(s string) asn1.RawValue   { return asn1.RawValue{Class: 2, Tag: 6, Bytes: []byte(s)} }
func email(s string) asn1.RawValue { return asn1.RawValue{Class: 2, Tag: 1, Bytes: []byte(s)} }
func dns(s string) asn1.RawValue   { return asn1.RawValue{Class: 2, Tag: 2, Bytes: []byte(s)} }

// TestSecurityIdentifiers has one row for each way in which a request may name
// an account of Active Directory (M5, T13).
func TestSecurityIdentifiers(t *testing.T) {
	vouched := func(_ *enroll.Rules, c *cloud) { c.vouches = true }
	stripped := func(r *enroll.Rules, c *cloud) { r.StripSID, c.vouches = true, true }
	for name, tc := range map[string]struct {
		set   func(*enroll.Rules, *cloud)
		extra func(t *testing.T) []pkix.Extension
		rule  policymodule.Reason
	}{
		"extension": {vouched, func(t *testing.T) []pkix.Extension { return []pkix.Extension{sidExtension(t, anna)} }, enroll.RuleSID},
		"extension, with the same URI": {vouched, func(t *testing.T) []pkix.Extension {
			return []pkix.Extension{sidExtension(t, anna), generalNames(t, uri(sidTag+anna))}
		}, enroll.RuleSID},
		"extension that is stripped": {stripped, func(t *testing.T) []pkix.Extension { return []pkix.Extension{sidExtension(t, anna)} }, ""},
		"extension that is stripped, with the same URI": {stripped, func(t *testing.T) []pkix.Extension {
			return []pkix.Extension{sidExtension(t, anna), generalNames(t, uri(sidTag+anna))}
		}, ""},
		"extension and URI differ": {vouched, func(t *testing.T) []pkix.Extension {
			return []pkix.Extension{sidExtension(t, director), generalNames(t, uri(sidTag+anna))}
		}, enroll.RuleSIDMismatch},
		"extension that is stripped and URI differ": {stripped, func(t *testing.T) []pkix.Extension {
			return []pkix.Extension{sidExtension(t, director), generalNames(t, uri(sidTag+anna))}
		}, enroll.RuleSIDMismatch},
		"extension that is stripped and unreadable": {stripped, func(t *testing.T) []pkix.Extension {
			return []pkix.Extension{{Id: oid(1, 3, 6, 1, 4, 1, 311, 25, 2), Value: mustDER(t, anna)}}
		}, enroll.RuleSIDMalformed},
		"URI that somebody vouched for": {vouched, func(t *testing.T) []pkix.Extension {
			return []pkix.Extension{generalNames(t, dns("device.example.test"), uri(sidTag+anna))}
		}, ""},
		"URI that nobody vouched for": {func(*enroll.Rules, *cloud) {}, func(t *testing.T) []pkix.Extension {
			return []pkix.Extension{generalNames(t, uri(sidTag+anna))}
		}, enroll.RuleSIDURI},
		"URI in capitals that nobody vouched for": {func(*enroll.Rules, *cloud) {}, func(t *testing.T) []pkix.Extension {
			return []pkix.Extension{generalNames(t, uri("TAG:MICROSOFT.COM,2022-09-14:SID:"+anna))}
		}, enroll.RuleSIDURI},
		"URI where the endpoint wants none": {func(r *enroll.Rules, c *cloud) { r.RefuseSIDURI, c.vouches = true, true }, func(t *testing.T) []pkix.Extension {
			return []pkix.Extension{generalNames(t, uri(sidTag+anna))}
		}, enroll.RuleSIDURI},
		"two URIs": {vouched, func(t *testing.T) []pkix.Extension {
			return []pkix.Extension{generalNames(t, uri(sidTag+anna), uri(sidTag+director))}
		}, enroll.RuleSIDDuplicate},
		"the same URI twice": {vouched, func(t *testing.T) []pkix.Extension {
			return []pkix.Extension{generalNames(t, uri(sidTag+anna), uri(sidTag+anna))}
		}, enroll.RuleSIDDuplicate},
		"URI with another text": {vouched, func(t *testing.T) []pkix.Extension {
			return []pkix.Extension{generalNames(t, uri(sidTag+"S-1-5-21-1-2-3-1001 "))}
		}, enroll.RuleSIDMalformed},
		"URI with nothing": {vouched, func(t *testing.T) []pkix.Extension {
			return []pkix.Extension{generalNames(t, uri(sidTag))}
		}, enroll.RuleSIDMalformed},
		"tag in a name that is no URI": {vouched, func(t *testing.T) []pkix.Extension {
			return []pkix.Extension{generalNames(t, uri(sidTag+anna), email(sidTag+director))}
		}, enroll.RuleSIDURI},
		"tag in a nested URI": {vouched, func(t *testing.T) []pkix.Extension {
			return []pkix.Extension{generalNames(t, asn1.RawValue{Class: 2, Tag: 6, IsCompound: true, Bytes: mustDER(t, []byte(sidTag+director))})}
		}, enroll.RuleSIDURI},
		"subjectAltName that cannot be read": {vouched, func(t *testing.T) []pkix.Extension {
			return []pkix.Extension{{Id: oid(2, 5, 29, 17), Value: []byte{0x30, 2, 0x86, 5}}}
		}, enroll.RuleSAN},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.stop()
				tc.set(&w.config.Rules, w.cloud)
				w.start()
				d := newDevice(0, "good")
				d.extra = tc.extra(t)
				req := d.request(t, scep.PKCSReq)
				res := w.wantRule(req, tc.rule, scep.BadRequest)
				if tc.rule != "" {
					return
				}
				cert, err := x509.ParseCertificate(res.Certificate)
				if err != nil {
					t.Fatal(err)
				}
				if got := extensionOf(cert, oid(2, 5, 29, 17)); !bytes.Equal(got, req.CSR.RawSAN) {
					t.Errorf("subjectAltName %x, asked for %x", got, req.CSR.RawSAN)
				}
				if extensionOf(cert, oid(1, 3, 6, 1, 4, 1, 311, 25, 2)) != nil {
					t.Error("the certificate has a SID extension")
				}
			})
		})
	}
}

func extensionOf(cert *x509.Certificate, id asn1.ObjectIdentifier) []byte {
	for _, ext := range cert.Extensions {
		if ext.Id.Equal(id) {
			return ext.Value
		}
	}
	return nil
}

// TestNamesAreRestricted whoever vouches (M1).
func TestNamesAreRestricted(t *testing.T) {
	for name, tc := range map[string]struct {
		subject, san []string // nil: not restricted
		cn           string
		vouches      bool
		extra        func(t *testing.T) []pkix.Extension
		rule         policymodule.Reason
	}{
		"within the patterns": {[]string{"CN=device *"}, []string{"dns:*.example.test"}, "device 0", false, nil, ""},
		"another subject":     {[]string{"CN=printer *"}, []string{"dns:*.example.test"}, "device 0", true, nil, enroll.RuleSubject},
		"another DNS name":    {[]string{"CN=device *"}, []string{"dns:*.corp.example"}, "device 0", true, nil, enroll.RuleSAN},
		"another kind of name": {[]string{"*"}, []string{"dns:*"}, "device 0", true, func(t *testing.T) []pkix.Extension {
			return []pkix.Extension{generalNames(t, dns("device.example.test"), email("root@example.test"))}
		}, enroll.RuleSAN},
		"nothing is allowed": {[]string{}, []string{}, "device 0", true, nil, enroll.RuleSubject},
		"any SAN is no SID": {[]string{"*"}, []string{"*"}, "device 0", false, func(t *testing.T) []pkix.Extension {
			return []pkix.Extension{generalNames(t, uri(sidTag+anna))}
		}, enroll.RuleSIDURI},
		"not restricted": {nil, nil, "administrator", true, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.stop()
				if tc.subject != nil {
					names, err := policymodule.ParseNames(tc.subject, tc.san)
					if err != nil {
						t.Fatal(err)
					}
					w.config.Rules.Names = &names
				}
				w.cloud.vouches = tc.vouches
				w.start()
				d := newDevice(0, "good")
				d.cn = tc.cn
				if tc.extra != nil {
					d.extra = tc.extra(t)
				}
				w.wantRule(d.request(t, scep.PKCSReq), tc.rule, scep.BadRequest)
			})
		})
	}
}

// TestKeyRules judges keys that a library would not even make (M3).
func TestKeyRules(t *testing.T) {
	odd := func(n *big.Int) *big.Int { return new(big.Int).SetBit(n, 0, 1) }
	third := new(big.Int).Sub(testkeys.RSA2048(0).N, new(big.Int).Mod(testkeys.RSA2048(0).N, big.NewInt(3)))
	if third.Bit(0) == 0 {
		third.Add(third, big.NewInt(3))
	}
	good := testkeys.RSA2048(0).N
	for name, tc := range map[string]struct {
		key  any
		rule policymodule.Reason
	}{
		"elliptic curve":        {testkeys.P256(0).Public(), enroll.RuleKeyType},
		"1024 bits":             {testkeys.RSA1024().Public(), enroll.RuleKeySize},
		"2047 bits":             {&rsa.PublicKey{N: odd(new(big.Int).Rsh(good, 1)), E: 65537}, enroll.RuleKeySize},
		"8193 bits":             {&rsa.PublicKey{N: odd(new(big.Int).Lsh(big.NewInt(1), 8192)), E: 65537}, enroll.RuleKeySize},
		"exponent 3":            {&rsa.PublicKey{N: good, E: 3}, enroll.RuleKeySize},
		"even exponent":         {&rsa.PublicKey{N: good, E: 65538}, enroll.RuleKeySize},
		"even modulus":          {&rsa.PublicKey{N: new(big.Int).SetBit(good, 0, 0), E: 65537}, enroll.RuleKeyWeak},
		"divisible by 3":        {&rsa.PublicKey{N: third, E: 65537}, enroll.RuleKeyWeak},
		"fingerprint of ROCA":   {&rsa.PublicKey{N: rocaModulus(), E: 65537}, enroll.RuleKeyWeak},
		"as a sound device has": {testkeys.RSA2048(0).Public(), ""},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				req := newDevice(0, "good").request(t, scep.PKCSReq)
				req.CSR.PublicKey = tc.key
				if tc.rule != "" {
					w.wantRule(req, tc.rule, scep.BadAlg)
					return
				}
				w.send(req)
				if w.core.issues != 1 {
					t.Error("the CA was not asked")
				}
			})
		})
	}
}

// TestECDSAKeysWhereTheyAreAccepted: for requests that come from within.
func TestECDSAKeysWhereTheyAreAccepted(t *testing.T) {
	for name, tc := range map[string]struct {
		curve elliptic.Curve
		rule  policymodule.Reason
	}{
		"P-256": {elliptic.P256(), ""}, "P-384": {elliptic.P384(), ""}, "P-521": {elliptic.P521(), enroll.RuleKeyType},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.stop()
				w.config.Rules.ECDSA = true
				w.start()
				key, err := ecdsa.GenerateKey(tc.curve, rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				req := newDevice(0, "good").request(t, scep.PKCSReq)
				req.CSR.PublicKey = key.Public()
				if tc.rule != "" {
					w.wantRule(req, tc.rule, scep.BadAlg)
					return
				}
				w.send(req)
				if w.core.issues != 1 {
					t.Error("the CA was not asked")
				}
			})
		})
	}
}

// rocaModulus is a power of 65537 modulo each small prime, as the moduli of
// the vulnerable library are: 65537^1000 modulo the product of the first 126
// primes, and a multiple of that on top to make 2048 bits.
func rocaModulus() *big.Int {
	m := big.NewInt(1)
	for n, found := int64(2), 0; found < 126; n++ {
		if p := big.NewInt(n); p.ProbablyPrime(0) {
			m.Mul(m, p)
			found++
		}
	}
	n := new(big.Int).Exp(big.NewInt(65537), big.NewInt(1000), m)
	top := new(big.Int).Lsh(big.NewInt(1), 2047)
	return n.Add(n, top.Sub(top, new(big.Int).Mod(top, m)).Add(top, m))
}

func TestCSRSignedWithSHA1(t *testing.T) {
	for name, legacy := range map[string]bool{"refused": false, "accepted where legacy_sha1 is on": true} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.stop()
				w.config.Rules.LegacySHA1 = legacy
				w.start()
				req := newDevice(0, "good").request(t, scep.PKCSReq)
				req.CSR.SignatureAlgorithm.Algorithm = oid(1, 2, 840, 113549, 1, 1, 5)
				rule := enroll.RuleCSRDigest
				if legacy {
					rule = ""
				}
				w.wantRule(req, rule, scep.BadAlg)
			})
		})
	}
}

// TestRestoredJournal refuses what may have been spent in the time that the
// journal forgot, and nothing else.
func TestRestoredJournal(t *testing.T) {
	const restored = -30 * time.Minute // before now
	for name, tc := range map[string]struct {
		never       bool
		made        time.Duration // before or after now; 0: not known
		indifferent bool          // nothing is spent
		wait        time.Duration
		rule        policymodule.Reason
	}{
		"made before":                        {made: restored - time.Minute, rule: enroll.RuleRestored},
		"made before, asked long after":      {made: restored - time.Minute, wait: 2 * time.Hour, rule: enroll.RuleRestored},
		"made after":                         {made: restored + time.Minute},
		"nobody knows when, within the hour": {rule: enroll.RuleRestored},
		"nobody knows when, after the hour":  {wait: 31 * time.Minute},
		"nothing is spent":                   {indifferent: true},
		"never restored, made long ago":      {never: true, made: -24 * time.Hour},
		"never restored, nobody knows when":  {never: true},
		"made in the very moment":            {made: restored},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.stop()
				now := time.Now()
				w.setup = func(c *enroll.Config) {
					if !tc.never {
						c.RestoredAt = now.Add(restored)
					}
				}
				w.cloud.indifferent = tc.indifferent
				if tc.made != 0 {
					w.cloud.made = now.Add(tc.made)
				}
				w.start()
				w.later(tc.wait)
				w.wantRule(newDevice(0, "good").request(t, scep.PKCSReq), tc.rule, scep.BadTime)
				w.later(5 * time.Second)
				if tc.rule != "" {
					w.told(0, 1) // whoever granted hears of the refusal
				}
			})
		})
	}
}

// A renewal that no challenge vouches for is none of the quarantine's business.
func TestRestoredJournalLetsRenewalsPass(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.core.life = 24 * time.Hour
		old, err := x509.ParseCertificate(w.want(w.ask(newDevice(0, "good")), scep.Success).Certificate)
		if err != nil {
			t.Fatal(err)
		}
		w.stop()
		w.setup = func(c *enroll.Config) { c.RestoredAt = time.Now() }
		w.config.Rules.RenewalWithoutChallenge = true
		w.start()
		d := newDevice(1, "")
		d.cn, d.signer = "device 0", old
		w.want(w.send(d.request(t, scep.RenewalReq)), scep.Success)
	})
}
