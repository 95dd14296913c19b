package scepclient

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	_ "crypto/md5" // refused by servers; sent to see that they do
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // legacy digest of Cisco and of OAEP's default
	_ "crypto/sha256"
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
)

var (
	oidOAEP = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7}
	oidMGF1 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
)

// ciphers are the content encryption algorithms and how to make their blocks.
var ciphers = map[Cipher]struct {
	id    asn1.ObjectIdentifier
	key   int // octets
	block func(key []byte) (cipher.Block, error)
}{
	AES128:    {asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}, 16, aes.NewCipher},
	AES192:    {asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 22}, 24, aes.NewCipher},
	AES256:    {asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}, 32, aes.NewCipher},
	TripleDES: {asn1.ObjectIdentifier{1, 2, 840, 113549, 3, 7}, 24, des.NewTripleDESCipher},
	SingleDES: {asn1.ObjectIdentifier{1, 3, 14, 3, 2, 7}, 8, des.NewCipher},
}

// seal makes the pkcsPKIEnvelope: an EnvelopedData for all recipients
// (RFC 8894, section 3.2.2).
func seal(content []byte, recipients []*x509.Certificate, name Cipher, oaep crypto.Hash) ([]byte, error) {
	if name == "" {
		name = AES128
	}
	c, ok := ciphers[name]
	if !ok {
		return nil, fmt.Errorf("cipher %q is not supported", name)
	}
	if len(recipients) == 0 {
		return nil, errors.New("no recipient certificate; GetCACert names it")
	}
	key := make([]byte, c.key)
	rand.Read(key)
	block, err := c.block(key)
	if err != nil {
		return nil, fmt.Errorf("cipher %s: %w", name, err)
	}
	iv := make([]byte, block.BlockSize())
	rand.Read(iv)
	pad := block.BlockSize() - len(content)%block.BlockSize()
	sealed := slices.Concat(content, bytes.Repeat([]byte{byte(pad)}, pad))
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(sealed, sealed)

	infos := make([][]byte, 0, len(recipients))
	for _, r := range recipients {
		info, err := recipientInfo(r, key, oaep)
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	return sequence(oid(oidEnvelopedData), tlv(tagContext0, sequence(
		smallInteger(0),
		set(infos...),
		sequence(oid(oidData), algorithm(c.id, octets(iv)), tlv(tagImplicit0, sealed)),
	))), nil
}

// recipientInfo transports the content key to one recipient.
func recipientInfo(to *x509.Certificate, key []byte, oaep crypto.Hash) ([]byte, error) {
	public, ok := to.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("recipient %q has no RSA key and cannot be encrypted to", to.Subject)
	}
	var (
		transport []byte
		wrapped   []byte
		err       error
	)
	if oaep == 0 {
		transport = algorithm(oidRSA, null())
		//lint:ignore SA1019 RFC 8894 knows no other key transport
		wrapped, err = rsa.EncryptPKCS1v15(rand.Reader, public, key)
	} else {
		ids, known := digests[oaep]
		if !known || !oaep.Available() {
			return nil, fmt.Errorf("OAEP hash %v is not supported", oaep)
		}
		transport = algorithm(oidOAEP, oaepParameters(oaep, ids.digest))
		wrapped, err = rsa.EncryptOAEP(oaep.New(), rand.Reader, public, key, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("encrypting to %q: %w", to.Subject, err)
	}
	return sequence(smallInteger(0), sequence(to.RawIssuer, integer(to.SerialNumber)), transport, octets(wrapped)), nil
}

// oaepParameters encodes RSAES-OAEP-params (RFC 4055, section 4.1): empty for
// the default, SHA-1, as Windows sends it.
func oaepParameters(hash crypto.Hash, id asn1.ObjectIdentifier) []byte {
	if hash == crypto.SHA1 {
		return sequence()
	}
	h := algorithm(id, null())
	return sequence(tlv(0xa0, h), tlv(0xa1, algorithm(oidMGF1, h)))
}

// unseal opens what pkcs7 cannot: AES-192. The key transport is PKCS #1 v1.5.
func unseal(envelope []byte, key *rsa.PrivateKey) ([]byte, error) {
	fields, err := contentFields(envelope)
	if err != nil || len(fields) < 3 {
		return nil, errors.New("not an EnvelopedData")
	}
	recipient, _, err := readElement(fields[1].content)
	if err != nil {
		return nil, fmt.Errorf("recipient: %w", err)
	}
	parts, err := readElements(recipient.content)
	if err != nil || len(parts) != 4 {
		return nil, errors.New("recipient is no key transport")
	}
	bulk, err := readElements(fields[2].content)
	if err != nil || len(bulk) != 3 {
		return nil, errors.New("no encrypted content")
	}
	method, err := readElements(bulk[1].content)
	if err != nil || len(method) != 2 || !bytes.Equal(method[0].full, oid(ciphers[AES192].id)) {
		return nil, errors.New("content encryption algorithm is not supported")
	}
	content, iv := bulk[2].content, method[1].content
	//lint:ignore SA1019 RFC 8894 knows no other key transport
	secret, err := rsa.DecryptPKCS1v15(nil, key, parts[3].content)
	if err != nil {
		return nil, fmt.Errorf("content key: %w", err)
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, fmt.Errorf("content key: %w", err)
	}
	if len(iv) != aes.BlockSize || len(content) == 0 || len(content)%aes.BlockSize != 0 {
		return nil, errors.New("encrypted content is not a multiple of a block")
	}
	plain := make([]byte, len(content))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plain, content)
	pad := int(plain[len(plain)-1])
	if pad == 0 || pad > aes.BlockSize {
		return nil, errors.New("wrong padding")
	}
	return plain[:len(plain)-pad], nil
}
