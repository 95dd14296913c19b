package token

import (
	"crypto"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/certconnector/certconnector/internal/pkcs10"
)

// What the claims of version 1 begin with. No other message of a signer's key
// has this typ, so none is taken for a challenge.
const (
	claimsType    = "certconnector-challenge"
	claimsVersion = 1
	idSize        = 16 // octets
	timeLayout    = "2006-01-02T15:04:05Z"
)

// document is the claims as JSON has them.
type document struct {
	Type        string             `json:"typ"`
	Version     int                `json:"version"`
	ID          string             `json:"id"`
	Endpoint    string             `json:"endpoint"`
	NotBefore   string             `json:"not_before"`
	NotAfter    string             `json:"not_after"`
	Subject     [][]attributeClaim `json:"subject"`
	SAN         []sanClaim         `json:"san,omitempty"`
	KeyUsage    []string           `json:"key_usage,omitempty"`
	ExtKeyUsage []string           `json:"ext_key_usage,omitempty"`
	Key         *keyClaim          `json:"key,omitempty"`
	Hash        *string            `json:"hash,omitempty"`
	Template    *string            `json:"template,omitempty"`
	MaxValidity *int64             `json:"max_validity,omitempty"` // seconds
}

type attributeClaim struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// sanClaim is one GeneralName; one of the members is set.
type sanClaim struct {
	DNS   string `json:"dns,omitempty"`
	Email string `json:"email,omitempty"`
	UPN   string `json:"upn,omitempty"`
	URI   string `json:"uri,omitempty"`
	IP    string `json:"ip,omitempty"`
}

type keyClaim struct {
	Type    string `json:"type,omitempty"`
	MinBits int    `json:"min_bits,omitempty"`
}

var claimNames = []string{
	"typ", "version", "id", "endpoint", "not_before", "not_after", "subject", "san", "key_usage", "ext_key_usage",
	"key", "hash", "template", "max_validity", "type", "value", "dns", "email", "upn", "uri", "ip", "min_bits",
}

// claims are what a challenge is good for, in the terms of a request.
type claims struct {
	id                  string
	endpoint            string
	notBefore, notAfter time.Time
	subject             pkix.RDNSequence
	san                 pkcs10.AltNames
	keyUsage            int                     // 0: no claim
	extKeyUsage         []asn1.ObjectIdentifier // nil: no claim
	keyType             string                  // "": no claim
	minKeyBits          int
	hash                crypto.Hash // 0: no claim
	template            string
	maxValidity         time.Duration
}

// parseClaims reads claims; an error names the claim and never its value.
func parseClaims(data []byte) (*claims, error) {
	var d document
	if err := decodeStrict(data, claimNames, &d); err != nil {
		return nil, fmt.Errorf("the claims: %w", err)
	}
	if d.Type != claimsType || d.Version != claimsVersion {
		return nil, errors.New("typ or version is not that of a challenge")
	}
	c := &claims{endpoint: d.Endpoint, id: d.ID}
	if id, err := base64.RawURLEncoding.Strict().DecodeString(d.ID); err != nil || len(id) != idSize {
		return nil, fmt.Errorf("id is not base64url of %d octets", idSize)
	}
	if d.Endpoint == "" {
		return nil, errors.New("endpoint is missing")
	}
	if d.Subject == nil {
		return nil, errors.New("subject is missing")
	}
	var err error
	if c.notBefore, err = time.Parse(timeLayout, d.NotBefore); err != nil {
		return nil, errors.New("not_before is no time as 2026-01-31T12:00:00Z")
	}
	if c.notAfter, err = time.Parse(timeLayout, d.NotAfter); err != nil {
		return nil, errors.New("not_after is no time as 2026-01-31T12:00:00Z")
	}
	if c.subject, err = readSubject(d.Subject); err != nil {
		return nil, err
	}
	if c.san, err = readSAN(d.SAN); err != nil {
		return nil, err
	}
	if err := c.readUsages(&d); err != nil {
		return nil, err
	}
	return c, c.readBounds(&d)
}

func (c *claims) readUsages(d *document) (err error) {
	if d.KeyUsage != nil {
		if c.keyUsage, err = readKeyUsage(d.KeyUsage); err != nil {
			return err
		}
	}
	if d.ExtKeyUsage == nil {
		return nil
	}
	if len(d.ExtKeyUsage) == 0 {
		return errors.New("ext_key_usage is empty: leave it out, or name one")
	}
	for _, text := range d.ExtKeyUsage {
		oid, ok := parseOID(text)
		if !ok {
			return errors.New("ext_key_usage has a value that is no object identifier")
		}
		c.extKeyUsage = append(c.extKeyUsage, oid)
	}
	return nil
}

func (c *claims) readBounds(d *document) error {
	if k := d.Key; k != nil {
		c.keyType, c.minKeyBits = k.Type, k.MinBits
		if k.Type != "" && k.Type != keyRSA && k.Type != keyEC || k.MinBits < 0 || k.Type == "" && k.MinBits == 0 {
			return errors.New(`key needs a type "rsa" or "ec", or min_bits`)
		}
	}
	if d.Hash != nil {
		if c.hash = hashes[*d.Hash]; c.hash == 0 {
			return errors.New("hash is none of sha256, sha384, sha512")
		}
	}
	if d.Template != nil {
		if c.template = *d.Template; c.template == "" {
			return errors.New("template is empty: leave it out")
		}
	}
	if d.MaxValidity != nil {
		if s := *d.MaxValidity; s <= 0 || s > int64(maxValidity/time.Second) {
			return errors.New("max_validity is not a number of seconds within a hundred years")
		}
		c.maxValidity = time.Duration(*d.MaxValidity) * time.Second
	}
	return nil
}

// maxValidity is the longest that a cap on the certificate's life may be; it
// keeps the arithmetic far from an overflow.
const maxValidity = 100 * 365 * 24 * time.Hour

// encode writes claims as they are signed.
func (d *document) encode() ([]byte, error) {
	d.Type, d.Version = claimsType, claimsVersion
	b, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encoding claims: %w", err)
	}
	return b, nil
}
