package identity

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/internal/secret"
)

// Files are a certificate, with the rest of its chain after it, and its key.
type Files struct {
	Certificate, Key string
}

// WatchedConfig says what to watch.
type WatchedConfig struct {
	Name  string // of the part that uses it
	Kind  Kind
	Files Files

	Keys  *keys.Keys       // nil: keys are in files
	Clock func() time.Time // nil: time.Now
	Log   *zap.Logger      // nil: nothing is logged
}

// Watched is a pair in files that a person or another program replaces. A
// change is noticed by content, within a minute. A new pair that cannot be
// used is said at the second look, since two files are not replaced at the
// same moment, and the old one goes on.
type Watched struct {
	cfg     WatchedConfig
	current atomic.Pointer[tls.Certificate]

	mu       sync.Mutex // guards the rest
	changed  []func()
	taken    [32]byte // digest of what is in use
	rejected [32]byte // digest of what was found wanting last
	problem  string
}

var _ interface {
	Own
	Looker
} = (*Watched)(nil)

// OpenWatched reads a pair for the first time. One that has expired or is not
// valid yet is read too: the inventory says so, and Certificate refuses it.
func OpenWatched(cfg WatchedConfig) (*Watched, error) {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	cfg.Keys = orFiles(cfg.Keys)
	w := &Watched{cfg: cfg}
	pair, digest, err := readPair(cfg.Keys, cfg.Files, [32]byte{})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", cfg.Name, err)
	}
	w.taken = digest
	w.current.Store(pair)
	return w, nil
}

// readPair reads and digests both files. The digest is that of what was read,
// and not zero, when they are no pair. Of what is known already the pair is nil.
func readPair(from *keys.Keys, f Files, known [32]byte) (*tls.Certificate, [32]byte, error) {
	cert, err := octets(f.Certificate)
	if err != nil {
		return nil, [32]byte{}, fmt.Errorf("reading a certificate: %w", err)
	}
	key, err := octets(f.Key)
	if err != nil {
		return nil, [32]byte{}, fmt.Errorf("reading a private key: %w", err)
	}
	defer clear(key)
	h := sha256.New()
	sum := sha256.Sum256(cert)
	h.Write(sum[:])
	h.Write(key)
	digest := [32]byte(h.Sum(nil))
	if !keys.IsURI(f.Key) {
		if err := secret.CheckPrivate(f.Key); err != nil {
			return nil, digest, err
		}
	}
	if digest == known {
		return nil, digest, nil
	}
	pair, err := Load(from, f)
	return pair, digest, err
}

// Load reads a certificate, with what follows it, and its key.
func Load(from *keys.Keys, f Files) (*tls.Certificate, error) {
	chain, err := LoadChain(f.Certificate)
	if err != nil {
		return nil, err
	}
	key, err := from.Load(f.Key)
	if err == nil {
		err = belong(chain[0], key)
	}
	if err != nil {
		return nil, fmt.Errorf("certificate %q and its key cannot be used: %w", f.Certificate, err)
	}
	pair := &tls.Certificate{PrivateKey: key, Leaf: chain[0]}
	for _, c := range chain {
		pair.Certificate = append(pair.Certificate, c.Raw)
	}
	return pair, nil
}

func belong(cert *x509.Certificate, key crypto.Signer) error {
	if pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool }); !ok || !pub.Equal(cert.PublicKey) {
		return errors.New("they do not belong together")
	}
	return nil
}

// LoadChain reads the certificates of a PEM file, or that of a key in Windows'
// certificate store with those of its issuers.
func LoadChain(ref string) ([]*x509.Certificate, error) {
	if keys.InStore(ref) {
		return keys.Certificate(ref)
	}
	return embedded.LoadChain(ref)
}

// orFiles is for those who have no devices.
func orFiles(k *keys.Keys) *keys.Keys {
	if k == nil {
		return keys.New(keys.Config{})
	}
	return k
}

// Look reads the files and takes a new pair into use. The error says why one
// was not taken.
func (w *Watched) Look() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	pair, digest, err := readPair(w.cfg.Keys, w.cfg.Files, w.taken)
	switch {
	case err == nil && digest == w.taken:
		w.problem, w.rejected = "", [32]byte{}
		return nil
	case err == nil:
		err = w.acceptable(pair)
	}
	if err != nil {
		if digest != w.rejected {
			w.rejected = digest // perhaps one of two files was written so far
			return nil
		}
		w.problem = err.Error() + "; the old one stays in use"
		return errors.New(w.cfg.Name + ": " + w.problem)
	}
	w.taken, w.rejected, w.problem = digest, [32]byte{}, ""
	w.current.Store(pair)
	w.cfg.Log.Info("certificate replaced", zap.String("name", w.cfg.Name), zap.String("kind", string(w.cfg.Kind)),
		zap.String("subject", pair.Leaf.Subject.String()), zap.Time("not_after", pair.Leaf.NotAfter))
	for _, tell := range w.changed {
		tell()
	}
	return nil
}

// OnChange has tell called after each new pair was taken into use.
func (w *Watched) OnChange(tell func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.changed = append(w.changed, tell)
}

// acceptable refuses what would be worse than what we have.
func (w *Watched) acceptable(pair *tls.Certificate) error {
	now := w.cfg.Clock()
	old := w.current.Load().Leaf
	if err := unfit(w.cfg.Kind, pair.Leaf); err != nil && unfit(w.cfg.Kind, old) == nil && valid(old, now) {
		return err
	}
	if valid(pair.Leaf, now) || !valid(old, now) {
		return nil
	}
	if now.Before(pair.Leaf.NotBefore) {
		return fmt.Errorf("the new certificate in %q is not valid before %s", w.cfg.Files.Certificate, pair.Leaf.NotBefore.UTC().Format(time.RFC3339))
	}
	return expired("the new certificate", pair.Leaf)
}

// Tend is Look: somebody else renews.
func (w *Watched) Tend(context.Context) error { return w.Look() }

// Certificate returns the pair for a new connection, and an error instead of
// one that has expired.
func (w *Watched) Certificate() (*tls.Certificate, error) {
	pair := w.current.Load()
	if !w.cfg.Clock().Before(pair.Leaf.NotAfter) {
		return nil, expired(w.cfg.Name+": certificate", pair.Leaf)
	}
	return pair, nil
}

// GetCertificate is Certificate for a tls.Config.
func (w *Watched) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return w.Certificate()
}

// GetClientCertificate is Certificate for a tls.Config.
func (w *Watched) GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return w.Certificate()
}

// Leaf is the certificate in use, whatever its dates.
func (w *Watched) Leaf() *x509.Certificate { return w.current.Load().Leaf }

// Items is the one row.
func (w *Watched) Items() []Item {
	w.mu.Lock()
	defer w.mu.Unlock()
	leaf := w.current.Load().Leaf
	i := describe(w.cfg.Name, w.cfg.Kind, leaf, w.cfg.Files.Certificate)
	i.Key = keys.PlaceOfRef(w.cfg.Files.Key)
	i.Next = "replace the files by " + date(i.RenewAt) + "; the service notices within a minute"
	i.Problem = w.problem
	if i.Problem == "" && w.cfg.Clock().Before(leaf.NotBefore) {
		i.Problem = "not valid before " + date(leaf.NotBefore)
	}
	if err := unfit(w.cfg.Kind, leaf); err != nil && i.Problem == "" {
		i.Problem = err.Error()
	}
	return []Item{i}
}
