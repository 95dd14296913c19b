package keys

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	advapi            = windows.NewLazySystemDLL("advapi32.dll")
	cryptCreateHash   = advapi.NewProc("CryptCreateHash")
	cryptSetHashParam = advapi.NewProc("CryptSetHashParam")
	cryptSignHash     = advapi.NewProc("CryptSignHashW")
	cryptDestroyHash  = advapi.NewProc("CryptDestroyHash")
	cryptGetUserKey   = advapi.NewProc("CryptGetUserKey")
	cryptDecrypt      = advapi.NewProc("CryptDecrypt")
	cryptDestroyKey   = advapi.NewProc("CryptDestroyKey")

	certContextProperty = windows.NewLazySystemDLL("crypt32.dll").NewProc("CertGetCertificateContextProperty")
)

// capiHandle is a key container of CAPI, the interface before CNG, as older
// providers of smart cards and HSMs still have it.
type capiHandle struct {
	mu       sync.Mutex // providers differ in what they do at the same time
	provider windows.Handle
}

// capiKey is an RSA key of CAPI.
type capiKey struct {
	*capiHandle
	spec   uint32
	public *rsa.PublicKey
}

func (k *capiKey) Public() crypto.PublicKey { return k.public }
func (k *capiKey) place() Place             { return storePlace }

// capiSigner returns the key of a use: AT_KEYEXCHANGE signs and decrypts,
// AT_SIGNATURE signs. Other values are no use of CAPI (Wine stores such a one
// for a certificate that was imported) and taken as AT_KEYEXCHANGE.
func capiSigner(h *capiHandle, spec uint32, public crypto.PublicKey) (crypto.Signer, error) {
	pub, ok := public.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("CAPI has no keys of type %T: import the certificate into a CNG provider, with certutil -csp \"Microsoft Software Key Storage Provider\" -importpfx", public)
	}
	if spec != windows.AT_SIGNATURE {
		spec = windows.AT_KEYEXCHANGE
	}
	return &capiKey{h, spec, pub}, nil
}

// capiHashes are the ALG_IDs of hashes.
var capiHashes = map[crypto.Hash]uintptr{
	crypto.SHA1: 0x8004, crypto.SHA256: 0x800c, crypto.SHA384: 0x800d, crypto.SHA512: 0x800e,
}

// Sign implements crypto.Signer: RSASSA-PKCS1-v1_5. CAPI has no RSASSA-PSS.
func (k *capiKey) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if _, pss := opts.(*rsa.PSSOptions); pss {
		return nil, errors.New("a key of CAPI cannot sign RSASSA-PSS, which TLS 1.3 needs: import the certificate into a CNG provider, with certutil -csp \"Microsoft Software Key Storage Provider\" -importpfx")
	}
	algorithm, ok := capiHashes[opts.HashFunc()]
	if !ok {
		return nil, fmt.Errorf("signing with CAPI: hash %v is not supported", opts.HashFunc())
	}
	if len(digest) != opts.HashFunc().Size() { // CAPI takes no length, and would read on
		return nil, errors.New("the digest is not as long as its hash makes it")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	defer runtime.KeepAlive(k.capiHandle)
	var hash uintptr
	if err := advapiCall(cryptCreateHash, uintptr(k.provider), algorithm, 0, 0, uintptr(unsafe.Pointer(&hash))); err != nil {
		return nil, fmt.Errorf("signing with CAPI: %w", err)
	}
	defer func() { _ = advapiCall(cryptDestroyHash, hash) }() // nothing to be done about it
	const hashValue = 2                                       // HP_HASHVAL
	digest = slices.Clone(digest)
	if err := advapiCall(cryptSetHashParam, hash, hashValue, uintptr(unsafe.Pointer(unsafe.SliceData(digest))), 0); err != nil {
		return nil, fmt.Errorf("signing with CAPI: %w", err)
	}
	signature := make([]byte, k.public.Size())
	n := uint32(len(signature))
	if err := advapiCall(cryptSignHash, hash, uintptr(k.spec), 0, 0,
		uintptr(unsafe.Pointer(unsafe.SliceData(signature))), uintptr(unsafe.Pointer(&n))); err != nil {
		return nil, fmt.Errorf("signing with CAPI: %w", err)
	}
	if int64(n) != int64(len(signature)) {
		return nil, errors.New("signing with CAPI: the signature is not as long as the key")
	}
	slices.Reverse(signature) // CAPI's numbers are little-endian
	return signature, nil
}

