package intune

import (
	"context"
	"crypto"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"
)

const (
	proofAudience  = "00000002-0000-0000-c000-000000000000" // Azure AD Graph, which the reference of addKey names
	proofLife      = 10 * time.Minute                       // the longest that is accepted
	maxKeyName     = 90                                     // characters of a key's display name
	keyType        = "AsymmetricX509Cert"
	keyUsageVerify = "Verify"
)

// Application is the app registration that the client signs in as.
type Application struct {
	ObjectID    string // of the application object; not the client ID
	DisplayName string
	Keys        []ApplicationKey // those one can sign in with
}

// ApplicationKey is a certificate of an app registration.
type ApplicationKey struct {
	KeyID       string
	DisplayName string
	Thumbprint  string // SHA-1 of the certificate, upper-case hexadecimal; "" when Graph does not tell
	NotBefore   time.Time
	NotAfter    time.Time
}

// keyCredential is a key as Graph writes it.
type keyCredential struct {
	KeyID            string `json:"keyId"`
	DisplayName      string `json:"displayName"`
	Type             string `json:"type"`
	Usage            string `json:"usage"`
	CustomIdentifier []byte `json:"customKeyIdentifier"` // the thumbprint, unless whoever added the key chose another
	Key              []byte `json:"key"`                 // the certificate; told only where $select names keyCredentials
	Start            string `json:"startDateTime"`
	End              string `json:"endDateTime"`
}

func (k keyCredential) read() ApplicationKey {
	key := ApplicationKey{KeyID: k.KeyID, DisplayName: k.DisplayName, NotBefore: graphTime(k.Start), NotAfter: graphTime(k.End)}
	if cert, err := x509.ParseCertificate(k.Key); err == nil {
		key.Thumbprint = thumbprintOf(cert.Raw)
		key.NotBefore, key.NotAfter = cert.NotBefore, cert.NotAfter
	} else if len(k.CustomIdentifier) == sha1.Size {
		key.Thumbprint = strings.ToUpper(hex.EncodeToString(k.CustomIdentifier))
	}
	return key
}

// thumbprintOf is a certificate's name in Entra ID and Intune. It protects
// nothing.
func thumbprintOf(der []byte) string {
	sum := sha1.Sum(der)
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

// graphTime reads a date of Graph; one that is missing or malformed is zero.
// Some were seen without a zone, which means UTC.
func graphTime(s string) time.Time {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC()
		}
	}
	return time.Time{}
}

// Application asks for the app registration that the client signs in as, and
// its keys (Graph, "Get application"). It needs no more than Application.Read.All.
func (c *Client) Application(ctx context.Context) (Application, error) {
	answer, err := c.graph(ctx, graphCall{
		call: callApplication, method: http.MethodGet, repeat: true,
		address: c.graphURL("v"+c.config.Endpoints.GraphVersion,
			"applications(appId='"+c.config.ClientID+"')?$select=id,appId,displayName,keyCredentials"),
	})
	if err != nil {
		return Application{}, err
	}
	var fields struct {
		ID          string          `json:"id"`
		DisplayName string          `json:"displayName"`
		Keys        []keyCredential `json:"keyCredentials"`
	}
	if json.Unmarshal(answer, &fields) != nil || !plainName(fields.ID) {
		return Application{}, &ProtocolError{Call: callApplication, Detail: "it is no application object with an id"}
	}
	app := Application{ObjectID: fields.ID, DisplayName: fields.DisplayName}
	for _, k := range fields.Keys {
		if strings.EqualFold(k.Usage, keyUsageVerify) {
			app.Keys = append(app.Keys, k.read())
		}
	}
	return app, nil
}

