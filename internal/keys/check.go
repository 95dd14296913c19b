package keys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
)

// CheckDecrypts has a key open what was encrypted to it with RSA PKCS #1 v1.5,
// as a device encrypts the content key of a SCEP message (RFC 8894, section
// 3.2.2), so that a device which may sign only is found at start.
func CheckDecrypts(key crypto.Signer) error {
	pub, ok := key.Public().(*rsa.PublicKey)
	if !ok {
		return fmt.Errorf("a key of type %T cannot open what devices encrypt; use an RSA key", key.Public())
	}
	decrypter, ok := key.(crypto.Decrypter)
	if !ok {
		return errors.New("the key can sign, but not decrypt; use one in a file or a TPM")
	}
	plain := make([]byte, 32)
	rand.Read(plain)
	//lint:ignore SA1019 SCEP clients know PKCS #1 v1.5 only
	sealed, err := rsa.EncryptPKCS1v15(rand.Reader, pub, plain)
	if err != nil {
		return fmt.Errorf("encrypting to the key: %w", err)
	}
	//lint:ignore SA1019 SCEP clients know PKCS #1 v1.5 only
	opened, err := decrypter.Decrypt(rand.Reader, sealed, &rsa.PKCS1v15DecryptOptions{})
	if err == nil && !bytes.Equal(opened, plain) {
		err = errors.New("something else came out than went in")
	}
	if err != nil {
		return fmt.Errorf("the key cannot decrypt with RSA PKCS #1 v1.5, which devices need: %w; %s", err, wayOut(key))
	}
	return nil
}

// CheckSigns has a key sign, and verifies that with its public key.
func CheckSigns(key crypto.Signer) error {
	digest := sha256.Sum256([]byte("certconnector"))
	signature, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return fmt.Errorf("the key cannot sign: %w", err)
	}
	switch pub := key.Public().(type) {
	case *rsa.PublicKey:
		err = rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], signature)
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(pub, digest[:], signature) {
			err = errors.New("wrong signature")
		}
	default:
		err = fmt.Errorf("keys of type %T are not used here", pub)
	}
	if err != nil {
		return fmt.Errorf("the key's public half does not verify what it signed: %w", err)
	}
	return nil
}

// wayOut says what to do about a key that cannot decrypt.
func wayOut(key crypto.Signer) string {
	switch PlaceOf(key) {
	case pkcs11Place:
		return "make a key pair whose private half has CKA_DECRYPT true, or let the mechanism CKM_RSA_PKCS be used for decryption in the module's policy"
	case TPM:
		return "make a key whose TPM attributes have \"decrypt\" and no fixed scheme, as \"certconnector keys create --where tpm\" does"
	case storePlace:
		return "import the certificate with a key whose use is exchange (AT_KEYEXCHANGE), or whose CNG key usage allows decryption"
	}
	return "use another key"
}

// Places of keys that are not made by Create.
const (
	pkcs11Place Place = "pkcs11"
	storePlace  Place = "certstore"
)
