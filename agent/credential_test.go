package agent_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
)

// TestSignInWithASecretOrAFederatedToken: what stands in for a certificate at
// Entra ID works from the configuration file to the device.
func TestSignInWithASecretOrAFederatedToken(t *testing.T) {
	const issuer, subject = "https://issuer.corp.example/", "connector"
	issuerKey := testkeys.RSA2048(7)
	tenant := intunetest.Contoso()
	tenant.Apps[0].Federated = []intunetest.Federated{{Issuer: issuer, Subject: subject, Key: issuerKey.Public()}}
	private := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, credential := range map[string]agent.Credential{
		"secret":     {Secret: &agent.SecretRef{File: private("secret", intunetest.ContosoSecret.Reveal()+"\n")}},
		"token file": {TokenFile: private("token", federatedToken(t, issuerKey, issuer, subject)+"\n")},
	} {
		t.Run(name, func(t *testing.T) {
			s, cloud := installIntuneAs(t, intunetest.Options{Tenants: []intunetest.Tenant{tenant}})
			s.cfg.Tenants[0].Credential = credential
			s.start()
			defer s.mustStop()
			if reply := s.enrolIntune(cloud, "windows", testkeys.RSA2048(0)); reply.Status != scep.Success {
				t.Errorf("got %v %v", reply.Status, reply.FailInfo)
			}
		})
	}
}

// federatedToken is what the issuer of a workload identity hands out.
func federatedToken(t *testing.T, key *rsa.PrivateKey, issuer, subject string) string {
	t.Helper()
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	now := time.Now()
	signed := part(map[string]any{"alg": "RS256", "typ": "JWT"}) + "." + part(map[string]any{
		"iss": issuer, "sub": subject, "aud": "api://AzureADTokenExchange", "nbf": now.Add(-time.Minute).Unix(), "exp": now.Add(time.Hour).Unix(),
	})
	digest := sha256.Sum256([]byte(signed))
	sig, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(sig)
}
