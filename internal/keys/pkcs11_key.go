//go:build pkcs11

package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/ThalesGroup/crypto11"
	"github.com/miekg/pkcs11"
	"go.uber.org/zap"
)

// pkcs11Key is a key pair of a token.
type pkcs11Key struct {
	token *token
	uri   pkcs11URI
	pub   crypto.PublicKey

	mu     sync.Mutex // guards the rest
	key    crypto11.Signer
	opened int // the login that key is of
}

// pkcs11RSA is a pkcs11Key that may decrypt, too.
type pkcs11RSA struct{ *pkcs11Key }

var (
	_ crypto.Signer    = (*pkcs11Key)(nil)
	_ crypto.Decrypter = pkcs11RSA{}
)

func newPKCS11Key(t *token, u pkcs11URI) (crypto.Signer, error) {
	k := &pkcs11Key{token: t, uri: u}
	if err := k.use(func(key crypto11.Signer) error { k.pub = key.Public(); return nil }); err != nil {
		return nil, err
	}
	switch k.pub.(type) {
	case *rsa.PublicKey:
		return pkcs11RSA{k}, nil
	case *ecdsa.PublicKey:
		return k, nil
	}
	return nil, fmt.Errorf("a token's key of type %T cannot be used", k.pub)
}

// Public implements crypto.Signer.
func (k *pkcs11Key) Public() crypto.PublicKey { return k.pub }

func (k *pkcs11Key) place() Place { return pkcs11Place }

// Sign implements crypto.Signer. RSASSA-PSS takes a salt of a given length, or
// of that of the digest.
func (k *pkcs11Key) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) (signature []byte, err error) {
	if pub, ok := k.pub.(*ecdsa.PublicKey); ok {
		// Not every token cuts a digest that is longer than the curve.
		digest = digest[:min(len(digest), (pub.Curve.Params().BitSize+7)/8)]
	}
	if pss, ok := opts.(*rsa.PSSOptions); ok && pss.SaltLength == rsa.PSSSaltLengthAuto {
		pub := k.pub.(*rsa.PublicKey)
		opts = &rsa.PSSOptions{SaltLength: (pub.N.BitLen()+6)/8 - 2 - pss.HashFunc().Size(), Hash: pss.HashFunc()}
	}
	err = k.use(func(key crypto11.Signer) error {
		signature, err = key.Sign(rand, digest, opts)
		return err
	})
	return signature, err
}

// Decrypt implements crypto.Decrypter: RSAES-PKCS1-v1_5, and RSAES-OAEP with
// the hashes that the device knows.
func (k pkcs11RSA) Decrypt(rand io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) (plain []byte, err error) {
	n := 0
	//lint:ignore SA1019 SCEP clients know PKCS #1 v1.5 only
	if o, ok := opts.(*rsa.PKCS1v15DecryptOptions); ok {
		n, opts = o.SessionKeyLen, nil
	}
	if o, ok := opts.(*rsa.OAEPOptions); ok && o.MGFHash != 0 && o.MGFHash != o.Hash {
		return nil, errors.New("RSAES-OAEP with two different hashes is not supported by tokens' keys")
	}
	err = k.use(func(key crypto11.Signer) error {
		decrypter, ok := key.(crypto.Decrypter)
		if !ok {
			return errors.New("the token's key cannot decrypt")
		}
		plain, err = decrypter.Decrypt(rand, ciphertext, opts)
		return err
	})
	if n > 0 {
		return sessionKey(plain, err, n, refusedByToken)
	}
	return plain, err
}

// refusedByToken tells a refused ciphertext from a token that cannot be asked,
// or a key that may not decrypt at all.
func refusedByToken(err error) bool {
	code, ok := errors.AsType[pkcs11.Error](err)
	return ok && !gone(err) && code != pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED && code != pkcs11.CKR_MECHANISM_INVALID
}

// use does something with the key. When token, session or handle were lost, it
// is done once more after logging in again.
func (k *pkcs11Key) use(op func(crypto11.Signer) error) error {
	opened, err := k.once(op)
	if err == nil || !gone(err) {
		return err
	}
	if !errors.Is(err, errNotOpen) {
		k.token.log.Warn("the token lost our session; logging in again", zap.Error(err))
	}
	if err := k.token.open(opened); err != nil {
		return err
	}
	_, err = k.once(op)
	return err
}

func (k *pkcs11Key) once(op func(crypto11.Signer) error) (opened int, err error) {
	err = k.token.use(func(context *crypto11.Context, n int) error {
		opened = n
		key, err := k.find(context, n)
		if err != nil {
			return err
		}
		return op(key)
	})
	return opened, err
}

// find looks the key up, once for each login.
func (k *pkcs11Key) find(context *crypto11.Context, opened int) (crypto11.Signer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.key != nil && k.opened == opened {
		return k.key, nil
	}
	found, err := context.FindKeyPairs(optional(k.uri.id), optional(k.uri.object))
	if err != nil {
		return nil, fmt.Errorf("looking for the key in token %s: %w", k.token.name(), err)
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("token %s has %d key pairs with this object and id, want one; a private key needs its public key or certificate beside it, with the same id", k.token.name(), len(found))
	}
	if pub, ok := k.pub.(interface{ Equal(crypto.PublicKey) bool }); ok && !pub.Equal(found[0].Public()) {
		return nil, fmt.Errorf("token %s has another key under this name than before; restart the service", k.token.name())
	}
	k.key, k.opened = found[0], opened
	return k.key, nil
}

func optional(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}
