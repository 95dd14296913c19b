package token_test

import (
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/policymodule/token"
)

// ops is a principal that may have challenges made here.
func ops() policymodule.Principal {
	return policymodule.Principal{Name: "ops", Rights: map[string]policymodule.Rights{"corp": {}}}
}

func goodWish() policymodule.ChallengeWish {
	return policymodule.ChallengeWish{
		Subject: "CN=phone 7,O=Corp", SANs: []string{"dns:phone7.corp.example", "UPN:anna@corp.example"},
		KeyUsage: []string{"digitalSignature", "keyEncipherment"}, ExtKeyUsages: []asn1.ObjectIdentifier{clientAuth},
		KeyType: "rsa", MinKeyBits: 2048, Hash: "sha256", Template: "Devices", Validity: 24 * time.Hour, Lifetime: 10 * time.Minute,
	}
}

func TestMadeHereIsAccepted(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	w := newWorld(t, func(w *world) { w.config.Log = zap.New(core) })
	made, err := w.module.GenerateChallenge(t.Context(), ops(), goodWish())
	if err != nil {
		t.Fatal(err)
	}
	if !made.Expires.Equal(noon.Add(10*time.Minute)) || made.ID == "" || strings.Contains(made.Challenge.Reveal(), made.ID) {
		t.Errorf("expires %s, ID %q", made.Expires, made.ID)
	}
	d := verify(t, w.module, request(t, goodCSR(), made.Challenge))
	if !d.Granted || d.MaxValidity != 24*time.Hour || !d.ChallengeMade.Equal(noon) {
		t.Errorf("decision %+v", d)
	}
	least, err := w.module.GenerateChallenge(t.Context(), ops(), policymodule.ChallengeWish{Subject: "CN=phone 7,O=Corp"})
	if err != nil {
		t.Fatal(err)
	}
	csr := goodCSR()
	csr.DNSNames, csr.UPNs, csr.ExtKeyUsage = nil, nil, nil
	if d := verify(t, w.module, request(t, csr, least.Challenge)); !d.Granted || !least.Expires.Equal(noon.Add(time.Hour)) {
		t.Errorf("the least wish: %+v", d)
	}
	audit := logs.FilterMessage("challenge made").All()
	if len(audit) != 2 {
		t.Fatalf("%d audit lines, want one a challenge", len(audit))
	}
	fields := audit[0].ContextMap()
	if fields["principal"] != "ops" || fields["endpoint"] != "corp" || fields["challenge_id"] != made.ID || fields["subject"] != "CN=phone 7,O=Corp" || fields["expires"] == nil {
		t.Errorf("audit line %v", fields)
	}
	for _, line := range logs.All() {
		for _, v := range line.ContextMap() {
			if s, ok := v.(string); ok && len(s) > 100 && strings.Contains(made.Challenge.Reveal(), s) {
				t.Error("a log line has the challenge")
			}
		}
	}
}

