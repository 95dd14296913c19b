package intune_test

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/intune/intunetest"
)

// proof makes a proof of possession, or fails the test.
func proof(t *testing.T, cert intune.Certificate, now time.Time) string {
	t.Helper()
	p, err := intune.KeyProof(intunetest.ContosoObject, cert, now)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func thumbprint(cert intune.Certificate) string {
	sum := sha1.Sum(cert.Certificate.Raw)
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

// A certificate is rolled as a connector does it: add the new one, go on with
// the old one until Entra ID knows the new one everywhere, remove the old one.
func TestKeysAreRolled(t *testing.T) {
	w := newWorld(t, intunetest.Options{KeyDelay: 10 * time.Minute})
	first, second := signInCertificate(t, 1), signInCertificate(t, 2)
	if err := w.cloud.SetCertificates(intunetest.ContosoID, intunetest.ContosoClient, first.Certificate); err != nil {
		t.Fatal(err)
	}
	held := []intune.Certificate{first}
	w.client = w.newClient(t, withCredential(intune.Credential{Certificates: func() []intune.Certificate { return held }}))

	app, err := w.client.Application(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if app.ObjectID != intunetest.ContosoObject || app.DisplayName != "certconnector" || len(app.Keys) != 1 ||
		app.Keys[0].Thumbprint != thumbprint(first) || !app.Keys[0].NotAfter.Equal(first.Certificate.NotAfter) {
		t.Fatalf("application %+v", app)
	}
	added, err := w.client.AddKey(t.Context(), app.ObjectID, second.Certificate.Raw, "certconnector on host-1", proof(t, first, w.clock.Now()))
	if err != nil {
		t.Fatal(err)
	}
	if added.KeyID == "" || added.DisplayName != "certconnector on host-1" || added.Thumbprint != thumbprint(second) || !added.NotBefore.Equal(second.Certificate.NotBefore) {
		t.Errorf("added %+v", added)
	}

	held = []intune.Certificate{second, first}
	w.clock.Advance(2 * time.Hour)
	if err := w.validate(t, "after the addition"); err != nil {
		t.Fatal(err)
	}
	w.client = w.newClient(t, withCredential(intune.Credential{Certificates: intune.Fixed(second)}))
	if err := w.validate(t, "with the new one alone"); err != nil {
		t.Fatal(err)
	}
	// The key that goes may sign its own removal.
	if err := w.client.RemoveKey(t.Context(), app.ObjectID, app.Keys[0].KeyID, proof(t, first, w.clock.Now())); err != nil {
		t.Fatal(err)
	}
	if app, err = w.client.Application(t.Context()); err != nil || len(app.Keys) != 1 || app.Keys[0].KeyID != added.KeyID {
		t.Errorf("application %+v, %v", app, err)
	}
	w.client = w.newClient(t, withCredential(intune.Credential{Certificates: intune.Fixed(first)}))
	if e, ok := errors.AsType[*intune.AuthError](w.validate(t, "with the old one")); !ok || e.AADSTS != 700027 {
		t.Errorf("a removed key signs in: %v", e)
	}
}

// Until every server of Entra ID knows a new key, the one before it serves.
func TestNewKeyTakesItsTime(t *testing.T) {
	w := newWorld(t, intunetest.Options{KeyDelay: 10 * time.Minute})
	first, second := signInCertificate(t, 1), signInCertificate(t, 2)
	_ = w.cloud.SetCertificates(intunetest.ContosoID, intunetest.ContosoClient, first.Certificate)
	w.client = w.newClient(t, withCredential(intune.Credential{Certificates: intune.Fixed(first)}))
	if _, err := w.client.AddKey(t.Context(), intunetest.ContosoObject, second.Certificate.Raw, "", proof(t, first, w.clock.Now())); err != nil {
		t.Fatal(err)
	}
	both := w.newClient(t, withCredential(intune.Credential{Certificates: intune.Fixed(second, first)}))
	if _, err := both.Application(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.logs.FilterMessage("sign-in certificate refused").Len() != 1 {
		t.Error("the new key was not tried first")
	}
	w.clock.Advance(10 * time.Minute)
	if _, err := w.newClient(t, withCredential(intune.Credential{Certificates: intune.Fixed(second)})).Application(t.Context()); err != nil {
		t.Errorf("after the delay: %v", err)
	}
}

// A certificate that has expired is not taken at sign-in, nor as a proof.
func TestExpiredKey(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	old, next := signInCertificate(t, 1), signInCertificate(t, 2)
	_ = w.cloud.SetCertificates(intunetest.ContosoID, intunetest.ContosoClient, old.Certificate)
	w.clock.Advance(old.Certificate.NotAfter.Sub(w.clock.Now()) + time.Hour)
	_, err := w.client.AddKey(t.Context(), intunetest.ContosoObject, next.Certificate.Raw, "", proof(t, old, w.clock.Now()))
	if e, ok := errors.AsType[*intune.HTTPError](err); !ok || e.Status != http.StatusUnauthorized {
		t.Errorf("proof by an expired key: %v", err)
	}
	w.client = w.newClient(t, withCredential(intune.Credential{Certificates: intune.Fixed(old)}))
	if e, ok := errors.AsType[*intune.AuthError](w.validate(t, "t")); !ok || e.AADSTS != 700027 {
		t.Errorf("sign-in with an expired key: %v", e)
	}
}

// readJWT returns header and claims of a JWT.
func readJWT(t *testing.T, text string) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts", len(parts))
	}
	for i, to := range []*map[string]any{&header, &claims} {
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, to); err != nil {
			t.Fatal(err)
		}
	}
	return header, claims
}

// A proof has what Graph's pages ask for, and no more than ten minutes.
func TestKeyProof(t *testing.T) {
	cert, now := signInCertificate(t, 1), newClock().Now()
	text := proof(t, cert, now)
	header, claims := readJWT(t, text)
	sum := sha1.Sum(cert.Certificate.Raw)
	if header["alg"] != "RS256" || header["typ"] != "JWT" || header["x5t"] != base64.RawURLEncoding.EncodeToString(sum[:]) || header["kid"] != thumbprint(cert) {
		t.Errorf("header %v", header)
	}
	if claims["aud"] != "00000002-0000-0000-c000-000000000000" || claims["iss"] != intunetest.ContosoObject ||
		claims["nbf"] != float64(now.Unix()) || claims["exp"] != float64(now.Unix()+600) || len(claims) != 4 {
		t.Errorf("claims %v", claims)
	}
	end := strings.LastIndexByte(text, '.')
	signature, _ := base64.RawURLEncoding.DecodeString(text[end+1:])
	digest := sha256.Sum256([]byte(text[:end]))
	if err := rsa.VerifyPKCS1v15(cert.Certificate.PublicKey.(*rsa.PublicKey), crypto.SHA256, digest[:], signature); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]intune.Certificate{
		"no key":        {Certificate: cert.Certificate},
		"another's key": {Certificate: cert.Certificate, Signer: testkeys.RSA2048(7)},
		"a curve":       {Certificate: cert.Certificate, Signer: testkeys.P256(0)},
	} {
		if _, err := intune.KeyProof(intunetest.ContosoObject, bad, now); !errors.Is(err, intune.ErrArgument) {
			t.Errorf("%s: %v, want ErrArgument", name, err)
		}
	}
	if _, err := intune.KeyProof("not/an/id", cert, now); !errors.Is(err, intune.ErrArgument) {
		t.Errorf("a malformed object ID: %v", err)
	}
	broken := intune.Certificate{Certificate: cert.Certificate, Signer: brokenSigner{cert.Signer}}
	if _, err := intune.KeyProof(intunetest.ContosoObject, broken, now); err == nil || !strings.Contains(err.Error(), "module is locked") {
		t.Errorf("a key that does not sign: %v", err)
	}
}

