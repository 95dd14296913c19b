package scep

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
)

// decryptKey decrypts a content encryption key of n octets. It never fails:
// whatever is wrong with the ciphertext, a random key comes back and the
// content turns out to be garbage, so that a stranger cannot ask the RA key
// whether a padding is right (Bleichenbacher's and Manger's attacks).
// key is a crypto.Decrypter; a device behind it may report the padding, and
// its error is not passed on.
func decryptKey(key crypto.Decrypter, r recipient, n int) []byte {
	fallback := make([]byte, n)
	_, _ = rand.Read(fallback) // never fails
	//lint:ignore SA1019 RFC 8894 clients know PKCS #1 v1.5 only; the session key variant is constant time
	var options crypto.DecrypterOpts = &rsa.PKCS1v15DecryptOptions{SessionKeyLen: n}
	if r.oaep != 0 {
		options = &rsa.OAEPOptions{Hash: r.oaep, MGFHash: r.mgf}
	}
	decrypted, err := key.Decrypt(rand.Reader, r.encrypted, options)
	if err != nil || len(decrypted) != n {
		return fallback
	}
	return decrypted
}

// encryptKey encrypts a content encryption key to the sender of a request.
func encryptKey(to *rsa.PublicKey, key []byte) ([]byte, error) {
	//lint:ignore SA1019 RFC 8894 clients know PKCS #1 v1.5 only
	return rsa.EncryptPKCS1v15(rand.Reader, to, key)
}
