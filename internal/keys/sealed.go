package keys

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/certconnector/certconnector/internal/durable"
	"github.com/certconnector/certconnector/internal/secret"
)

// Scope says who can open a key file that DPAPI sealed.
type Scope string

// The scopes of sealed key files. Neither protects from an administrator of
// the running machine, and neither is a reason to leave the file open to others.
const (
	// ScopeMachine seals for the machine: every account that may read the file
	// can open it there, and nobody elsewhere, as who has a backup or the disk
	// without the system's own secrets.
	ScopeMachine Scope = "machine"
	// ScopeUser seals for the account that runs the program, on the machines
	// that have its profile. Run as the service's account, or the service
	// cannot open the file. When an administrator resets the account's password,
	// the key is lost.
	ScopeUser Scope = "user"
)

// ParseScope reads the name of a scope; "" is ScopeMachine.
func ParseScope(s string) (Scope, error) {
	switch Scope(s) {
	case "", ScopeMachine:
		return ScopeMachine, nil
	case ScopeUser:
		return ScopeUser, nil
	}
	return "", fmt.Errorf("unknown scope %q (known: %s, %s)", s, ScopeMachine, ScopeUser)
}

// leftover is what the old file is called while a new one takes its place.
const leftover = ".unsealed"

// Seal replaces a file's private key with the same one sealed by DPAPI. Other
// blocks of the file, as certificates, stay. The name always leads to the old
// file or to the new one; the old content is then overwritten and removed.
// Copies in backups and volume snapshots stay as they are.
func Seal(path string, scope Scope) error {
	if err := secret.CheckPrivate(path); err != nil {
		return err
	}
	if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
		return errors.Join(err, fmt.Errorf("%q is no regular file: name the file that it leads to", path))
	}
	old, err := durable.ReadFile(path, maxFile)
	if err != nil {
		return fmt.Errorf("reading the private key: %w", err)
	}
	defer clear(old)
	sealed, err := sealBlocks(old, scope)
	if errors.Is(err, errSealed) {
		if _, opened := LoadFile(path); opened == nil { // so the old content is needed no more
			err = errors.Join(err, dropLeftover(path))
		}
	}
	if err != nil {
		return fmt.Errorf("private key %q: %w", path, err)
	}
	// Nothing is touched before DPAPI has shown that it seals and opens.
	if err := dropLeftover(path); err != nil {
		return err
	}
	// A second name keeps the old content within reach when the first one goes.
	if err := os.Link(path, path+leftover); err != nil {
		return fmt.Errorf("keeping the old key for its removal: %w", err)
	}
	if err := replace(path, sealed); err != nil {
		return errors.Join(err, os.Remove(path+leftover))
	}
	return wipe(path + leftover)
}

// errSealed says that there is nothing to do.
var errSealed = errors.New("it is sealed already")

// dropLeftover removes what a run that was cut short has left. Before the
// sealed file had its name, both names are of one file: to overwrite that would
// be to lose the key.
func dropLeftover(path string) error {
	left, err := os.Lstat(path + leftover)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for an old key: %w", err)
	}
	is, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("looking at the private key: %w", err)
	}
	if os.SameFile(is, left) {
		return durable.Remove(path + leftover)
	}
	return wipe(path + leftover)
}

// replace puts new content into the place of a file, with the same rights.
func replace(path string, content []byte) error {
	next := path + ".sealing"
	if err := durable.Remove(next); err != nil { // of a run that was cut short
		return fmt.Errorf("removing what an earlier run left: %w", err)
	}
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("creating %q: %w", next, err)
	}
	if err = sameRights(path, next); err == nil {
		_, err = f.Write(content)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = durable.Rename(next, path)
	}
	if err != nil {
		return fmt.Errorf("writing %q: %w", path, errors.Join(err, durable.Remove(next)))
	}
	return nil
}

// sealBlocks seals the one private key among a file's PEM blocks.
func sealBlocks(file []byte, scope Scope) ([]byte, error) {
	var out bytes.Buffer
	found := false
	for block, rest := pem.Decode(file); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == pemSealed {
			return nil, errSealed
		}
		key, err := parse(block, func([]byte) (crypto.Signer, error) { return nil, errTPMFile })
		switch {
		case errors.Is(err, errTPMFile):
			return nil, errors.New("it is in a TPM, which is safer than a sealed file")
		case err != nil:
			return nil, err
		case key == nil && block.Type == "EC PARAMETERS": // says again what the key says
			continue
		case key != nil && found:
			return nil, errors.New("the file has two private keys; leave the one that is used")
		case key != nil:
			found = true
			sealed, err := sealKey(key, scope)
			clear(block.Bytes)
			if err != nil {
				return nil, err
			}
			block = &pem.Block{Type: pemSealed, Bytes: sealed}
		}
		if err := pem.Encode(&out, block); err != nil {
			return nil, err
		}
	}
	if !found {
		return nil, errors.New("no private key in PEM form")
	}
	return out.Bytes(), nil
}

// sealKey seals a key and opens it again before anybody relies on it.
func sealKey(key crypto.Signer, scope Scope) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding the private key: %w", err)
	}
	defer clear(der)
	sealed, err := protect(der, scope)
	if err != nil {
		return nil, err
	}
	opened, err := unprotect(sealed)
	if err != nil {
		return nil, fmt.Errorf("opening what was sealed: %w", err)
	}
	defer clear(opened)
	if !bytes.Equal(opened, der) {
		return nil, errors.New("something else came out than was sealed")
	}
	return sealed, nil
}

// openSealed opens the content of a sealed key's PEM block.
func openSealed(sealed []byte) (crypto.Signer, error) {
	der, err := unprotect(sealed)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	return parse(&pem.Block{Type: "PRIVATE KEY", Bytes: der}, nil)
}

// storeSealed writes a new key, sealed for this machine.
func storeSealed(path string, key crypto.Signer) error {
	sealed, err := sealKey(key, ScopeMachine)
	if err != nil {
		return fmt.Errorf("sealing the private key for %q: %w", path, err)
	}
	return writePEM(path, &pem.Block{Type: pemSealed, Bytes: sealed})
}

// wipe overwrites a file and removes it. What is no file, or is another one when
// it is opened, is left as it is: somebody may have put a link there.
func wipe(path string) error {
	is, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("overwriting an old key: %w", err)
	}
	if !is.Mode().IsRegular() {
		return fmt.Errorf("overwriting an old key: %q is no regular file: see what it is, and remove it", path)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("overwriting an old key: %w", err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !os.SameFile(is, info):
		err = errors.New("it was exchanged meanwhile")
	default:
		_, err = f.Write(make([]byte, info.Size()))
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("overwriting the old key %q: %w", path, err)
	}
	return durable.Remove(path)
}
