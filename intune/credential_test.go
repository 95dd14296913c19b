package intune_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/intune/intunetest"
)

// federated makes a token of another issuer.
func federated(t *testing.T, key *rsa.PrivateKey, expires time.Time) string {
	t.Helper()
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	signed := part(map[string]string{"alg": "RS256", "kid": "1"}) + "." + part(map[string]any{
		"iss": "https://issuer.example", "sub": "system:serviceaccount:pki:connector", "aud": "api://AzureADTokenExchange", "exp": expires.Unix(),
	})
	digest := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// federation is a tenant whose application trusts an issuer.
func federation() intunetest.Tenant {
	tenant := intunetest.Contoso()
	tenant.Apps[0].Federated = []intunetest.Federated{{
		Issuer: "https://issuer.example", Subject: "system:serviceaccount:pki:connector", Key: testkeys.RSA2048(3).Public(),
	}}
	return tenant
}

// A platform changes the token file all the time; each sign-in uses what is
// there then, from the first call to the last.
func TestTokenFileRotates(t *testing.T) {
	w := newWorld(t, intunetest.Options{Tenants: []intunetest.Tenant{federation()}})
	path := filepath.Join(t.TempDir(), "token")
	write := func(key *rsa.PrivateKey, life time.Duration) {
		t.Helper()
		if err := os.WriteFile(path+".new", []byte(federated(t, key, w.clock.Now().Add(life))+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	write(testkeys.RSA2048(3), 10*time.Minute)
	w.client = w.newClient(t, withCredential(intune.Credential{TokenFile: path}))
	if err := w.validate(t, "first"); err != nil {
		t.Fatal(err)
	}
	// An old token is no longer worth anything once ours have ended.
	w.clock.Advance(2 * time.Hour)
	if e, ok := errors.AsType[*intune.AuthError](w.validate(t, "stale")); !ok || e.AADSTS != 700024 {
		t.Errorf("a stale token: %v, want AADSTS700024", e)
	}
	write(testkeys.RSA2048(3), 10*time.Minute)
	if _, err := w.client.DownloadRevocations(t.Context(), 1, ""); err != nil {
		t.Errorf("after the change of the file: %v", err)
	}
	w.clock.Advance(2 * time.Hour)
	write(testkeys.RSA2048(4), 10*time.Minute)
	if e, ok := errors.AsType[*intune.AuthError](w.validate(t, "forged")); !ok || e.AADSTS != 700027 {
		t.Errorf("a token of another key: %v, want AADSTS700027", e)
	}
}

// A client secret serves for everything, and a new one in its place is used by
// a client that is made of it.
func TestClientSecretEverywhere(t *testing.T) {
	w := pfxWorld(t, intunetest.Options{})
	w.queue(t, 1)
	everything := func() error {
		return errors.Join(
			w.validate(t, "t"),
			second(w.client.DownloadRevocations(t.Context(), 1, "")),
			w.client.UploadRevocations(t.Context(), []intune.RevocationResult{revoked("c1")}),
			second(w.client.Application(t.Context())),
			second(w.client.UserID(t.Context(), obrien)),
		)
	}
	if err := everything(); err != nil {
		t.Fatal(err)
	}
	next := secret.Text("Sim~secret.of-contoso_0002")
	_ = w.cloud.SetSecrets(intunetest.ContosoID, intunetest.ContosoClient, next)
	w.client = w.newClient(t, withCredential(intune.Credential{Secret: next}))
	if err := everything(); err != nil {
		t.Fatal(err)
	}
}

// Of several certificates the newest that Entra ID knows signs in, for every
// kind of call; one that has been removed is passed over.
func TestNewestCertificateEverywhere(t *testing.T) {
	w := pfxWorld(t, intunetest.Options{})
	newest, middle, oldest := signInCertificate(t, 3), signInCertificate(t, 2), signInCertificate(t, 1)
	_ = w.cloud.SetCertificates(intunetest.ContosoID, intunetest.ContosoClient, oldest.Certificate, middle.Certificate)
	w.client = w.newClient(t, withCredential(intune.Credential{Certificates: intune.Fixed(newest, middle, oldest)}))
	if _, err := w.client.DownloadRevocations(t.Context(), 1, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := w.client.UserID(t.Context(), obrien); err != nil {
		t.Fatal(err)
	}
	if n := w.counts()[intunetest.Token]; n != 4 {
		t.Errorf("%d token requests, want 4: the newest in vain and the middle one, for two scopes", n)
	}
	_ = w.cloud.SetCertificates(intunetest.ContosoID, intunetest.ContosoClient, oldest.Certificate)
	w.clock.Advance(2 * time.Hour)
	if err := w.validate(t, "t"); err != nil {
		t.Errorf("with the oldest: %v", err)
	}
}
