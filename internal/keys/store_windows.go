package keys

import (
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/windows"
)

// loadFromStore finds a certificate and opens its private key: with CNG where
// that can, otherwise with CAPI.
func loadFromStore(ref string) (crypto.Signer, error) {
	r, err := parseStoreRef(ref)
	if err != nil {
		return nil, err
	}
	found, err := r.find()
	if err != nil {
		return nil, err
	}
	defer found.close()
	leaf, err := found.certificate()
	if err != nil {
		return nil, err
	}
	key, err := acquire(found.context, leaf)
	if err != nil {
		return nil, err
	}
	if err := CheckSigns(key); err != nil {
		return nil, fmt.Errorf("trying the private key: %w", err)
	}
	return key, nil
}

// inStore is a certificate that was found, and the store it is in.
type inStore struct {
	store   windows.Handle
	context *windows.CertContext
}

// open opens the store, which must be there, to read it.
func (r storeRef) open() (windows.Handle, error) {
	location := uint32(windows.CERT_SYSTEM_STORE_CURRENT_USER)
	if r.machine {
		location = windows.CERT_SYSTEM_STORE_LOCAL_MACHINE
	}
	name, err := windows.UTF16PtrFromString(r.store)
	if err != nil {
		return 0, fmt.Errorf("name of the store: %w", err)
	}
	store, err := windows.CertOpenStore(windows.CERT_STORE_PROV_SYSTEM_W, 0, 0,
		location|windows.CERT_STORE_READONLY_FLAG|windows.CERT_STORE_OPEN_EXISTING_FLAG, uintptr(unsafe.Pointer(name)))
	runtime.KeepAlive(name)
	if err != nil {
		return 0, fmt.Errorf("opening the certificate store %q: %w", r.store, err)
	}
	return store, nil
}

// find looks for the certificate.
func (r storeRef) find() (*inStore, error) {
	store, err := r.open()
	if err != nil {
		return nil, err
	}
	thumbprint := windows.CryptHashBlob{Size: uint32(len(r.thumbprint)), Data: &r.thumbprint[0]}
	context, err := windows.CertFindCertificateInStore(store, windows.X509_ASN_ENCODING|windows.PKCS_7_ASN_ENCODING, 0,
		windows.CERT_FIND_SHA1_HASH, unsafe.Pointer(&thumbprint), nil)
	if err != nil {
		_ = windows.CertCloseStore(store, 0)
		if errors.Is(err, windows.Errno(windows.CRYPT_E_NOT_FOUND)) {
			err = errors.New("no certificate with this thumbprint: look at it with certutil -store " + r.store)
		}
		return nil, fmt.Errorf("looking into the certificate store: %w", err)
	}
	return &inStore{store: store, context: context}, nil
}

func (f *inStore) close() {
	_ = windows.CertFreeCertificateContext(f.context) // never fails
	_ = windows.CertCloseStore(f.store, 0)            // nothing was changed
}

func (f *inStore) certificate() (*x509.Certificate, error) { return parseContext(f.context) }

func parseContext(c *windows.CertContext) (*x509.Certificate, error) {
	der := append([]byte(nil), unsafe.Slice(c.EncodedCert, c.Length)...)
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate: %w", err)
	}
	return certificate, nil
}

// acquire opens the private key of a certificate. No window is ever shown: a
// key that wants a PIN each time cannot be used by a service.
func acquire(context *windows.CertContext, leaf *x509.Certificate) (crypto.Signer, error) {
	var handle windows.Handle
	var spec uint32
	var free bool
	err := windows.CryptAcquireCertificatePrivateKey(context,
		windows.CRYPT_ACQUIRE_PREFER_NCRYPT_KEY_FLAG|windows.CRYPT_ACQUIRE_SILENT_FLAG|windows.CRYPT_ACQUIRE_COMPARE_KEY_FLAG,
		nil, &handle, &spec, &free)
	if err != nil {
		return nil, fmt.Errorf("opening the private key: %w; give this account the right to read it (certlm.msc, Manage Private Keys), and look whether the certificate has one", err)
	}
	if spec == windows.CERT_NCRYPT_KEY_SPEC {
		h := &cngHandle{key: uintptr(handle)}
		if free {
			runtime.AddCleanup(h, func(key uintptr) { _, _, _ = ncryptFreeObject.Call(key) }, h.key)
		}
		return cngSigner(h, leaf.PublicKey)
	}
	if better := withSHA2(context); better != 0 {
		if free {
			_ = windows.CryptReleaseContext(handle, 0) // it is not used any more
		}
		handle, free = better, true
	}
	p := &capiHandle{provider: handle}
	if free {
		runtime.AddCleanup(p, func(provider windows.Handle) { _ = windows.CryptReleaseContext(provider, 0) }, handle)
	}
	return capiSigner(p, spec, leaf.PublicKey)
}

// chainFromStore returns a certificate and those of its issuers that are among
// the intermediate CAs of the machine or account. Windows' own chain engine is
// not asked: it remembers for a while what was in the stores.
func chainFromStore(r storeRef) ([]*x509.Certificate, error) {
	found, err := r.find()
	if err != nil {
		return nil, err
	}
	defer found.close()
	leaf, err := found.certificate()
	if err != nil {
		return nil, err
	}
	cas := r
	cas.store = "CA"
	store, err := cas.open()
	if errors.Is(err, windows.ERROR_FILE_NOT_FOUND) {
		return []*x509.Certificate{leaf}, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = windows.CertCloseStore(store, 0) }() // nothing was changed
	var known []*x509.Certificate
	for context, err := windows.CertEnumCertificatesInStore(store, nil); err == nil; context, err = windows.CertEnumCertificatesInStore(store, context) {
		if c, err := parseContext(context); err == nil { // others have no place in our chain
			known = append(known, c)
		}
	}
	return chainOf(leaf, known), nil
}
