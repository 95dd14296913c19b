package embedded

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/certconnector/certconnector/internal/durable"
	"github.com/certconnector/certconnector/internal/secret"
)

// SignerStore keeps the key and certificate of each CA's OCSP signer over a
// restart. It is not needed for safety: without one, or when it loses
// something, the responder makes a new signer.
type SignerStore interface {
	// LoadSigner returns what SaveSigner was given last for a CA of this name,
	// nil where there is nothing.
	LoadSigner(ca string) ([]byte, error)
	// SaveSigner replaces it. It must not keep b.
	SaveSigner(ca string, b []byte) error
}

// signerFolder is a SignerStore of files.
type signerFolder struct {
	dir    string
	sealer *secret.Sealer
}

// NewSignerFolder keeps signers in a folder, which is made if need be: one file
// for each CA, readable by its owner only. With a sealer they are encrypted,
// and another machine or another local key cannot use them; without one they
// are PEM.
func NewSignerFolder(dir string, sealer *secret.Sealer) SignerStore {
	return signerFolder{dir, sealer}
}

const sealedSigner = "OCSP signer of CA "

// path is a name that no CA's name can lead elsewhere.
func (f signerFolder) path(ca string) string {
	extension := ".pem"
	if f.sealer != nil {
		extension = ".sealed"
	}
	return filepath.Join(f.dir, "ocsp-"+hex.EncodeToString([]byte(ca))+extension)
}

// LoadSigner implements SignerStore.
func (f signerFolder) LoadSigner(ca string) ([]byte, error) {
	path := f.path(ca)
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err := secret.CheckPrivate(path); err != nil {
		return nil, err
	}
	b, err := durable.ReadFile(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("reading the OCSP signer: %w", err)
	}
	if f.sealer == nil {
		return b, nil
	}
	if b, err = f.sealer.Open(sealedSigner+ca, b); err != nil {
		return nil, fmt.Errorf("OCSP signer %q: %w", path, err)
	}
	return b, nil
}

// SaveSigner implements SignerStore. A crash leaves the old file or the new one.
func (f signerFolder) SaveSigner(ca string, b []byte) error {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return fmt.Errorf("creating the folder of OCSP signers: %w", err)
	}
	if f.sealer != nil {
		b = f.sealer.Seal(sealedSigner+ca, b)
	}
	if err := durable.WriteFile(f.path(ca), b, 0o600); err != nil {
		return fmt.Errorf("replacing the OCSP signer: %w", err)
	}
	return nil
}
