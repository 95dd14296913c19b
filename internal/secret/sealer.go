package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
)

// keySize is the length of the file that holds the local key.
const keySize = 32

// ErrSealed says that a record was not sealed with this key, or was changed.
var ErrSealed = errors.New("record was sealed with another key or is damaged")

// Sealer seals records (AES-256-GCM) and digests challenges (HMAC-SHA-256)
// with one local key. It is safe for concurrent use.
type Sealer struct {
	aead   cipher.AEAD
	macKey []byte
}

// NewSealer derives a Sealer from a local key of 32 bytes.
func NewSealer(key []byte) (*Sealer, error) {
	if len(key) != keySize {
		return nil, fmt.Errorf("local key has %d bytes, want %d", len(key), keySize)
	}
	sealKey, err := hkdf.Key(sha256.New, key, nil, "certconnector seal v1", keySize)
	if err != nil {
		return nil, fmt.Errorf("deriving the sealing key: %w", err)
	}
	macKey, err := hkdf.Key(sha256.New, key, nil, "certconnector challenge v1", keySize)
	if err != nil {
		return nil, fmt.Errorf("deriving the challenge key: %w", err)
	}
	block, err := aes.NewCipher(sealKey)
	if err != nil {
		return nil, fmt.Errorf("preparing the sealing cipher: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("preparing the sealing cipher: %w", err)
	}
	return &Sealer{aead: aead, macKey: macKey}, nil
}

// LoadSealer reads the local key from a file that CreateKeyFile made.
func LoadSealer(path string) (*Sealer, error) {
	if err := CheckPrivate(path); err != nil {
		return nil, err
	}
	key, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the local key: %w", err)
	}
	s, err := NewSealer(key)
	if err != nil {
		return nil, fmt.Errorf("local key %q: %w", path, err)
	}
	return s, nil
}

// CreateKeyFile makes a new local key, readable by its owner only. It never
// replaces a file: sealed records would be lost with the old key.
func CreateKeyFile(path string) error {
	key := make([]byte, keySize)
	rand.Read(key)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("creating the local key: %w", err)
	}
	_, err = f.Write(key)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("writing the local key %q: %w", path, err)
	}
	return nil
}

// Seal encrypts a record. The label says what kind of record it is; a record
// opens only with the label that it was sealed with.
func (s *Sealer) Seal(label string, record []byte) []byte {
	return s.aead.Seal(nil, nil, record, []byte(label))
}

// Open decrypts a sealed record, or returns ErrSealed.
func (s *Sealer) Open(label string, sealed []byte) ([]byte, error) {
	record, err := s.aead.Open(nil, nil, sealed, []byte(label))
	if err != nil {
		return nil, ErrSealed
	}
	return record, nil
}

// ChallengeID is the digest under which a challenge is remembered: equal for
// equal challenges of one scope (a tenant or an endpoint), and of no use to a
// thief without the local key (scep-ndes M2).
func (s *Sealer) ChallengeID(scope string, challenge Text) string {
	mac := hmac.New(sha256.New, s.macKey)
	fmt.Fprintf(mac, "%d:%s", len(scope), scope)
	mac.Write([]byte(challenge))
	return string(mac.Sum(nil))
}
