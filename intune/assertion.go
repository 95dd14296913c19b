package intune

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"
)

const (
	assertionSkew = time.Minute     // how far nbf lies in the past, for clocks that differ
	assertionLife = 5 * time.Minute // how long an assertion may be used
)

type assertionHeader struct {
	Type       string `json:"typ"`
	Algorithm  string `json:"alg"`
	Thumbprint string `json:"x5t#S256"`
}

type assertionClaims struct {
	Audience  string `json:"aud"`
	Issuer    string `json:"iss"`
	Subject   string `json:"sub"`
	ID        string `json:"jti"`
	NotBefore int64  `json:"nbf"`
	IssuedAt  int64  `json:"iat"`
	Expires   int64  `json:"exp"`
}

// sign returns a client assertion: a JWT that Entra ID takes in place of a
// client secret. It is signed with PS256, which is RSASSA-PSS with SHA-256 and
// a salt as long as the digest (RFC 7518, section 3.5).
func (c Certificate) sign(audience, clientID string, now time.Time) (string, error) {
	thumbprint := sha256.Sum256(c.Certificate.Raw)
	text, err := signJWT(c.Signer, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256},
		assertionHeader{
			Type: "JWT", Algorithm: "PS256",
			Thumbprint: base64.RawURLEncoding.EncodeToString(thumbprint[:]),
		},
		assertionClaims{
			Audience: audience, Issuer: clientID, Subject: clientID, ID: newGUID(),
			NotBefore: now.Add(-assertionSkew).Unix(),
			IssuedAt:  now.Add(-assertionSkew).Unix(),
			Expires:   now.Add(assertionLife).Unix(),
		})
	if err != nil {
		return "", fmt.Errorf("signing in with certificate %X: %w", c.Certificate.SerialNumber, err)
	}
	return text, nil
}

// signJWT makes a JWT over SHA-256 (RFC 7515, section 3.1).
func signJWT(key crypto.Signer, opts crypto.SignerOpts, header, claims any) (string, error) {
	h, err := json.Marshal(header)
	if err != nil {
		return "", err
	}
	b, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	signed := base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(b)
	digest := sha256.Sum256([]byte(signed))
	signature, err := key.Sign(rand.Reader, digest[:], opts)
	if err != nil {
		return "", err
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature), nil
}

// readTokenFile reads the token of a federated issuer.
func readTokenFile(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("reading the federated token: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return "", fmt.Errorf("the federated token file %q is empty", path)
	}
	return token, nil
}
