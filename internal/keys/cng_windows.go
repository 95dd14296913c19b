package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"runtime"
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	ncrypt           = windows.NewLazySystemDLL("ncrypt.dll")
	ncryptSignHash   = ncrypt.NewProc("NCryptSignHash")
	ncryptDecrypt    = ncrypt.NewProc("NCryptDecrypt")
	ncryptFreeObject = ncrypt.NewProc("NCryptFreeObject")
)

// Flags of CNG.
const (
	padPKCS1    = 0x2
	padOAEP     = 0x4
	padPSS      = 0x8
	silentFlag  = 0x40
	maxCNGReply = 1024 // more than the largest RSA key makes
)

// cngHandle is a key of CNG (Cryptography API: Next Generation), in a key
// storage provider: software, TPM, smart card or HSM. It may be used by many at
// once.
type cngHandle struct{ key uintptr }

type cngKey struct {
	*cngHandle
	public crypto.PublicKey
}

func (k *cngKey) Public() crypto.PublicKey { return k.public }
func (k *cngKey) place() Place             { return storePlace }

// cngRSA is a key that signs and decrypts.
type cngRSA struct{ cngKey }

// cngECDSA is a key that signs.
type cngECDSA struct{ cngKey }

func cngSigner(h *cngHandle, public crypto.PublicKey) (crypto.Signer, error) {
	switch public.(type) {
	case *rsa.PublicKey:
		return &cngRSA{cngKey{h, public}}, nil
	case *ecdsa.PublicKey:
		return &cngECDSA{cngKey{h, public}}, nil
	}
	return nil, fmt.Errorf("keys of type %T are not used here", public)
}

// cngHashes are the names of hashes in CNG. A combined MD5 and SHA-1 digest has
// no name.
var cngHashes = map[crypto.Hash]string{
	crypto.SHA1: "SHA1", crypto.SHA256: "SHA256", crypto.SHA384: "SHA384", crypto.SHA512: "SHA512",
}

func cngHash(h crypto.Hash) (*uint16, error) {
	name, ok := cngHashes[h]
	if !ok {
		return nil, fmt.Errorf("hash %v is not supported", h)
	}
	return windows.UTF16PtrFromString(name)
}

// Paddings, as BCRYPT_PKCS1_PADDING_INFO and its relatives.
type (
	cngPKCS1 struct{ hash *uint16 }
	cngPSS   struct {
		hash *uint16
		salt uint32
	}
	cngOAEP struct {
		hash   *uint16
		label  *byte
		length uint32
	}
)

// Sign implements crypto.Signer: RSASSA-PKCS1-v1_5 and RSASSA-PSS.
func (k *cngRSA) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	hash, err := cngHash(opts.HashFunc())
	if err != nil {
		return nil, err
	}
	if len(digest) != opts.HashFunc().Size() {
		return nil, errors.New("the digest is not as long as its hash makes it")
	}
	pss, ok := opts.(*rsa.PSSOptions)
	if !ok {
		padding := cngPKCS1{hash}
		return k.sign(digest, unsafe.Pointer(&padding), padPKCS1)
	}
	salt := pss.SaltLength
	switch salt {
	case rsa.PSSSaltLengthEqualsHash:
		salt = opts.HashFunc().Size()
	case rsa.PSSSaltLengthAuto:
		salt = (k.public.(*rsa.PublicKey).N.BitLen()-1+7)/8 - opts.HashFunc().Size() - 2
	}
	if salt < 0 {
		return nil, errors.New("the RSA key is too short for this hash and salt")
	}
	padding := cngPSS{hash, uint32(salt)}
	return k.sign(digest, unsafe.Pointer(&padding), padPSS)
}

