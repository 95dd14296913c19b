// Package keys says where private keys live, and hands them out as
// crypto.Signer; every RSA key is a crypto.Decrypter too.
//
// A key is named by a reference, as in the configuration's "key:" settings:
//
//   - the path of a PEM file: PKCS #8, PKCS #1 or SEC 1; "TSS2 PRIVATE KEY", a
//     key that only one TPM 2.0 can use, as openssl's provider tpm2 writes it;
//     "DPAPI SEALED PRIVATE KEY", one that only one Windows machine can open
//   - pkcs11:token=…;object=… (RFC 7512), a key of a hardware security module
//   - certstore:machine/My/<SHA-1 thumbprint>, a key of Windows' certificate store
//
// Keys outside memory are used one operation at a time for each device, which
// may go away and come back: what failed for that reason is tried once more
// over a new connection.
package keys

import (
	"crypto"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/secret"
)

// Config says how to reach devices. The zero value reads files and the first
// TPM.
type Config struct {
	// TPM is the device file of a TPM 2.0 with its resource manager, or the unix
	// socket of a simulator; "": DefaultTPM.
	TPM    string
	PKCS11 PKCS11
	Log    *zap.Logger // nil: nothing is logged
}

// PKCS11 is a module for a hardware security module, and how to log in.
type PKCS11 struct {
	// Module is the shared library of the device's maker.
	Module string
	// PIN returns the user PIN of the token; nil: the reference has a
	// pin-source, or the token wants none. It is asked at each login.
	PIN func() (secret.Text, error)
}

// ErrPINRefused says that a token does not take the PIN. Tokens lock themselves
// after a few attempts, so the next one is for when a person has changed it.
var ErrPINRefused = errors.New("the PIN is refused")

// DefaultTPM is the device file of the first TPM of a Linux machine.
const DefaultTPM = "/dev/tpmrm0"

// Place is where a new key is made.
type Place string

// The places of new keys.
const (
	File  Place = "file"  // in memory, and as PKCS #8 in a file
	TPM   Place = "tpm"   // in a TPM 2.0; the file holds what only this TPM can load
	DPAPI Place = "dpapi" // in memory, and in a file that only this Windows machine can open
)

// Places lists every place of new keys.
func Places() []Place { return []Place{File, TPM, DPAPI} }

// Makes tells whether Create makes keys there; those of modules and certificate
// stores are made with their own tools.
func (p Place) Makes() bool { return slices.Contains(Places(), p) }

// Keys loads and makes keys. It is safe for concurrent use, and opens nothing
// until it is needed.
type Keys struct {
	cfg   Config
	tpm   *tpm
	store *modules
}

// New returns the keys of a machine. It asks no device.
func New(cfg Config) *Keys {
	if cfg.TPM == "" {
		cfg.TPM = DefaultTPM
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	return &Keys{cfg: cfg, tpm: newTPM(cfg.TPM, cfg.Log), store: newModules(cfg.PKCS11, cfg.Log)}
}

// Load finds a key. One that a device holds is looked up there, so that a
// device which is missing, or does not know the key, is an error of Load.
func (k *Keys) Load(ref string) (crypto.Signer, error) {
	scheme, _, _ := strings.Cut(ref, ":")
	switch {
	case !IsURI(ref):
		return k.loadFile(ref)
	case strings.EqualFold(scheme, "pkcs11"):
		key, err := k.store.load(ref)
		return key, named(ref, err)
	}
	key, err := loadFromStore(ref)
	return key, named(ref, err)
}

// named says which key an error is of.
func named(ref string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("key %s: %w", Shown(ref), err)
}

// Create makes a key and the file that names it, which must not exist. The
// file is readable by its owner only, and on disk when Create returns.
func (k *Keys) Create(path string, where Place, kind Kind) (crypto.Signer, error) {
	if IsURI(path) {
		return nil, fmt.Errorf("%s is no file: keys of a module or a certificate store are made with their own tools", Shown(path))
	}
	switch where {
	case File:
		key, err := Generate(kind)
		if err != nil {
			return nil, err
		}
		return key, StoreFile(path, key)
	case TPM:
		return k.createTPM(path, kind)
	case DPAPI:
		key, err := Generate(kind)
		if err != nil {
			return nil, err
		}
		return key, storeSealed(path, key)
	}
	return nil, fmt.Errorf("unknown place for keys %q (known: %v)", where, Places())
}

// Store writes a key that is there already: sealed where DPAPI is asked for,
// otherwise as it is. A TPM's key keeps its form; one of a module or a
// certificate store cannot be written.
func (k *Keys) Store(path string, where Place, key crypto.Signer) error {
	if where == DPAPI {
		return storeSealed(path, key)
	}
	return StoreFile(path, key)
}

// Close ends the connections to devices. A key that is used afterwards, as
// the old key of a renewed certificate may be, connects again.
func (k *Keys) Close() error { return errors.Join(k.tpm.close(), k.store.close()) }

// IsURI tells a reference to a module or a certificate store from the path of
// a file.
func IsURI(ref string) bool {
	scheme, _, found := strings.Cut(ref, ":")
	return found && (strings.EqualFold(scheme, "pkcs11") || strings.EqualFold(scheme, "certstore"))
}

// CheckRef says what is wrong with a reference, without asking a device or
// looking for a file.
func CheckRef(ref string) error {
	switch {
	case InStore(ref):
		return CheckStore(ref)
	case IsURI(ref):
		_, err := parsePKCS11(ref)
		return err
	}
	return nil
}

// Shown is a reference as it may be logged: of a module's key without the values
// of attributes that are not known, for one may be a PIN that somebody wrote
// into it although it is refused.
func Shown(ref string) string {
	scheme, rest, _ := strings.Cut(ref, ":")
	if !strings.EqualFold(scheme, "pkcs11") {
		return ref
	}
	var b strings.Builder
	b.WriteString(scheme + ":")
	for rest != "" {
		end := strings.IndexAny(rest, ";?&")
		if end < 0 {
			end = len(rest)
		}
		attribute := rest[:end]
		name, _, valued := strings.Cut(attribute, "=")
		switch {
		case !valued:
			attribute = "…"
		case !slices.Contains(attributes, name):
			attribute = name + "=…"
		}
		b.WriteString(attribute)
		if end < len(rest) {
			b.WriteByte(rest[end])
			end++
		}
		rest = rest[end:]
	}
	return b.String()
}

// PlaceOf says where a key lives that Load returned: File for one in memory,
// otherwise as "tpm", "pkcs11" or "certstore". DPAPI is known of files only.
func PlaceOf(key crypto.Signer) Place {
	if l, ok := key.(interface{ place() Place }); ok {
		return l.place()
	}
	return File
}
