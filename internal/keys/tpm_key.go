package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// tpmKey is a key that a TPM has wrapped; it is loaded when it is used.
type tpmKey struct {
	tpm      *tpm
	parent   tpm2.TPMHandle
	public   tpm2.TPM2BPublic
	private  tpm2.TPM2BPrivate
	key      crypto.PublicKey
	decrypts bool // its attributes allow it
}

// tpmRSA is a tpmKey that may decrypt, too.
type tpmRSA struct{ *tpmKey }

var (
	_ crypto.Signer    = (*tpmKey)(nil)
	_ crypto.Decrypter = tpmRSA{}
)

// load reads a key's file and has the TPM load it.
func (t *tpm) load(der []byte) (crypto.Signer, error) {
	file, err := decodeTSS2(der)
	if err != nil {
		return nil, err
	}
	k := &tpmKey{tpm: t, parent: file.parent}
	public, err := tpm2.Unmarshal[tpm2.TPM2BPublic](file.public)
	if err != nil {
		return nil, fmt.Errorf("the public part of a TPM's key: %w", err)
	}
	private, err := tpm2.Unmarshal[tpm2.TPM2BPrivate](file.private)
	if err != nil {
		return nil, fmt.Errorf("the private part of a TPM's key: %w", err)
	}
	contents, err := public.Contents()
	if err != nil {
		return nil, fmt.Errorf("the public part of a TPM's key: %w", err)
	}
	if k.key, err = tpm2.Pub(*contents); err != nil {
		return nil, fmt.Errorf("the public part of a TPM's key: %w", err)
	}
	k.public, k.private, k.decrypts = *public, *private, contents.ObjectAttributes.Decrypt
	if err := t.use(k, func(*wire, tpm2.AuthHandle) error { return nil }); err != nil {
		return nil, err
	}
	switch k.key.(type) {
	case *rsa.PublicKey:
		return tpmRSA{k}, nil
	case *ecdsa.PublicKey:
		return k, nil
	}
	return nil, fmt.Errorf("a TPM's key of type %T cannot sign", k.key)
}

// Public implements crypto.Signer.
func (k *tpmKey) Public() crypto.PublicKey { return k.key }

func (k *tpmKey) place() Place { return TPM }

// block is the key's file.
func (k *tpmKey) block() (*pem.Block, error) {
	der, err := encodeTSS2(tss2{parent: k.parent, public: tpm2.Marshal(k.public), private: tpm2.Marshal(k.private)})
	return &pem.Block{Type: pemTSS2, Bytes: der}, err
}

// algorithms are the hashes as TPMs name them. A TPM need not know all.
var algorithms = map[crypto.Hash]tpm2.TPMAlgID{
	crypto.SHA1: tpm2.TPMAlgSHA1, crypto.SHA256: tpm2.TPMAlgSHA256, crypto.SHA384: tpm2.TPMAlgSHA384, crypto.SHA512: tpm2.TPMAlgSHA512,
}

// Sign implements crypto.Signer: ECDSA, RSASSA-PKCS1-v1_5 and RSASSA-PSS.
func (k *tpmKey) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	hash := opts.HashFunc()
	algorithm, ok := algorithms[hash]
	if !ok || len(digest) != hash.Size() {
		return nil, fmt.Errorf("a TPM's key signs digests of SHA-1, SHA-256, SHA-384 or SHA-512; this one has %d octets", len(digest))
	}
	pub, isRSA := k.key.(*rsa.PublicKey)
	if !isRSA {
		return k.signECDSA(digest, algorithm)
	}
	if pss, ok := opts.(*rsa.PSSOptions); ok {
		return k.signPSS(rand, pub, digest, pss, algorithm)
	}
	signature, err := k.sign(digest, tpm2.TPMTSigScheme{
		Scheme:  tpm2.TPMAlgRSASSA,
		Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSchemeHash{HashAlg: algorithm}),
	})
	if unsupported(err) && k.decrypts {
		return k.padded(pub, digest, hash)
	}
	if err != nil {
		return nil, err
	}
	s, err := signature.RSASSA()
	if err != nil {
		return nil, err
	}
	return s.Sig.Buffer, nil
}

func (k *tpmKey) sign(digest []byte, scheme tpm2.TPMTSigScheme) (signature tpm2.TPMUSignature, err error) {
	err = k.tpm.use(k, func(w *wire, handle tpm2.AuthHandle) error {
		r, err := tpm2.Sign{
			KeyHandle: handle, Digest: tpm2.TPM2BDigest{Buffer: digest}, InScheme: scheme,
			Validation: tpm2.TPMTTKHashCheck{Tag: tpm2.TPMSTHashCheck, Hierarchy: tpm2.TPMRHNull},
		}.Execute(w)
		if err == nil {
			signature = r.Signature.Signature
		}
		return err
	})
	return signature, err
}

// signECDSA signs, with a digest that is cut to the size of the curve where
// the TPM does not know its hash: a signature depends on no more of it (FIPS
// 186-5, section 6.4.1).
func (k *tpmKey) signECDSA(digest []byte, algorithm tpm2.TPMAlgID) ([]byte, error) {
	with := func(digest []byte, algorithm tpm2.TPMAlgID) (tpm2.TPMUSignature, error) {
		return k.sign(digest, tpm2.TPMTSigScheme{
			Scheme:  tpm2.TPMAlgECDSA,
			Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: algorithm}),
		})
	}
	signature, err := with(digest, algorithm)
	if unsupported(err) && len(digest) > crypto.SHA256.Size() && k.key.(*ecdsa.PublicKey).Curve.Params().BitSize == 256 {
		signature, err = with(digest[:crypto.SHA256.Size()], tpm2.TPMAlgSHA256)
	}
	if err != nil {
		return nil, err
	}
	s, err := signature.ECDSA()
	if err != nil {
		return nil, err
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(new(big.Int).SetBytes(s.SignatureR.Buffer))
		b.AddASN1BigInt(new(big.Int).SetBytes(s.SignatureS.Buffer))
	})
	return b.Bytes()
}

// unsupported tells that the TPM has no such hash or scheme.
func unsupported(err error) bool {
	code, ok := errors.AsType[tpm2.TPMRC](err)
	return ok && (errors.Is(code, tpm2.TPMRCHash) || errors.Is(code, tpm2.TPMRCScheme) || errors.Is(code, tpm2.TPMRCValue) || errors.Is(code, tpm2.TPMRCSize))
}