// Decrypt implements crypto.Decrypter: RSAES-PKCS1-v1_5, and RSAES-OAEP with
// one hash for both of its uses.
func (k *cngRSA) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	switch o := opts.(type) {
	case nil:
		return k.decrypt(ciphertext, nil, padPKCS1)
	case *rsa.PKCS1v15DecryptOptions:
		plain, err := k.decrypt(ciphertext, nil, padPKCS1)
		if n := o.SessionKeyLen; n > 0 {
			return sessionKey(plain, err, n, refusedByWindows)
		}
		return plain, err
	case *rsa.OAEPOptions:
		hash, err := cngHash(o.Hash)
		if err != nil {
			return nil, err
		}
		if o.MGFHash != 0 && o.MGFHash != o.Hash {
			return nil, errors.New("CNG opens RSAES-OAEP with one hash for both hash and mask")
		}
		padding := cngOAEP{hash, unsafe.SliceData(o.Label), uint32(len(o.Label))}
		return k.decrypt(ciphertext, unsafe.Pointer(&padding), padOAEP)
	}
	return nil, fmt.Errorf("a key of CNG cannot decrypt with %T", opts)
}

// Sign implements crypto.Signer. CNG returns the two numbers of a signature
// one after the other (IEEE P1363); certificates and CMS want them in ASN.1.
func (k *cngECDSA) Sign(_ io.Reader, digest []byte, _ crypto.SignerOpts) ([]byte, error) {
	raw, err := k.sign(digest, nil, 0)
	if err != nil {
		return nil, err
	}
	return p1363ToASN1(raw)
}

func p1363ToASN1(raw []byte) ([]byte, error) {
	if len(raw) == 0 || len(raw)%2 != 0 {
		return nil, errors.New("the key returned no ECDSA signature")
	}
	half := len(raw) / 2
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:half]), new(big.Int).SetBytes(raw[half:])})
}

func (k *cngKey) sign(digest []byte, padding unsafe.Pointer, flags uintptr) ([]byte, error) {
	out, err := k.call(ncryptSignHash, padding, digest, flags)
	if err != nil {
		return nil, fmt.Errorf("signing with CNG: %w", err)
	}
	return out, nil
}

func (k *cngKey) decrypt(ciphertext []byte, padding unsafe.Pointer, flags uintptr) ([]byte, error) {
	out, err := k.call(ncryptDecrypt, padding, ciphertext, flags)
	if err != nil {
		return nil, fmt.Errorf("decrypting with CNG: %w", err)
	}
	return out, nil
}

// call runs NCryptSignHash or NCryptDecrypt, which differ in the order of two
// arguments only.
func (k *cngKey) call(proc *windows.LazyProc, padding unsafe.Pointer, in []byte, flags uintptr) ([]byte, error) {
	if err := proc.Find(); err != nil {
		return nil, err
	}
	out := make([]byte, maxCNGReply)
	var n uint32
	var status uintptr
	src, dst := unsafe.Pointer(unsafe.SliceData(in)), unsafe.Pointer(unsafe.SliceData(out))
	if proc == ncryptSignHash {
		status, _, _ = proc.Call(k.key, uintptr(padding), uintptr(src), uintptr(len(in)),
			uintptr(dst), uintptr(len(out)), uintptr(unsafe.Pointer(&n)), flags|silentFlag)
	} else {
		status, _, _ = proc.Call(k.key, uintptr(src), uintptr(len(in)), uintptr(padding),
			uintptr(dst), uintptr(len(out)), uintptr(unsafe.Pointer(&n)), flags|silentFlag)
	}
	runtime.KeepAlive(k.cngHandle)
	if status != 0 {
		return nil, windows.Errno(uint32(status))
	}
	if int64(n) > int64(len(out)) {
		return nil, errors.New("the answer is longer than its room")
	}
	return out[:n], nil
}

// refusedByWindows says that the ciphertext was looked at and found wrong,
// rather than that the key could not be reached.
func refusedByWindows(err error) bool {
	for _, wrong := range []windows.Errno{
		windows.Errno(windows.NTE_BAD_DATA), windows.Errno(windows.NTE_INVALID_PARAMETER), windows.Errno(windows.NTE_BAD_LEN),
		windows.Errno(windows.NTE_BUFFER_TOO_SMALL), windows.Errno(windows.NTE_FAIL), windows.Errno(windows.NTE_DECRYPTION_FAILURE),
		windows.Errno(windows.STATUS_INVALID_PARAMETER), windows.ERROR_INVALID_PARAMETER, windows.ERROR_INVALID_DATA, windows.ERROR_DECRYPTION_FAILED,
	} {
		if errors.Is(err, wrong) {
			return true
		}
	}
	return false
}
