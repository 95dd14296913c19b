// Package pfx writes and reads PKCS #12 files (RFC 7292): a private key, its certificate
// and the issuers, protected by a password that is made for the file.
//
// Key and certificates are encrypted with PBES2 (RFC 8018): PBKDF2 with
// HMAC-SHA-256, AES-256 in CBC mode. The file's integrity is an HMAC with
// SHA-256. OpenSSL since 1.1.1, Windows since 10 1709 and Server 2019, macOS
// since 15 and Java since 8u301 read that; older systems want algorithms that
// are broken, and are not served.
package pfx

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"

	"software.sslmate.com/src/go-pkcs12"

	"github.com/certconnector/certconnector/internal/secret"
)

// Encode returns a PKCS #12 file in DER with an RSA or ECDSA key, its
// certificate and the issuers of that, and the password that opens it: 26
// ASCII letters and digits with 128 random bits at least. With such a password
// the few iterations of the key derivation (2048) cost nothing in strength. An
// error when the certificate has another key.
func Encode(key crypto.Signer, leaf *x509.Certificate, chain []*x509.Certificate) (der []byte, password secret.Text, err error) {
	if key == nil || leaf == nil {
		return nil, "", errors.New("a PKCS #12 file needs a key and its certificate")
	}
	fits := false
	switch k := key.(type) {
	case *rsa.PrivateKey:
		fits = k.PublicKey.Equal(leaf.PublicKey)
	case *ecdsa.PrivateKey:
		fits = k.PublicKey.Equal(leaf.PublicKey)
	default:
		return nil, "", fmt.Errorf("a key of type %T cannot be written into a PKCS #12 file; want RSA or ECDSA", key)
	}
	if !fits {
		return nil, "", errors.New("the certificate is for another key than the one to be written with it")
	}
	password = secret.Text(rand.Text())
	der, err = pkcs12.Modern2023.Encode(key, leaf, chain, password.Reveal())
	if err != nil {
		// What the library says may name what it was given.
		return nil, "", errors.New("the PKCS #12 file cannot be written")
	}
	return der, password, nil
}

// Decode opens a file that Encode has made.
func Decode(der []byte, password secret.Text) (key crypto.Signer, leaf *x509.Certificate, chain []*x509.Certificate, err error) {
	k, leaf, chain, err := pkcs12.DecodeChain(der, password.Reveal())
	if err != nil {
		return nil, nil, nil, errors.New("the PKCS #12 file cannot be read: it is damaged, or the password is another")
	}
	key, ok := k.(crypto.Signer)
	if !ok {
		return nil, nil, nil, fmt.Errorf("the PKCS #12 file has a key of type %T; want RSA or ECDSA", k)
	}
	return key, leaf, chain, nil
}
