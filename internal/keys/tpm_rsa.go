package keys

import (
	"bytes"
	"crypto"
	cryptorand "crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"

	"github.com/google/go-tpm/tpm2"
)

// Decrypt implements crypto.Decrypter: RSAES-PKCS1-v1_5, and RSAES-OAEP with
// one hash for both of its uses.
func (k tpmRSA) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	switch o := opts.(type) {
	case nil:
		return k.decrypt(ciphertext, rsaES(), nil)
	//lint:ignore SA1019 SCEP clients know PKCS #1 v1.5 only
	case *rsa.PKCS1v15DecryptOptions:
		plain, err := k.decrypt(ciphertext, rsaES(), nil)
		if n := o.SessionKeyLen; n > 0 {
			return sessionKey(plain, err, n, refusedByTPM)
		}
		return plain, err
	case *rsa.OAEPOptions:
		algorithm, ok := algorithms[o.Hash]
		if !ok || o.MGFHash != 0 && o.MGFHash != o.Hash {
			return nil, errors.New("a TPM opens RSAES-OAEP with SHA-1, SHA-256, SHA-384 or SHA-512 for both hash and mask")
		}
		label := o.Label
		if len(label) > 0 {
			if bytes.IndexByte(label, 0) != len(label)-1 {
				return nil, errors.New("a TPM takes labels of RSAES-OAEP that end with their only zero")
			}
		}
		return k.decrypt(ciphertext, tpm2.TPMTRSADecrypt{
			Scheme:  tpm2.TPMAlgOAEP,
			Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgOAEP, &tpm2.TPMSEncSchemeOAEP{HashAlg: algorithm}),
		}, label)
	}
	return nil, fmt.Errorf("a TPM's key cannot decrypt with %T", opts)
}

// sessionKey is what rsa.PKCS1v15DecryptOptions promises: for a wrong padding
// a random key of the right length, so that strangers cannot ask about the
// padding. A device that could not be asked is an error all the same.
func sessionKey(plain []byte, err error, n int, refused func(error) bool) ([]byte, error) {
	fallback := make([]byte, n)
	_, _ = cryptorand.Read(fallback) // never fails
	switch {
	case err != nil && !refused(err):
		return nil, err
	case err != nil || len(plain) != n:
		return fallback, nil
	}
	return plain, nil
}

// refusedByTPM tells a refused ciphertext, which is an answer about a parameter
// (format one; TPM 2.0 Library, part 2, section 6.6), from a TPM that cannot: it
// is busy, locked out or out of memory, or did not make the key. libtpms, the
// TPM of virtual machines, answers a wrong padding with TPM_RC_FAILURE; a TPM
// that is broken answers so too, and to the next use of the key again.
func refusedByTPM(err error) bool {
	code, answered := errors.AsType[tpm2.TPMRC](err)
	_, formatOne := errors.AsType[tpm2.TPMFmt1Error](err)
	return answered && (formatOne && !errors.Is(code, tpm2.TPMRCIntegrity) || code == tpm2.TPMRCFailure)
}

func rsaES() tpm2.TPMTRSADecrypt {
	return tpm2.TPMTRSADecrypt{Scheme: tpm2.TPMAlgRSAES, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSAES, &tpm2.TPMSEncSchemeRSAES{})}
}

func (k *tpmKey) decrypt(ciphertext []byte, scheme tpm2.TPMTRSADecrypt, label []byte) (plain []byte, err error) {
	err = k.tpm.use(k, func(w *wire, handle tpm2.AuthHandle) error {
		r, err := tpm2.RSADecrypt{
			KeyHandle: handle, CipherText: tpm2.TPM2BPublicKeyRSA{Buffer: ciphertext}, InScheme: scheme, Label: tpm2.TPM2BData{Buffer: label},
		}.Execute(w)
		if err == nil {
			plain = r.Message.Buffer
		}
		return err
	})
	return plain, err
}

// raw applies the private key to a number as it is (RSADP). The TPM allows that
// for a key that may decrypt and has no fixed scheme.
func (k *tpmKey) raw(encoded []byte, size int) ([]byte, error) {
	out, err := k.decrypt(encoded, tpm2.TPMTRSADecrypt{Scheme: tpm2.TPMAlgNull}, nil)
	if err != nil || len(out) >= size {
		return out, err
	}
	return append(make([]byte, size-len(out)), out...), nil
}

// signPSS has the TPM sign. TPMs choose the length of the salt themselves
// (that of the digest, or the most that fits, by their age and mode); where
// another one is asked for, as by PS256 (RFC 7518, section 3.5), the message is
// padded here and the TPM applies the key.
func (k *tpmKey) signPSS(rand io.Reader, pub *rsa.PublicKey, digest []byte, o *rsa.PSSOptions, algorithm tpm2.TPMAlgID) ([]byte, error) {
	signature, err := k.sign(digest, tpm2.TPMTSigScheme{
		Scheme:  tpm2.TPMAlgRSAPSS,
		Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgRSAPSS, &tpm2.TPMSSchemeHash{HashAlg: algorithm}),
	})
	if err != nil && !unsupported(err) {
		return nil, err
	}
	salt := o.SaltLength
	if salt == rsa.PSSSaltLengthEqualsHash {
		salt = o.HashFunc().Size()
	}
	if err == nil {
		s, failed := signature.RSAPSS()
		if failed == nil && rsa.VerifyPSS(pub, o.HashFunc(), digest, s.Sig.Buffer, &rsa.PSSOptions{SaltLength: salt}) == nil {
			return s.Sig.Buffer, nil
		}
	}
	if !k.decrypts {
		return nil, errors.New("this TPM signs RSASSA-PSS with a salt of another length than is asked for, and the key's attributes do not allow to pad here; make a key with \"certconnector keys create --where tpm\"")
	}
	if rand == nil {
		rand = cryptorand.Reader
	}
	encoded, err := encodePSS(rand, digest, pub.N.BitLen()-1, salt, o.HashFunc())
	if err != nil {
		return nil, err
	}
	return k.raw(encoded, pub.Size())
}

// padded signs with PKCS #1 v1.5 where the TPM does not know the hash.
func (k *tpmKey) padded(pub *rsa.PublicKey, digest []byte, hash crypto.Hash) ([]byte, error) {
	encoded, err := encodePKCS1(digest, pub.Size(), hash)
	if err != nil {
		return nil, err
	}
	signature, err := k.raw(encoded, pub.Size())
	if err != nil {
		return nil, err
	}
	return signature, rsa.VerifyPKCS1v15(pub, hash, digest, signature)
}