func TestWishesBeyondRights(t *testing.T) {
	rights := policymodule.Rights{
		Names:        names(t, []string{"O=Corp", "CN=phone *"}, []string{"dns:*.corp.example", "upn:*@corp.example", "uri:*"}),
		ExtKeyUsages: []asn1.ObjectIdentifier{clientAuth},
	}
	const sid = "uri:tag:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-500"
	for _, row := range []struct {
		name  string
		by    policymodule.Principal
		wish  func(*policymodule.ChallengeWish)
		error error // nil: made
	}{
		{"within them", ops(), func(*policymodule.ChallengeWish) {}, nil},
		{"a URI", ops(), func(w *policymodule.ChallengeWish) { w.SANs = []string{"uri:urn:uuid:1"} }, nil},
		{"another subject", ops(), func(w *policymodule.ChallengeWish) { w.Subject = "CN=tablet,O=Corp" }, policymodule.ErrNoRight},
		{"another name", ops(), func(w *policymodule.ChallengeWish) { w.SANs = []string{"dns:dc1.other.example"} }, policymodule.ErrNoRight},
		{"a security identifier", ops(), func(w *policymodule.ChallengeWish) { w.SANs = []string{sid} }, policymodule.ErrNoRight},
		{"an extended key usage", ops(), func(w *policymodule.ChallengeWish) { w.ExtKeyUsages = []asn1.ObjectIdentifier{serverAuth} }, policymodule.ErrNoRight},
		{"too long a life", ops(), func(w *policymodule.ChallengeWish) { w.Lifetime = 61 * time.Minute }, policymodule.ErrNoRight},
		{"a negative life", ops(), func(w *policymodule.ChallengeWish) { w.Lifetime = -time.Minute }, policymodule.ErrNoRight},
		{"by somebody else", policymodule.Principal{Name: "guest", Rights: ops().Rights}, func(*policymodule.ChallengeWish) {}, policymodule.ErrNoRight},
		{"by a principal of another endpoint", policymodule.Principal{Name: "ops"}, func(*policymodule.ChallengeWish) {}, policymodule.ErrNoRight},
		{"a subject that is no name", ops(), func(w *policymodule.ChallengeWish) { w.Subject = "phone" }, policymodule.ErrBadWish},
		{"a name of no kind", ops(), func(w *policymodule.ChallengeWish) { w.SANs = []string{"phone7.corp.example"} }, policymodule.ErrBadWish},
		{"a name of an unknown kind", ops(), func(w *policymodule.ChallengeWish) { w.SANs = []string{"sid:S-1-5"} }, policymodule.ErrBadWish},
		{"an address that is none", ops(), func(w *policymodule.ChallengeWish) { w.SANs = []string{"ip:10.0.0"} }, policymodule.ErrBadWish},
		{"an unknown key usage", ops(), func(w *policymodule.ChallengeWish) { w.KeyUsage = []string{"x"} }, policymodule.ErrBadWish},
		{"an unknown type of key", ops(), func(w *policymodule.ChallengeWish) { w.KeyType = "dsa" }, policymodule.ErrBadWish},
		{"an unknown hash", ops(), func(w *policymodule.ChallengeWish) { w.Hash = "md5" }, policymodule.ErrBadWish},
		{"a negative validity", ops(), func(w *policymodule.ChallengeWish) { w.Validity = -time.Hour }, policymodule.ErrBadWish},
		{"more than a challenge holds", ops(), func(w *policymodule.ChallengeWish) {
			w.Subject = "O=Corp" + strings.Repeat(",CN=phone "+strings.Repeat("x", 100), 50)
		}, policymodule.ErrBadWish},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, func(w *world) { w.config.Rights = map[string]policymodule.Rights{"ops": rights} })
			wish := goodWish()
			row.wish(&wish)
			_, err := w.module.GenerateChallenge(t.Context(), row.by, wish)
			if !errors.Is(err, row.error) {
				t.Errorf("error %v, want %v", err, row.error)
			}
		})
	}
}

// TestAddressesHaveOneForm: whoever asks may write an address as he likes.
func TestAddressesHaveOneForm(t *testing.T) {
	w := newWorld(t)
	made, err := w.module.GenerateChallenge(t.Context(), ops(), policymodule.ChallengeWish{Subject: "CN=phone 7,O=Corp", SANs: []string{"ip:2001:DB8:0::1"}})
	if err != nil {
		t.Fatal(err)
	}
	csr := goodCSR()
	csr.DNSNames, csr.UPNs, csr.IPs = nil, nil, []net.IP{net.ParseIP("2001:db8::1")}
	if d := verify(t, w.module, request(t, csr, made.Challenge)); !d.Granted {
		t.Errorf("%s: %s", d.Rule, d.Detail)
	}
}

// TestRightsToUsagesBecomeClaims: a wish without usages is not one for all.
func TestRightsToUsagesBecomeClaims(t *testing.T) {
	w := newWorld(t, func(w *world) {
		r := everything(t)
		r.ExtKeyUsages = []asn1.ObjectIdentifier{clientAuth}
		w.config.Rights = map[string]policymodule.Rights{"ops": r}
	})
	wish := goodWish()
	wish.ExtKeyUsages = nil
	made, err := w.module.GenerateChallenge(t.Context(), ops(), wish)
	if err != nil {
		t.Fatal(err)
	}
	csr := goodCSR()
	csr.ExtKeyUsage = []asn1.ObjectIdentifier{serverAuth}
	if d := verify(t, w.module, request(t, csr, made.Challenge)); d.Rule != token.RuleExtKeyUsage {
		t.Errorf("rule %q, want %q", d.Rule, token.RuleExtKeyUsage)
	}
}

func TestSigningKeyWithinItsOwnRights(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.config.Signers[1].Rights = policymodule.Rights{Names: names(t, []string{"CN=kiosk"}, nil)}
	})
	if _, err := w.module.GenerateChallenge(t.Context(), ops(), goodWish()); !errors.Is(err, policymodule.ErrNoRight) {
		t.Errorf("beyond the signing key's rights: %v", err)
	}
	w = newWorld(t, func(w *world) { w.config.Signers = w.config.Signers[:1] })
	if _, err := w.module.GenerateChallenge(t.Context(), ops(), goodWish()); !errors.Is(err, policymodule.ErrNoRight) {
		t.Errorf("without a signing key: %v", err)
	}
}

