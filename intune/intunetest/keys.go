package intunetest

import (
	"crypto"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"strings"
	"time"
)

// appKey is a certificate of an application.
type appKey struct {
	id     string
	name   string
	cert   *x509.Certificate
	added  time.Time // zero: from the beginning
	usable time.Time // at sign-in

	signedIn time.Time // the last time; zero: never
	signIns  int
}

// Key is a certificate of an application, as it is known outside.
type Key struct {
	Tenant     string    `json:"tenant"`
	ClientID   string    `json:"client_id"`
	ObjectID   string    `json:"object_id"`
	KeyID      string    `json:"key_id"`
	Name       string    `json:"name"`
	Thumbprint string    `json:"thumbprint"` // SHA-1, upper-case hexadecimal
	NotAfter   time.Time `json:"not_after"`
	Added      time.Time `json:"added"`     // zero: from the beginning
	Usable     time.Time `json:"usable"`    // at sign-in
	SignedIn   time.Time `json:"signed_in"` // the last time; zero: never
	SignIns    int       `json:"sign_ins"`
}

// setKeys replaces all keys by certificates that count at once.
func (a *App) setKeys(certs []*x509.Certificate) {
	a.keys = nil
	for _, cert := range certs {
		a.keys = append(a.keys, &appKey{id: guid(), name: cert.Subject.String(), cert: cert})
	}
}

// key finds the registered certificate that a JWT names.
func (a *App) key(h jwtHeader) *appKey {
	for _, k := range a.keys {
		s1, s256 := sha1.Sum(k.cert.Raw), sha256.Sum256(k.cert.Raw)
		switch {
		case h.X5TS256 != "":
			if sameBytes(h.X5TS256, s256[:]) {
				return k
			}
		case h.X5T != "":
			if sameBytes(h.X5T, s1[:]) {
				return k
			}
		case strings.EqualFold(h.Thumbprint, hex.EncodeToString(s1[:])):
			return k
		}
	}
	return nil
}

// Keys lists the keys of all applications, oldest first.
func (c *Cloud) Keys() []Key {
	c.mu.Lock()
	defer c.mu.Unlock()
	keys := []Key{}
	for _, t := range c.tenants {
		for _, a := range t.apps {
			for _, k := range a.keys {
				sum := sha1.Sum(k.cert.Raw)
				keys = append(keys, Key{
					Tenant: t.ID, ClientID: a.ClientID, ObjectID: a.ObjectID, KeyID: k.id, Name: k.name,
					Thumbprint: strings.ToUpper(hex.EncodeToString(sum[:])), NotAfter: k.cert.NotAfter, Added: k.added, Usable: k.usable,
					SignedIn: k.signedIn, SignIns: k.signIns,
				})
			}
		}
	}
	return keys
}

// The audiences of proofs that Microsoft's pages name: Azure AD Graph in the
// reference of addKey, Microsoft Graph in the article about proofs.
var proofAudiences = map[string]bool{
	"00000002-0000-0000-c000-000000000000": true,
	"00000003-0000-0000-c000-000000000000": true,
}

// checkProof verifies a proof of possession as Graph documents it. The caller
// holds c.mu.
func (c *Cloud) checkProof(text string, app *App) error {
	t, err := parseJWT(text)
	if err != nil {
		return err
	}
	now := c.clock()
	k := app.key(t.header)
	begins, ends := time.Unix(t.claims.NotBefore, 0), time.Unix(t.claims.Expires, 0)
	switch {
	case k == nil:
		return errors.New("no key of the application signed the proof")
	case now.After(k.cert.NotAfter) || now.Before(k.cert.NotBefore):
		return errors.New("the key that signed the proof is not valid now")
	case !verifyAssertion(t, k.cert.PublicKey):
		return errors.New("the signature is wrong")
	case !proofAudiences[t.claims.Audience]:
		return errors.New("the audience is wrong")
	case t.claims.Issuer != app.ObjectID:
		return errors.New("the issuer is not the object ID of the application")
	case t.claims.NotBefore == 0 || !now.Before(ends) || now.Before(begins.Add(-5*time.Minute)):
		return errors.New("the proof is not within its valid time")
	case ends.Sub(begins) > 10*time.Minute:
		return errors.New("the proof lives longer than ten minutes")
	}
	return nil
}

// federation finds the federation whose issuer and subject a token has.
func (a *App) federation(t *jwt) *Federated {
	for i := range a.Federated {
		if f := &a.Federated[i]; f.Issuer == t.claims.Issuer && f.Subject == t.claims.Subject {
			return f
		}
	}
	return nil
}

// checkFederated verifies a token of a federated issuer. It may be used as
// often as it lives.
func (c *Cloud) checkFederated(t *jwt, f *Federated) *refusal {
	bad := func(aadsts int, words string) *refusal { return &refusal{401, aadsts, "invalid_client", words} }
	audience := f.Audience
	if audience == "" {
		audience = "api://AzureADTokenExchange"
	}
	now := c.clock()
	switch {
	case !verifyAssertion(t, crypto.PublicKey(f.Key)):
		return bad(700027, "Client assertion failed signature validation.")
	case t.claims.Audience != audience:
		return bad(700212, "No matching federated identity record found for presented assertion audience.")
	case !now.Before(time.Unix(t.claims.Expires, 0)) || now.Before(time.Unix(t.claims.NotBefore, 0).Add(-5*time.Minute)):
		return bad(700024, "Client assertion is not within its valid time range.")
	}
	return nil
}