// brokenSigner is a key in hardware that is out of order.
type brokenSigner struct{ crypto.Signer }

func (brokenSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("the module is locked")
}

// What is wrong with a proof is found out, and the error shows a way out and
// not the proof.
func TestProofsThatAreRefused(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	known, stranger := signInCertificate(t, 1), signInCertificate(t, 2)
	_ = w.cloud.SetCertificates(intunetest.ContosoID, intunetest.ContosoClient, known.Certificate)
	other, err := intune.KeyProof("0b9ec7a5-0000-4000-8000-00000000ffff", known, w.clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	good := proof(t, known, w.clock.Now())
	for name, p := range map[string]string{
		"a stranger's":          proof(t, stranger, w.clock.Now()),
		"of another object":     other,
		"from ten minutes ago":  proof(t, known, w.clock.Now().Add(-10*time.Minute)),
		"from six minutes on":   proof(t, known, w.clock.Now().Add(6*time.Minute)),
		"with a broken end":     good[:len(good)-8] + "AAAAAAAA",
		"which is no JWT":       "x",
		"without its signature": good[:strings.LastIndexByte(good, '.')+1],
	} {
		_, err := w.client.AddKey(t.Context(), intunetest.ContosoObject, stranger.Certificate.Raw, "", p)
		e, ok := errors.AsType[*intune.HTTPError](err)
		if !ok || e.Status != http.StatusUnauthorized || e.Code != "Authentication_MissingOrMalformed" || e.RequestID == "" {
			t.Fatalf("%s: %v", name, err)
		}
		if !strings.Contains(err.Error(), "proof of possession was not accepted") || !strings.Contains(err.Error(), "Application.ReadWrite.OwnedBy") {
			t.Errorf("%s: %q shows no way out", name, err)
		}
		if len(p) > 8 && strings.Contains(err.Error(), p) {
			t.Errorf("%s: the error shows the proof", name)
		}
	}
	if keys := w.cloud.Keys(); len(keys) != 1 {
		t.Errorf("keys %+v", keys)
	}
}

// A token without the permission is an error that names it, and after consent
// another one is asked for.
func TestKeysPermission(t *testing.T) {
	w := newWorld(t, intunetest.Options{KeyRole: true})
	known, next := signInCertificate(t, 1), signInCertificate(t, 2)
	_ = w.cloud.SetCertificates(intunetest.ContosoID, intunetest.ContosoClient, known.Certificate)
	add := func() error {
		_, err := w.client.AddKey(t.Context(), intunetest.ContosoObject, next.Certificate.Raw, "", proof(t, known, w.clock.Now()))
		return err
	}
	err := add()
	if e, ok := errors.AsType[*intune.HTTPError](err); !ok || e.Status != http.StatusForbidden || !strings.Contains(err.Error(), "grant Application.ReadWrite.OwnedBy") {
		t.Fatalf("error %v", err)
	}
	if n := w.counts(); n[intunetest.AddKey] != 2 || n[intunetest.Token] != 2 {
		t.Errorf("calls %v, want one more try with another token", n)
	}
	_ = w.cloud.SetRoles(intunetest.ContosoID, intunetest.ContosoClient, intunetest.RoleGraph, intunetest.RoleOwnKeys)
	w.clock.Advance(time.Minute)
	if err := add(); err != nil {
		t.Errorf("after consent: %v", err)
	}
}

// A key is not added twice because an answer got lost: the caller asks what
// there is. Removal of what is not there is told as such.
func TestKeyCallsAreNotRepeated(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	known, next := signInCertificate(t, 1), signInCertificate(t, 2)
	_ = w.cloud.SetCertificates(intunetest.ContosoID, intunetest.ContosoClient, known.Certificate)
	p := proof(t, known, w.clock.Now())
	w.cloud.Fail(intunetest.AddKey, 1, intunetest.Fault{Lose: true})
	_, err := w.client.AddKey(t.Context(), intunetest.ContosoObject, next.Certificate.Raw, "", p)
	if _, ok := errors.AsType[*intune.NetworkError](err); !ok {
		t.Fatalf("error %v", err)
	}
	app, err := w.client.Application(t.Context())
	if err != nil || len(app.Keys) != 2 || app.Keys[1].Thumbprint != thumbprint(next) {
		t.Errorf("application %+v, %v", app, err)
	}
	if err := w.client.RemoveKey(t.Context(), app.ObjectID, "00000000-0000-4000-8000-000000000000", p); !errors.Is(err, intune.ErrNotFound) {
		t.Errorf("removing what is not there: %v, want ErrNotFound", err)
	}
	w.cloud.Fail(intunetest.RemoveKey, 1, intunetest.Fault{Status: 429, RetryAfter: "0"})
	if err := w.client.RemoveKey(t.Context(), app.ObjectID, app.Keys[1].KeyID, p); err != nil {
		t.Errorf("after a 429: %v", err)
	}
	for name, err := range map[string]error{
		"no proof":     w.client.RemoveKey(t.Context(), app.ObjectID, "x", ""),
		"no object":    w.client.RemoveKey(t.Context(), "", "x", p),
		"no key":       w.client.RemoveKey(t.Context(), app.ObjectID, "", p),
		"a path":       w.client.RemoveKey(t.Context(), "../users", "x", p),
		"no signature": second(w.client.AddKey(t.Context(), app.ObjectID, []byte("x"), "", p)),
	} {
		if !errors.Is(err, intune.ErrArgument) {
			t.Errorf("%s: %v, want ErrArgument", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// Graph's dates and identifiers are read in the forms that were seen; a key
// that one cannot sign in with is left out.
func TestApplicationForms(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	sum := strings.Repeat("A", 26) + "A=" // twenty zero octets
	w.cloud.Fail(intunetest.Applications, 1, intunetest.Fault{Body: fmt.Sprintf(`{"id":%q,"displayName":null,"keyCredentials":[
		{"keyId":"k1","usage":"verify","customKeyIdentifier":%q,"startDateTime":"2027-01-01T00:00:00","endDateTime":"2028-01-01T00:00:00.5Z","key":null},
		{"keyId":"k2","usage":"Sign","key":null},{"keyId":"k3","usage":"Verify","customKeyIdentifier":"eA==","endDateTime":"soon"}]}`, intunetest.ContosoObject, sum)})
	app, err := w.client.Application(t.Context())
	if err != nil || len(app.Keys) != 2 {
		t.Fatalf("%+v, %v", app, err)
	}
	k := app.Keys[0]
	if k.Thumbprint != strings.Repeat("00", 20) || !k.NotBefore.Equal(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)) || k.NotAfter.Year() != 2028 {
		t.Errorf("%+v", k)
	}
	if k := app.Keys[1]; k.Thumbprint != "" || !k.NotAfter.IsZero() {
		t.Errorf("%+v", k)
	}
	for _, body := range []string{`{}`, `[]`, `{"id":"a/b"}`, `{"id":"x","keyCredentials":{}}`, `<html>`} {
		w.cloud.Fail(intunetest.Applications, 1, intunetest.Fault{Body: body})
		_, err := w.client.Application(t.Context())
		if _, ok := errors.AsType[*intune.ProtocolError](err); !ok {
			t.Errorf("%s: %v, want a ProtocolError", body, err)
		}
	}
	w.cloud.Fail(intunetest.Applications, intunetest.Always, intunetest.Fault{Status: 503})
	if _, err := w.client.Application(t.Context()); !intune.Retryable(err) {
		t.Errorf("503: %v", err)
	}
}
