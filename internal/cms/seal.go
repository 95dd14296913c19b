package cms

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
)

// envelopedData is EnvelopedData (RFC 5652, section 6.1) as Seal writes it and
// Open reads it.
type envelopedData struct {
	Version    int
	Originator asn1.RawValue   `asn1:"optional,tag:0"`
	Recipients []asn1.RawValue `asn1:"set"`
	Content    encryptedContent
	Attributes asn1.RawValue `asn1:"optional,tag:1"`
}

type encryptedContent struct {
	Type      asn1.ObjectIdentifier
	Algorithm pkix.AlgorithmIdentifier
	Octets    []byte `asn1:"optional,tag:0"`
}

// keyTransport is KeyTransRecipientInfo (RFC 5652, section 6.2.1). Recipient
// is an IssuerAndSerialNumber or, in version 2, a [0] subjectKeyIdentifier.
type keyTransport struct {
	Version   int
	Recipient asn1.RawValue
	Algorithm pkix.AlgorithmIdentifier
	Key       []byte
}

// oaepParameters is RSAES-OAEP-params (RFC 4055, section 4.1).
type oaepParameters struct {
	Hash  pkix.AlgorithmIdentifier `asn1:"explicit,tag:0,optional"`
	Mask  pkix.AlgorithmIdentifier `asn1:"explicit,tag:1,optional"`
	Label pkix.AlgorithmIdentifier `asn1:"explicit,tag:2,optional"`
}

// Seal makes an EnvelopedData for RSA recipients: AES-256 in CBC mode, its key
// transported with RSAES-OAEP, SHA-256 and MGF1 with SHA-256.
func Seal(content []byte, to []*x509.Certificate) ([]byte, error) {
	if len(to) == 0 {
		return nil, errors.New("an envelope needs a recipient")
	}
	key, iv := make([]byte, 32), make([]byte, aes.BlockSize)
	rand.Read(key)
	rand.Read(iv)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("preparing the cipher: %w", err)
	}
	pad := aes.BlockSize - len(content)%aes.BlockSize
	octets := append(bytes.Clone(content), bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(octets, octets)

	parameters, err := asn1.Marshal(iv)
	if err != nil {
		return nil, fmt.Errorf("encoding an envelope: %w", err)
	}
	data := envelopedData{Content: encryptedContent{
		Type:      oidData,
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidAES256, Parameters: asn1.RawValue{FullBytes: parameters}},
		Octets:    octets,
	}}
	for _, cert := range to {
		info, err := transport(key, cert)
		if err != nil {
			return nil, err
		}
		data.Recipients = append(data.Recipients, asn1.RawValue{FullBytes: info})
	}
	der, err := asn1.Marshal(data)
	if err != nil {
		return nil, fmt.Errorf("encoding an envelope: %w", err)
	}
	return wrap(oidEnvelopedData, der)
}

// transport makes the RecipientInfo of one recipient.
func transport(key []byte, to *x509.Certificate) ([]byte, error) {
	public, ok := to.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("recipient %q has no RSA key and cannot be encrypted to", to.Subject)
	}
	sealed, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public, key, nil)
	if err != nil {
		return nil, fmt.Errorf("encrypting to %q: %w", to.Subject, err)
	}
	hash := pkix.AlgorithmIdentifier{Algorithm: digests[0].id, Parameters: asn1.NullRawValue}
	hashDER, err := asn1.Marshal(hash)
	if err != nil {
		return nil, fmt.Errorf("encoding an envelope: %w", err)
	}
	parameters, err := asn1.Marshal(oaepParameters{
		Hash: hash,
		Mask: pkix.AlgorithmIdentifier{Algorithm: oidMGF1, Parameters: asn1.RawValue{FullBytes: hashDER}},
	})
	if err != nil {
		return nil, fmt.Errorf("encoding an envelope: %w", err)
	}
	recipient, err := asn1.Marshal(issuerAndSerial{asn1.RawValue{FullBytes: to.RawIssuer}, to.SerialNumber})
	if err != nil {
		return nil, fmt.Errorf("encoding an envelope: %w", err)
	}
	return asn1.Marshal(keyTransport{
		Recipient: asn1.RawValue{FullBytes: recipient},
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidOAEP, Parameters: asn1.RawValue{FullBytes: parameters}},
		Key:       sealed,
	})
}