func TestTooFast(t *testing.T) {
	now := noon
	w := newWorld(t, func(w *world) {
		r := everything(t)
		r.PerMinute = 3
		w.config.Rights = map[string]policymodule.Rights{"ops": r}
		w.config.Clock = func() time.Time { return now }
	})
	for range 3 {
		if _, err := w.module.GenerateChallenge(t.Context(), ops(), goodWish()); err != nil {
			t.Fatal(err)
		}
	}
	_, err := w.module.GenerateChallenge(t.Context(), ops(), goodWish())
	if !errors.Is(err, policymodule.ErrTooFast) {
		t.Fatalf("the fourth in a minute of three: %v", err)
	}
	now = now.Add(20 * time.Second)
	if _, err := w.module.GenerateChallenge(t.Context(), ops(), goodWish()); err != nil {
		t.Errorf("a third of a minute later: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	good := newWorld(t)
	weak := newParty(t, "weak", testkeys.RSA1024())
	for _, row := range []struct {
		name   string
		change func(*token.Config)
		want   string
	}{
		{"no endpoint", func(c *token.Config) { c.Endpoint = "" }, "endpoint"},
		{"no local key", func(c *token.Config) { c.Sealer = nil }, "local key"},
		{"no recipient", func(c *token.Config) { c.Recipients = nil }, "recipient"},
		{"a recipient with another's key", func(c *token.Config) {
			c.Recipients = []token.Recipient{{Certificate: good.to.Certificate, Key: testkeys.RSA2048(5)}}
		}, "does not belong"},
		{"a recipient that may not encipher", func(c *token.Config) {
			c.Recipients = []token.Recipient{{Certificate: good.local.cert, Key: testkeys.RSA2048(1)}}
		}, "keyEncipherment"},
		{"a recipient with an elliptic curve", func(c *token.Config) {
			c.Recipients = []token.Recipient{{Certificate: good.mdm.cert, Key: testkeys.RSA2048(0)}}
		}, "RSA keys"},
		{"no signer", func(c *token.Config) { c.Signers = nil }, "signer"},
		{"a weak signer", func(c *token.Config) { c.Signers = []token.Signer{{Name: "weak", Certificate: weak.cert}} }, "1024"},
		{"a CA as signer", func(c *token.Config) {
			ca := *good.mdm.cert
			ca.IsCA = true
			c.Signers = []token.Signer{{Name: "ca", Certificate: &ca}}
		}, "CA:FALSE"},
		{"a signer without a name", func(c *token.Config) { c.Signers = []token.Signer{{Certificate: good.mdm.cert}} }, "name"},
		{"a signer twice", func(c *token.Config) { c.Signers = append(c.Signers, c.Signers[0]) }, "another signer"},
		{"a signing key of another", func(c *token.Config) {
			c.Signers = []token.Signer{{Name: "x", Certificate: good.local.cert, Mint: testkeys.RSA2048(5)}}
		}, "does not belong"},
		{"one key for signing and sealing", func(c *token.Config) {
			both := newParty(t, "both", testkeys.RSA2048(0))
			c.Signers = []token.Signer{{Name: "both", Certificate: both.cert}}
		}, "a key each"},
		{"too long a lifetime", func(c *token.Config) { c.MaxLifetime = 31 * 24 * time.Hour }, "lifetime"},
		{"too much skew", func(c *token.Config) { c.ClockSkew = time.Hour }, "skew"},
		{"a negative pace", func(c *token.Config) { c.Rights = map[string]policymodule.Rights{"ops": {PerMinute: -1}} }, "per_minute"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := good.config
			row.change(&c)
			if _, err := token.New(c); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want one about %q", err, row.want)
			}
		})
	}
}

// FuzzToken feeds the module with challenges that are sealed for a key it has.
// Nothing but what a configured party signed may be granted.
func FuzzToken(f *testing.F) {
	w := newWorld(f)
	good := mint(f, encode(f, goodClaims()), w.mdm, w.to)
	der, err := base64.StdEncoding.DecodeString(good.Reveal())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der, false)
	f.Add([]byte(encode(f, goodClaims())), true)
	f.Add([]byte{0x30, 0x80, 0, 0}, true)
	r := request(f, goodCSR(), "x")
	f.Fuzz(func(t *testing.T, b []byte, sealed bool) {
		if sealed {
			if len(b) > 5000 {
				return
			}
			r.CSR.ChallengePassword = seal(t, b, w.to)
		} else {
			r.CSR.ChallengePassword = secret.Text(base64.StdEncoding.EncodeToString(b))
		}
		d, err := w.module.Verify(t.Context(), r)
		if err != nil || d.Granted && sealed {
			t.Errorf("granted %v, error %v", d.Granted, err)
		}
		if !d.Granted && d.Rule == "" {
			t.Error("a refusal without a rule")
		}
	})
}