// AddKey adds a certificate to an app registration (Graph, "application:
// addKey"). proof is made by KeyProof with a key that the registration has
// already: the first one is uploaded by hand. After an error other than a
// refusal the key may have been added all the same; Application tells.
func (c *Client) AddKey(ctx context.Context, objectID string, certDER []byte, displayName, proof string) (ApplicationKey, error) {
	if err := checkKeyCall(objectID, proof); err != nil {
		return ApplicationKey{}, err
	}
	cert, err := x509.ParseCertificate(certDER)
	if err != nil {
		return ApplicationKey{}, fmt.Errorf("%w: the certificate to add: %v", ErrArgument, err)
	}
	type credential struct {
		Type        string `json:"type"`
		Usage       string `json:"usage"`
		Key         []byte `json:"key"`
		DisplayName string `json:"displayName,omitempty"`
	}
	answer, err := c.graph(ctx, graphCall{
		call: callAddKey, method: http.MethodPost, secrets: []string{proof},
		address: c.graphURL("v"+c.config.Endpoints.GraphVersion, "applications/"+objectID+"/addKey"),
		content: struct {
			Key      credential `json:"keyCredential"`
			Password *string    `json:"passwordCredential"` // null but for keys with a password
			Proof    string     `json:"proof"`
		}{credential{keyType, keyUsageVerify, cert.Raw, truncate(displayName, maxKeyName)}, nil, proof},
	})
	if err != nil {
		return ApplicationKey{}, err
	}
	var added keyCredential
	if json.Unmarshal(answer, &added) != nil || added.KeyID == "" {
		return ApplicationKey{}, &ProtocolError{Call: callAddKey, Detail: "it is no key credential with a keyId"}
	}
	added.Key = cert.Raw // Graph answers without it
	return added.read(), nil
}

// RemoveKey removes a certificate from an app registration (Graph,
// "application: removeKey"). proof may be signed by the key that goes. Nobody
// keeps a caller from removing the last one: after that only an administrator
// can add another.
func (c *Client) RemoveKey(ctx context.Context, objectID, keyID, proof string) error {
	if err := checkKeyCall(objectID, proof); err != nil {
		return err
	}
	if err := require("key ID", keyID); err != nil {
		return err
	}
	_, err := c.graph(ctx, graphCall{
		call: callRemoveKey, method: http.MethodPost, secrets: []string{proof},
		address: c.graphURL("v"+c.config.Endpoints.GraphVersion, "applications/"+objectID+"/removeKey"),
		content: struct {
			KeyID string `json:"keyId"`
			Proof string `json:"proof"`
		}{keyID, proof},
	})
	return err
}

func checkKeyCall(objectID, proof string) error {
	if !plainName(objectID) {
		return fmt.Errorf("%w: the object ID %q of the app registration is malformed", ErrArgument, objectID)
	}
	return require("proof of possession", proof)
}

type proofHeader struct {
	Type       string `json:"typ"`
	Algorithm  string `json:"alg"`
	KeyID      string `json:"kid"`
	Thumbprint string `json:"x5t"`
}

type proofClaims struct {
	Audience  string `json:"aud"`
	Issuer    string `json:"iss"`
	NotBefore int64  `json:"nbf"`
	Expires   int64  `json:"exp"`
}

// KeyProof proves to AddKey and RemoveKey that the caller holds a key which
// the app registration has now (Graph, "Generate proof of possession tokens
// for rolling keys"). It is a JWT signed with RS256, as Microsoft's samples
// make it, and counts for ten minutes from now.
func KeyProof(objectID string, cert Certificate, now time.Time) (string, error) {
	if err := cert.check(); err != nil {
		return "", fmt.Errorf("%w: the certificate to prove with: %v", ErrArgument, err)
	}
	if !plainName(objectID) {
		return "", fmt.Errorf("%w: the object ID %q of the app registration is malformed", ErrArgument, objectID)
	}
	sum := sha1.Sum(cert.Certificate.Raw)
	proof, err := signJWT(cert.Signer, crypto.SHA256,
		proofHeader{"JWT", "RS256", strings.ToUpper(hex.EncodeToString(sum[:])), base64.RawURLEncoding.EncodeToString(sum[:])},
		proofClaims{proofAudience, objectID, now.Unix(), now.Add(proofLife).Unix()})
	if err != nil {
		return "", fmt.Errorf("signing the proof with certificate %X: %w", cert.Certificate.SerialNumber, err)
	}
	return proof, nil
}
