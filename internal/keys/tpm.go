package keys

import (
	"crypto"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"go.uber.org/zap"
)

// tpm is the connection to a TPM 2.0. One command goes on at a time; a
// connection that broke is made anew.
type tpm struct {
	path string
	log  *zap.Logger

	mu     sync.Mutex // guards the rest, and the sequence of commands
	wire   *wire      // nil: not connected
	loaded []loaded   // most recently used last
}

// loaded is a key that the TPM has in memory.
type loaded struct {
	key    *tpmKey
	handle tpm2.AuthHandle
}

// slots is how many keys we leave in the TPM. It has room for three objects at
// least (TCG PC Client Platform TPM Profile, MIN_LOADED): while one is being
// loaded, its parent needs the third.
const slots = 2

func newTPM(path string, log *zap.Logger) *tpm { return &tpm{path: path, log: log} }

// use has the TPM do something with a key. op may be called twice.
func (t *tpm) use(key *tpmKey, op func(*wire, tpm2.AuthHandle) error) error {
	return t.run(func() error {
		handle, err := t.load1(key)
		if err != nil {
			return err
		}
		return op(t.wire, handle)
	})
}

// run connects where that is needed and does one thing. When an old connection
// turns out to be broken, or the TPM to have forgotten our keys, it is done
// once more over a new one.
func (t *tpm) run(op func() error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for again := t.wire != nil; ; again = false {
		err := t.connect()
		if err == nil {
			err = op()
		}
		code, answered := errors.AsType[tpm2.TPMRC](err)
		switch {
		case err == nil:
			return nil
		case answered && !forgot(code):
			return explain(code, err)
		}
		t.disconnect()
		if !again {
			return fmt.Errorf("TPM %q: %w", t.path, err)
		}
		t.log.Warn("the TPM was away; trying once more", zap.String("device", t.path), zap.Error(err))
	}
}

// forgot tells that a handle means nothing to the TPM any more: it was reset.
func forgot(code tpm2.TPMRC) bool {
	return errors.Is(code, tpm2.TPMRCHandle) || errors.Is(code, tpm2.TPMRCReferenceH0) || errors.Is(code, tpm2.TPMRCReferenceH1)
}

// explain adds what an operator can do about a TPM's answer.
func explain(code tpm2.TPMRC, err error) error {
	switch {
	case errors.Is(code, tpm2.TPMRCIntegrity):
		return fmt.Errorf("this TPM did not make the key, or was cleared since; make a new key and certificate: %w", err)
	case errors.Is(code, tpm2.TPMRCCurve), errors.Is(code, tpm2.TPMRCValue), errors.Is(code, tpm2.TPMRCKeySize):
		return fmt.Errorf("the TPM does not support this: %w", err)
	case errors.Is(code, tpm2.TPMRCAuthFail), errors.Is(code, tpm2.TPMRCBadAuth), errors.Is(code, tpm2.TPMRCLockout):
		return fmt.Errorf("the TPM wants a password for the owner hierarchy or the key, which is not supported: %w", err)
	}
	return fmt.Errorf("the TPM answered: %w", err)
}

func (t *tpm) connect() error {
	if t.wire != nil {
		return nil
	}
	conn, err := dial(t.path)
	if err != nil {
		return err
	}
	t.wire = &wire{conn}
	return t.tidy()
}

// tidy removes what a process that was killed has left in the TPM's memory.
// Behind the kernel's resource manager there is nothing: it tidies itself, and
// shows nobody the objects of others.
func (t *tpm) tidy() error {
	const most, transient = 16, uint32(tpm2.TPMHTTransient) << 24
	left, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: transient, PropertyCount: most}.Execute(t.wire)
	if err != nil {
		return fmt.Errorf("asking the TPM what it holds: %w", err)
	}
	handles, err := left.CapabilityData.Data.Handles()
	if err != nil {
		return fmt.Errorf("asking the TPM what it holds: %w", err)
	}
	for _, h := range handles.Handle {
		if err := t.flush(h); err != nil {
			return err
		}
	}
	return nil
}

func (t *tpm) disconnect() {
	if t.wire != nil {
		_ = t.wire.Close() // it is broken or not needed
	}
	t.wire, t.loaded = nil, nil
}

// load1 returns the handle of a key, which is loaded when it is not there.
func (t *tpm) load1(key *tpmKey) (tpm2.AuthHandle, error) {
	if i := slices.IndexFunc(t.loaded, func(l loaded) bool { return l.key == key }); i >= 0 {
		l := t.loaded[i]
		t.loaded = append(slices.Delete(t.loaded, i, i+1), l)
		return l.handle, nil
	}
	for len(t.loaded) >= slots {
		if err := t.flush(t.loaded[0].handle.Handle); err != nil {
			return tpm2.AuthHandle{}, err
		}
		t.loaded = slices.Delete(t.loaded, 0, 1)
	}
	handle, err := withParent(t, key.parent, func(parent tpm2.AuthHandle) (tpm2.AuthHandle, error) {
		l, err := tpm2.Load{ParentHandle: parent, InPrivate: key.private, InPublic: key.public}.Execute(t.wire)
		if err != nil {
			return tpm2.AuthHandle{}, fmt.Errorf("loading the key: %w", err)
		}
		return tpm2.AuthHandle{Handle: l.ObjectHandle, Name: l.Name, Auth: tpm2.PasswordAuth(nil)}, nil
	})
	if err == nil {
		t.loaded = append(t.loaded, loaded{key, handle})
	}
	return handle, err
}

