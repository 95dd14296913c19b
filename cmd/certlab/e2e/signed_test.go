//go:build e2e

package e2e

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// recipes are the shell lines of docs/policy-token.md: how to make key pairs,
// and how to make a challenge.
func recipes(t *testing.T) (pairs, mint string) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "policy-token.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?ms)^```sh\n(.*?)^```").FindAllSubmatch(page, -1)
	if len(found) < 2 {
		t.Fatalf("%d recipes in the page, want two at least", len(found))
	}
	return string(found[0][1]), string(found[1][1])
}

// makeKeys makes the keys around signed challenges: the MDM's and the
// recipient's as the page says, our own signing key here.
func (m *mdm) makeKeys() {
	m.t.Helper()
	if err := os.Mkdir(m.served, 0o700); err != nil {
		m.t.Fatal(err)
	}
	pairs, _ := recipes(m.t)
	must(m.t, m.served, "sh", "-eu", "-c", pairs)
	neighbour(m.t, m.served, "here", &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "challenges"}, KeyUsage: x509.KeyUsageDigitalSignature,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}, nil, nil)
}

// foreignChallenge makes a challenge with openssl and a shell alone.
func (m *mdm) foreignChallenge() string {
	m.t.Helper()
	_, mint := recipes(m.t)
	must(m.t, m.served, "sh", "-eu", "-c", mint)
	b, err := os.ReadFile(filepath.Join(m.served, "challenge.txt"))
	if err != nil {
		m.t.Fatal(err)
	}
	return m.secret(string(b))
}

// phone is the request that the recipe's challenge describes, of another phone.
func phone(name, challenge string) scepclient.CSR {
	return scepclient.CSR{
		Subject:  pkix.Name{Organization: []string{"Corp"}, CommonName: "phone " + name},
		DNSNames: []string{"phone" + name + ".corp.example"}, Challenge: secretText(challenge),
	}
}

// phoneChallenge has the operator make a challenge for a phone.
func (m *mdm) phoneChallenge(name string) string {
	m.t.Helper()
	return m.newChallenge("corp", "--subject", "CN=phone "+name+",O=Corp", "--san", "dns:phone"+name+".corp.example")
}

// mint is POST /challenges/corp for a phone.
func (m *mdm) mint(name string, certificate bool) (status int, answer map[string]any) {
	m.t.Helper()
	body, err := json.Marshal(map[string]any{"subject": "CN=phone " + name + ",O=Corp", "san": []string{"dns:phone" + name + ".corp.example"}, "lifetime": 600})
	if err != nil {
		m.t.Fatal(err)
	}
	resp, err := neighbourClient(m.t, m.neighbours(), certificate).Post(m.url+"/challenges/corp", "application/json", bytes.NewReader(body))
	if err != nil {
		m.t.Fatal(err)
	}
	defer resp.Body.Close()
	_ = json.NewDecoder(resp.Body).Decode(&answer) // the caller misses what is not there
	if text, ok := answer["challenge"].(string); ok {
		m.secret(text)
	}
	return resp.StatusCode, answer
}

// TestSignedChallenges has challenges made by an operator, by a principal over
// mutual TLS and by an MDM with openssl; each is good once, for the one
// certificate that it describes.
func TestSignedChallenges(t *testing.T) {
	m := newWorld(t).mdm()
	m.start()
	swan := m.swan(m.world.url(corpPath))
	swan.dn, swan.san = "O=Corp, CN=phone 7", "phone7.corp.example"
	aes := []string{"--cipher", "aes", "--digest", "sha256", "--password"}
	for _, step := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"strongSwan enrols with the operator's, once", func(t *testing.T) {
			challenge := m.phoneChallenge("7")
			swan.mustScep(0, append(aes, challenge)...)
			if _, err := swan.scep(1, append(aes, challenge)...); err == nil {
				t.Error("one challenge was good for two certificates")
			}
			m.traced("corp", "challenge_used")
		}},
		{"other names are refused and spend nothing", func(t *testing.T) {
			challenge := m.phoneChallenge("7")
			other := *swan
			other.dn = "O=Corp, CN=phone 8"
			if _, err := other.scep(1, append(aes, challenge)...); err == nil {
				t.Error("a challenge was good for another subject")
			}
			m.traced("corp", "token_subject")
			other = *swan
			other.san = "phone8.corp.example"
			if _, err := other.scep(1, append(aes, challenge)...); err == nil {
				t.Error("a challenge was good for another alternative name")
			}
			m.traced("corp", "token_san")
			swan.mustScep(1, append(aes, challenge)...)
		}},
		{"openssl alone makes one that strongSwan enrols with", func(*testing.T) {
			challenge := m.foreignChallenge()
			swan.mustScep(2, append(aes, challenge)...)
			m.refused(corpPath, "corp", 3, phone("7", challenge), scep.BadRequest, "challenge_used")
		}},
		{"a principal has one made over mutual TLS, within its rights", func(t *testing.T) {
			status, answer := m.mint("11", true)
			challenge, _ := answer["challenge"].(string)
			if status != http.StatusCreated || challenge == "" {
				t.Fatalf("the principal gets %d, rule %v", status, answer["rule"])
			}
			m.refused(corpPath, "corp", 4, phone("12", challenge), scep.BadRequest, "token_subject")
			m.mustIssue(m.ask(corpPath, 4, phone("11", challenge)), testkeys.RSA2048(4))
			m.refused(corpPath, "corp", 5, phone("11", challenge), scep.BadRequest, "challenge_used")
			if status, answer = m.mint("7", true); status != http.StatusForbidden || answer["rule"] != "challenge_no_right" {
				t.Errorf("beyond its rights the principal gets %d, rule %v", status, answer["rule"])
			}
			if status, _ = m.mint("11", false); status != http.StatusUnauthorized {
				t.Errorf("without a certificate anybody gets %d", status)
			}
		}},
		{"the operator is held to what the endpoint allows", func(t *testing.T) {
			if _, err := m.command("challenge", "new", "--endpoint", "corp", "--subject", "CN=server 1,O=Corp"); err == nil {
				t.Error("a challenge for a foreign name was made")
			}
		}},
		{"a challenge survives kill -9, and so does that it was used", func(*testing.T) {
			challenge := m.phoneChallenge("9")
			m.kill()
			m.start()
			m.mustIssue(m.ask(corpPath, 6, phone("9", challenge)), testkeys.RSA2048(6))
			m.kill()
			m.start()
			m.refused(corpPath, "corp", 7, phone("9", challenge), scep.BadRequest, "challenge_used")
		}},
	} {
		t.Run(step.name, func(t *testing.T) {
			defer m.during(t)()
			step.do(t)
		})
	}
}
