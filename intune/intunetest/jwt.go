package intunetest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"strings"
	"time"
)

// jwtHeader and jwtClaims are what the cloud reads of a JWT, and writes.
type jwtHeader struct {
	Type       string `json:"typ,omitempty"`
	Algorithm  string `json:"alg"`
	X5T        string `json:"x5t,omitempty"`
	X5TS256    string `json:"x5t#S256,omitempty"`
	Critical   any    `json:"crit,omitempty"`
	Thumbprint string `json:"kid,omitempty"`
}

type jwtClaims struct {
	Audience  string   `json:"aud"`
	Issuer    string   `json:"iss"`
	Subject   string   `json:"sub,omitempty"`
	ID        string   `json:"jti,omitempty"`
	NotBefore int64    `json:"nbf,omitempty"`
	IssuedAt  int64    `json:"iat,omitempty"`
	Expires   int64    `json:"exp"`
	AppID     string   `json:"appid,omitempty"`
	TenantID  string   `json:"tid,omitempty"`
	Roles     []string `json:"roles,omitempty"`
}

type jwt struct {
	header    jwtHeader
	claims    jwtClaims
	signed    []byte
	signature []byte
}

var errJWT = errors.New("malformed JWT")

func parseJWT(text string) (*jwt, error) {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return nil, errJWT
	}
	var raw [3][]byte
	for i, p := range parts {
		b, err := base64.RawURLEncoding.DecodeString(p)
		if err != nil {
			return nil, errJWT
		}
		raw[i] = b
	}
	t := &jwt{signed: []byte(parts[0] + "." + parts[1]), signature: raw[2]}
	if json.Unmarshal(raw[0], &t.header) != nil || json.Unmarshal(raw[1], &t.claims) != nil {
		return nil, errJWT
	}
	return t, nil
}

// mint signs an access token with ES256.
func (c *Cloud) mint(claims jwtClaims) (string, error) {
	header, err := json.Marshal(jwtHeader{Type: "JWT", Algorithm: "ES256"})
	if err != nil {
		return "", err
	}
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signed := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(body)
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, c.tokenKey, digest[:])
	if err != nil {
		return "", err
	}
	signature := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// checkToken verifies an access token's signature and times.
func (c *Cloud) checkToken(text string) (jwtClaims, error) {
	t, err := parseJWT(text)
	if err != nil {
		return jwtClaims{}, err
	}
	digest := sha256.Sum256(t.signed)
	if t.header.Algorithm != "ES256" || len(t.signature) != 64 ||
		!ecdsa.Verify(&c.tokenKey.PublicKey, digest[:],
			new(big.Int).SetBytes(t.signature[:32]), new(big.Int).SetBytes(t.signature[32:])) {
		return jwtClaims{}, errors.New("token was not issued here")
	}
	now := c.clock().Unix()
	if now >= t.claims.Expires || now < t.claims.NotBefore-300 {
		return jwtClaims{}, errors.New("token lifetime is over, or not begun")
	}
	return t.claims, nil
}

// A refusal of a token request, as Entra ID numbers and names it.
type refusal struct {
	status int
	aadsts int
	oauth  string
	words  string
}

// checkAssertion verifies a client assertion as Entra ID documents it. The
// caller holds c.mu.
func (c *Cloud) checkAssertion(text string, app *App, audiences []string) *refusal {
	bad := func(aadsts int, words string) *refusal { return &refusal{401, aadsts, "invalid_client", words} }
	t, err := parseJWT(text)
	if err != nil {
		return bad(50027, "JWT token is invalid or malformed.")
	}
	if f := app.federation(t); f != nil {
		return c.checkFederated(t, f)
	}
	now := c.clock()
	k := app.key(t.header)
	if k == nil || now.Before(k.usable) {
		return bad(700027, "The certificate with identifier used to sign the client assertion is not registered on application.")
	}
	if now.After(k.cert.NotAfter) {
		return bad(700027, "Client assertion failed signature validation. [Reason - The key used is expired.]")
	}
	if !verifyAssertion(t, k.cert.PublicKey) {
		return bad(700027, "Client assertion failed signature validation.")
	}
	expires, begins := time.Unix(t.claims.Expires, 0), time.Unix(t.claims.NotBefore, 0)
	switch {
	case !slices.Contains(audiences, t.claims.Audience):
		return bad(700023, "Client assertion audience claim does not match Realm issuer.")
	case t.claims.Issuer != app.ClientID || t.claims.Subject != app.ClientID:
		return bad(700021, "Client assertion application identifier doesn't match 'client_id' parameter.")
	case !now.Before(expires) || now.Before(begins.Add(-5*time.Minute)) || expires.Sub(now) > 24*time.Hour:
		return bad(700024, "Client assertion is not within its valid time range.")
	case t.claims.ID == "":
		return bad(50027, "Client assertion has no jti.")
	}
	if _, seen := c.jtis[t.claims.ID]; seen {
		return bad(50013, "Assertion failed, its jti was seen before.")
	}
	for id, end := range c.jtis {
		if now.After(end) {
			delete(c.jtis, id)
		}
	}
	c.jtis[t.claims.ID] = expires
	k.signedIn = now
	k.signIns++
	return nil
}

// sameBytes reads any base64: MSAL for Go sends the standard alphabet with
// padding where the documents want the URL's.
func sameBytes(text string, want []byte) bool {
	text = strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(text)
	return text == base64.RawURLEncoding.EncodeToString(want)
}

func verifyAssertion(t *jwt, key crypto.PublicKey) bool {
	pub, ok := key.(*rsa.PublicKey)
	if !ok {
		return false
	}
	digest := sha256.Sum256(t.signed)
	switch t.header.Algorithm {
	case "PS256":
		return rsa.VerifyPSS(pub, crypto.SHA256, digest[:], t.signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
	case "RS256":
		return rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], t.signature) == nil
	}
	return false
}