func (t *tpm) flush(handle tpm2.TPMHandle) error {
	if _, err := (tpm2.FlushContext{FlushHandle: handle}).Execute(t.wire); err != nil {
		return fmt.Errorf("making room in the TPM: %w", err)
	}
	return nil
}

// withParent does something below a parent key: one that is kept in the TPM, or
// the storage root key, which is derived from the TPM's seed for as long as it
// is needed.
func withParent[R any](t *tpm, parent tpm2.TPMHandle, do func(tpm2.AuthHandle) (R, error)) (out R, err error) {
	if parent != tpm2.TPMRHOwner {
		known, err := (tpm2.ReadPublic{ObjectHandle: parent}).Execute(t.wire)
		if err != nil {
			return out, fmt.Errorf("looking for the key's parent 0x%08x: %w", uint32(parent), err)
		}
		return do(tpm2.AuthHandle{Handle: parent, Name: known.Name, Auth: tpm2.PasswordAuth(nil)})
	}
	root, err := tpm2.CreatePrimary{PrimaryHandle: parent, InPublic: tpm2.New2B(rootTemplate())}.Execute(t.wire)
	if err != nil {
		return out, fmt.Errorf("making the storage root key: %w", err)
	}
	out, err = do(tpm2.AuthHandle{Handle: root.ObjectHandle, Name: root.Name, Auth: tpm2.PasswordAuth(nil)})
	return out, errors.Join(err, t.flush(root.ObjectHandle))
}

// rootTemplate is what the storage root key of the owner hierarchy is derived
// with by everybody who writes keys in TSS2 form: P-256, AES-128-CFB, and a
// unique field of no length (the TCG's own template has zeros in it, which
// gives another key).
func rootTemplate() tpm2.TPMTPublic {
	template := tpm2.ECCSRKTemplate
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{})
	return template
}

// createTPM makes a key in the TPM, and the file that only this TPM can load.
func (k *Keys) createTPM(path string, kind Kind) (crypto.Signer, error) {
	template, err := keyTemplate(kind)
	if err != nil {
		return nil, err
	}
	var made *tpm2.CreateResponse
	err = k.tpm.run(func() error {
		for len(k.tpm.loaded) >= slots { // the new one needs room while it is made
			if err := k.tpm.flush(k.tpm.loaded[0].handle.Handle); err != nil {
				return err
			}
			k.tpm.loaded = slices.Delete(k.tpm.loaded, 0, 1)
		}
		var err error
		made, err = withParent(k.tpm, tpm2.TPMRHOwner, func(parent tpm2.AuthHandle) (*tpm2.CreateResponse, error) {
			return tpm2.Create{ParentHandle: parent, InPublic: tpm2.New2B(template)}.Execute(k.tpm.wire)
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("making a key of kind %s: %w", kind, err)
	}
	der, err := encodeTSS2(tss2{parent: tpm2.TPMRHOwner, public: tpm2.Marshal(made.OutPublic), private: tpm2.Marshal(made.OutPrivate)})
	if err != nil {
		return nil, err
	}
	key, err := k.tpm.load(der)
	if err != nil {
		return nil, err
	}
	return key, StoreFile(path, key)
}

// keyTemplate describes a new key. It cannot leave the TPM, and its use never
// counts as an attempt to guess a password, for it has none.
func keyTemplate(kind Kind) (tpm2.TPMTPublic, error) {
	template := tpm2.TPMTPublic{Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: tpm2.TPMAObject{
		FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, SignEncrypt: true, Decrypt: true,
	}}
	rsa := func(bits tpm2.TPMKeyBits) {
		template.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: bits})
	}
	ecc := func(curve tpm2.TPMECCCurve) {
		template.Type, template.ObjectAttributes.Decrypt = tpm2.TPMAlgECC, false
		template.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: curve})
	}
	switch kind {
	case RSA2048:
		rsa(2048)
	case RSA3072:
		rsa(3072)
	case RSA4096:
		rsa(4096)
	case P256:
		ecc(tpm2.TPMECCNistP256)
	case P384:
		ecc(tpm2.TPMECCNistP384)
	default:
		_, err := ParseKind(string(kind))
		return template, err
	}
	return template, nil
}

func (t *tpm) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for _, l := range t.loaded {
		errs = append(errs, t.flush(l.handle.Handle))
	}
	t.disconnect()
	if errors.Join(errs...) != nil {
		t.log.Debug("keys were left in the TPM", zap.Error(errors.Join(errs...)))
	}
	return nil
}