// Decrypt implements crypto.Decrypter: RSAES-PKCS1-v1_5, and RSAES-OAEP with
// SHA-1 and no label.
func (k *capiKey) Decrypt(_ io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	switch o := opts.(type) {
	case nil:
		return k.decrypt(ciphertext, 0)
	case *rsa.PKCS1v15DecryptOptions:
		plain, err := k.decrypt(ciphertext, 0)
		if n := o.SessionKeyLen; n > 0 {
			return sessionKey(plain, err, n, refusedByWindows)
		}
		return plain, err
	case *rsa.OAEPOptions:
		if o.Hash != crypto.SHA1 || o.MGFHash != 0 && o.MGFHash != crypto.SHA1 || len(o.Label) > 0 {
			return nil, errors.New("CAPI opens RSAES-OAEP with SHA-1 and no label only")
		}
		const oaep = 0x40 // CRYPT_OAEP
		return k.decrypt(ciphertext, oaep)
	}
	return nil, fmt.Errorf("a key of CAPI cannot decrypt with %T", opts)
}

func (k *capiKey) decrypt(ciphertext []byte, flags uintptr) ([]byte, error) {
	if len(ciphertext) != k.public.Size() {
		return nil, fmt.Errorf("decrypting with CAPI: %w", windows.Errno(windows.NTE_BAD_LEN))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	defer runtime.KeepAlive(k.capiHandle)
	var key uintptr
	if err := advapiCall(cryptGetUserKey, uintptr(k.provider), uintptr(k.spec), uintptr(unsafe.Pointer(&key))); err != nil {
		return nil, fmt.Errorf("decrypting with CAPI: %w", err)
	}
	defer func() { _ = advapiCall(cryptDestroyKey, key) }() // nothing to be done about it
	data := slices.Clone(ciphertext)
	slices.Reverse(data)
	n := uint32(len(data))
	const final = 1
	if err := advapiCall(cryptDecrypt, key, 0, final, flags, uintptr(unsafe.Pointer(unsafe.SliceData(data))), uintptr(unsafe.Pointer(&n))); err != nil {
		return nil, fmt.Errorf("decrypting with CAPI: %w", err)
	}
	if int64(n) > int64(len(data)) {
		return nil, errors.New("decrypting with CAPI: the answer is longer than its room")
	}
	return data[:n], nil // the content's octets are in order
}

// advapiCall calls a function that returns FALSE when it fails.
//
//go:uintptrescapes
func advapiCall(proc *windows.LazyProc, arguments ...uintptr) error {
	if err := proc.Find(); err != nil {
		return err
	}
	if ok, _, err := proc.Call(arguments...); ok == 0 {
		return err
	}
	return nil
}

// providerInfo is CRYPT_KEY_PROV_INFO: where a certificate says that its key is.
type providerInfo struct {
	container, provider *uint16
	kind, flags         uint32
	parameters          uint32
	_                   *byte
	spec                uint32
}

// withSHA2 opens the container of a Microsoft provider with its newest relative:
// the older ones know no SHA-256, and all of them share their containers. It
// returns 0 where there is nothing better than what is open already.
func withSHA2(context *windows.CertContext) windows.Handle {
	const (
		keyProvInfo   = 2    // CERT_KEY_PROV_INFO_PROP_ID
		provRSAAES    = 24   // PROV_RSA_AES
		machineKeyset = 0x20 // CRYPT_MACHINE_KEYSET
		silent        = 0x40 // CRYPT_SILENT
	)
	var n uint32
	if advapiCall(certContextProperty, uintptr(unsafe.Pointer(context)), keyProvInfo, 0, uintptr(unsafe.Pointer(&n))) != nil ||
		uintptr(n) < unsafe.Sizeof(providerInfo{}) {
		return 0
	}
	room := make([]uint64, (n+7)/8) // aligned for pointers
	if advapiCall(certContextProperty, uintptr(unsafe.Pointer(context)), keyProvInfo, uintptr(unsafe.Pointer(&room[0])), uintptr(unsafe.Pointer(&n))) != nil {
		return 0
	}
	info := (*providerInfo)(unsafe.Pointer(&room[0]))
	if info.kind == provRSAAES || info.container == nil ||
		info.provider != nil && !strings.HasPrefix(windows.UTF16PtrToString(info.provider), "Microsoft ") {
		return 0
	}
	var provider windows.Handle
	if windows.CryptAcquireContext(&provider, info.container, nil, provRSAAES, info.flags&machineKeyset|silent) != nil {
		return 0
	}
	return provider
}
