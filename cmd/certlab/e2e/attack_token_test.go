//go:build e2e

package e2e

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/cms"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
)

// claims are those of docs/policy-token.md for a name below corp.example.
func (b *besieged) claims(name string) map[string]any {
	id := make([]byte, 16)
	rand.Read(id)
	at := func(d time.Duration) string { return time.Now().Add(d).UTC().Format("2006-01-02T15:04:05Z") }
	return map[string]any{
		"typ": "certconnector-challenge", "version": 1, "id": base64.RawURLEncoding.EncodeToString(id), "endpoint": "token",
		"not_before": at(-time.Minute), "not_after": at(30 * time.Minute),
		"subject": [][]map[string]string{{{"type": "CN", "value": name + ".corp.example"}}},
		"san":     []map[string]string{{"dns": name + ".corp.example"}},
	}
}

// seal signs claims in the name of a certificate and seals them, as anybody
// can who has the recipient's certificate.
func (b *besieged) seal(claims map[string]any, as *x509.Certificate, key crypto.Signer, to *x509.Certificate) string {
	b.t.Helper()
	content, err := json.Marshal(claims)
	if err != nil {
		b.t.Fatal(err)
	}
	inner, err := cms.Sign(content, as, key, time.Now())
	if err != nil {
		b.t.Fatal(err)
	}
	outer, err := cms.Seal(inner, []*x509.Certificate{to})
	if err != nil {
		b.t.Fatal(err)
	}
	return b.secret(base64.StdEncoding.EncodeToString(outer))
}

// tokens forges signed challenges, and takes them where they do not belong.
func (b *besieged) tokens(t *testing.T) {
	signer := testkeys.P256(0)
	now := func(d time.Duration) string { return time.Now().Add(d).UTC().Format("2006-01-02T15:04:05Z") }
	with := func(key string, value any) map[string]any {
		c := b.claims("token")
		c[key] = value
		return c
	}
	stranger := b.pair("stranger", testkeys.P256(1))
	for _, a := range []struct {
		name, path string
		challenge  string
		info       scep.FailInfo
		rule       string
	}{
		{"of another endpoint", twinPath, b.newToken("token"), scep.BadRequest, "token_endpoint"},
		{"forged in the signer's name", tokenPath, b.seal(b.claims("token"), b.signing, testkeys.P256(1), b.recipient), scep.BadRequest, "token_signature"},
		{"signed by a stranger", tokenPath, b.seal(b.claims("token"), stranger, testkeys.P256(1), b.recipient), scep.BadRequest, "token_signer_unknown"},
		{"expired", tokenPath, b.seal(merge(with("not_before", now(-40*time.Minute)), "not_after", now(-10*time.Minute)), b.signing, signer, b.recipient), scep.BadRequest, "token_expired"},
		{"not yet valid", tokenPath, b.seal(merge(with("not_before", now(10*time.Minute)), "not_after", now(40*time.Minute)), b.signing, signer, b.recipient), scep.BadRequest, "token_not_yet_valid"},
		{"for a year", tokenPath, b.seal(with("not_after", now(365*24*time.Hour)), b.signing, signer, b.recipient), scep.BadRequest, "token_lifetime"},
		{"for a name beyond the signer's rights", tokenPath, b.seal(with("subject", [][]map[string]string{{{"type": "CN", "value": "ceo.example"}}}), b.signing, signer, b.recipient), scep.BadRequest, "token_rights"},
		{"with a claim that nobody knows", tokenPath, b.seal(with("admin", true), b.signing, signer, b.recipient), scep.BadRequest, "token_claims"},
		{"another message of the signer", tokenPath, b.seal(with("typ", "invoice"), b.signing, signer, b.recipient), scep.BadRequest, "token_claims"},
		{"one-time password", tokenPath, b.password("jamf"), scep.BadRequest, "token_malformed"},
		{"challenge of Intune", tokenPath, b.challenge(intunetest.Ask{Platform: "windows"}).Challenge, scep.BadRequest, "token_malformed"},
		{"at a one-time endpoint", onetimePath, b.newToken("token"), scep.BadRequest, "onetime_challenge_unknown"},
		{"at a static endpoint", fencedPath, b.newToken("token"), scep.BadRequest, "static_challenge_wrong"},
		{"where Intune decides", intunePath, b.newToken("token"), scep.BadMessageCheck, "intune_challenge_decoding"},
	} {
		t.Run(a.name, func(t *testing.T) {
			defer b.during(t)()
			b.repel(a.path, b.enrol(5, b.request("token", a.challenge)), a.info, a.rule)
		})
	}
	t.Run("P3 sealed and signed again", func(t *testing.T) {
		defer b.during(t)()
		claims := b.claims("token")
		b.get(tokenPath, b.enrol(5, b.request("token", b.seal(claims, b.signing, signer, b.recipient))))
		b.repel(tokenPath, b.enrol(6, b.request("token", b.seal(claims, b.signing, signer, b.recipient))), scep.BadRequest, "challenge_used")
		again := b.newTokenSealedTwice("token")
		b.get(tokenPath, b.enrol(5, b.request("token", again[0])))
		b.repel(tokenPath, b.enrol(6, b.request("token", again[1])), scep.BadRequest, "challenge_used")
	})
	t.Run("P5 request agent as application policy", func(t *testing.T) {
		defer b.during(t)()
		policies := []byte{0x30, 0x0e, 0x30, 0x0c, 0x06, 0x0a, 0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x14, 0x02, 0x01}
		add := extended([]int{1, 3, 6, 1, 4, 1, 311, 21, 10}, policies...)
		limited := b.seal(with("ext_key_usage", []string{clientAuth}), b.signing, signer, b.recipient)
		b.repel(tokenPath, b.enrol(5, b.request("token", limited, add)), scep.BadRequest, "token_eku")
		b.repel(tokenPath, b.enrol(5, b.request("token", b.newToken("token"), add)), scep.BadRequest, "extended_key_usage")
	})
}

func merge(claims map[string]any, key string, value any) map[string]any {
	claims[key] = value
	return claims
}

// newTokenSealedTwice is a challenge made by the program, and what the
// recipient's key makes of it: opened and sealed anew.
func (b *besieged) newTokenSealedTwice(name string) [2]string {
	b.t.Helper()
	made := b.newToken(name)
	der, err := base64.StdEncoding.DecodeString(made)
	if err != nil {
		b.t.Fatal(err)
	}
	inner, err := cms.Open(der, []cms.Recipient{{Certificate: b.recipient, Key: testkeys.RSA2048(7)}}, cms.Limits{Bytes: 8 << 10})
	if err != nil {
		b.t.Fatal(err)
	}
	again, err := cms.Seal(inner, []*x509.Certificate{b.recipient})
	if err != nil {
		b.t.Fatal(err)
	}
	return [2]string{made, b.secret(base64.StdEncoding.EncodeToString(again))}
}
