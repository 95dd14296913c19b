package keys

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/certconnector/certconnector/internal/durable"
	"github.com/certconnector/certconnector/internal/secret"
)

// The PEM types of keys that one machine alone can use.
const (
	pemTSS2   = "TSS2 PRIVATE KEY"
	pemSealed = "DPAPI SEALED PRIVATE KEY"
)

// maxFile bounds what is read as a key.
const maxFile = 1 << 20

// errTPMFile says that a file was read by somebody who knows no TPM.
var errTPMFile = errors.New("the key is in a TPM, which is not used here")

// StoreFile writes a private key as PKCS #8 PEM, that of a TPM as TSS2 PRIVATE
// KEY, readable by its owner only, and syncs file and folder. It never
// replaces a file.
func StoreFile(path string, key crypto.Signer) error {
	if wrapped, ok := key.(interface{ block() (*pem.Block, error) }); ok {
		block, err := wrapped.block()
		if err != nil {
			return err
		}
		return writePEM(path, block)
	}
	if place := PlaceOf(key); place != File {
		return fmt.Errorf("the key cannot leave its device (%s)", place)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encoding the private key for %q: %w", path, err)
	}
	defer clear(der)
	return writePEM(path, &pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// LoadFile reads a key that lies in a PEM file as it is: PKCS #8 as StoreFile
// writes it, or the older forms of openssl. A file that others may read
// is refused.
func LoadFile(path string) (crypto.Signer, error) {
	return readFile(path, func([]byte) (crypto.Signer, error) { return nil, errTPMFile })
}

func (k *Keys) loadFile(path string) (crypto.Signer, error) {
	return readFile(path, func(der []byte) (crypto.Signer, error) { return k.tpm.load(der) })
}

// readFile reads the first key of a PEM file. What a TPM can use is left to it.
func readFile(path string, tpm func(der []byte) (crypto.Signer, error)) (crypto.Signer, error) {
	if err := secret.CheckPrivate(path); err != nil {
		return nil, err
	}
	b, err := durable.ReadFile(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("reading the private key: %w", err)
	}
	defer clear(b)
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		key, err := parse(block, tpm)
		clear(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("private key %q: %w", path, err)
		}
		if key != nil {
			return key, nil
		}
	}
	return nil, fmt.Errorf("no private key in PEM form in %q", path)
}

// Parse reads a block of a PEM file whose key lies in it as it is. It returns
// nil without an error for a block of another kind.
func Parse(block *pem.Block) (crypto.Signer, error) {
	return parse(block, func([]byte) (crypto.Signer, error) { return nil, errTPMFile })
}

// parse returns nil without an error for a block of another kind, as openssl's
// EC PARAMETERS.
func parse(block *pem.Block, tpm func(der []byte) (crypto.Signer, error)) (crypto.Signer, error) {
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case pemTSS2:
		return tpm(block.Bytes)
	case pemSealed:
		return openSealed(block.Bytes)
	case "ENCRYPTED PRIVATE KEY":
		err = errors.New("encrypted keys are not supported; decrypt it with openssl pkey")
	default:
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T cannot sign", key)
	}
	return signer, nil
}

// PlaceOfRef says where the key of a reference lives, as far as the reference
// or its file tell. Of a file that cannot be read it is File.
func PlaceOfRef(ref string) Place {
	if IsURI(ref) {
		if strings.EqualFold(ref[:len(pkcs11Place)], string(pkcs11Place)) {
			return pkcs11Place
		}
		return storePlace
	}
	return PlaceOfFile(ref)
}

// PlaceOfFile is PlaceOfRef for a file: where a new key belongs that takes its
// place.
func PlaceOfFile(path string) Place {
	b, err := durable.ReadFile(path, maxFile)
	if err != nil {
		return File
	}
	defer clear(b)
	begins := func(pemType string) bool { return bytes.Contains(b, []byte("-----BEGIN "+pemType+"-----")) }
	switch {
	case begins(pemTSS2):
		return TPM
	case begins(pemSealed):
		return DPAPI
	}
	return File
}

// writePEM writes a file that must not exist.
func writePEM(path string, block *pem.Block) error {
	b := pem.EncodeToMemory(block)
	defer clear(b)
	return durable.Create(path, b, 0o600)
}
