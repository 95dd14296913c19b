// Package entra keeps the client certificate with which a connector signs in
// at Entra ID: makes it, says where to upload it, and replaces it in time.
//
// Entra ID takes a self-signed certificate wherever it takes a client secret;
// it verifies a signature and looks the certificate up in the app
// registration, nothing else. So the certificate of each tenant is made here.
// Each is a generation of files in one folder, with a record of how far it has
// come. Every step of a rotation is recorded before it is taken, so that a
// restart goes on where a power failure stopped it:
//
//	made → (adding) → registered → working → (removing) → retired
//
// The old generation signs in until a token was had with the new one, and
// stays in the app registration for an overlap, since Entra's replicas do not
// learn of a new key at once. The last one that works is never removed.
package entra

import (
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/internal/retry"
)

var (
	// ErrForbidden says that the application may not change its own keys. An
	// implementation of Graph wraps it for HTTP 401 and 403.
	ErrForbidden = errors.New("the application may not change its own keys")
	// ErrUnknownCertificate says that Entra ID does not know a certificate, or
	// not yet. An implementation of Graph wraps it for AADSTS700027.
	ErrUnknownCertificate = errors.New("the certificate is not known to Entra ID")
	// ErrByHand says that a person must do something in the Entra admin center.
	ErrByHand = errors.New("to be done by hand in the Entra admin center")
)

const day = 24 * time.Hour

// Config is what Open needs.
type Config struct {
	// Dir holds the generations; it is made, for its owner only, when it is missing.
	Dir string
	// Tenant is the tenant's configured name, for items and logs.
	Tenant string
	// Host is this host's DNS name: common name and subjectAltName, as front
	// ends of a registration point are named too (scep-ndes S73).
	Host string
	// Subject replaces CN=<Host>. The subjectAltName stays the host's name.
	Subject *pkix.Name

	// KeyBits is the size of RSA keys; 0: 3072. Entra ID documents 2048 or more.
	// The key signs about twice an hour, so its cost does not matter, and 3072
	// bits are what is advised beyond 2030.
	KeyBits int
	// Lifetime is how long a certificate is valid; 0: one year. App management
	// policies of a tenant often limit it, and a rotation needs nobody.
	Lifetime time.Duration
	// Overlap is how long a replaced certificate stays in the app registration; 0: 7 days.
	Overlap time.Duration
	// ByHand says that a person changes the app registration: a successor is made
	// in time, waits to be uploaded and is tried; nothing is added or removed.
	ByHand bool
	// Retries are the delays between attempts to have a new certificate taken;
	// zero: 30 s doubling to 10 min.
	Retries retry.Schedule

	// Keys loads and makes keys; nil: in files.
	Keys *keys.Keys
	// Where new keys are made; "": in files.
	Where keys.Place
	// NewKey makes an RSA key and its file; nil: Keys does.
	NewKey func(path string, bits int) (crypto.Signer, error)
	Clock  func() time.Time // nil: time.Now
	// Wait returns after a time, or when ctx ends with its error. It is what Run
	// waits with; nil: by the machine's clock.
	Wait  func(ctx context.Context, d time.Duration) error
	Log   *zap.Logger // nil: nothing is logged
	Audit *zap.Logger // nil: nothing is audited
}

// Graph is what rotation needs of Entra ID and Microsoft Graph. All its calls
// but Try sign in with whatever certificate works.
type Graph interface {
	// Application returns the app registration and its keys.
	Application(ctx context.Context) (Application, error)
	// AddKey adds a certificate (addKey). Its proof is that of a key that is
	// registered already. ErrForbidden when the application may not.
	AddKey(ctx context.Context, objectID string, certificate []byte, displayName, proof string) (Key, error)
	// RemoveKey removes one (removeKey).
	RemoveKey(ctx context.Context, objectID, keyID, proof string) error
	// Proof makes the proof of possession of a registered key.
	Proof(objectID string, with Credential, now time.Time) (string, error)
	// Try asks for a new token with this certificate and no other.
	// ErrUnknownCertificate when Entra ID does not know it.
	Try(ctx context.Context, with Credential) error
}

// Application is an app registration.
type Application struct {
	ObjectID    string
	DisplayName string
	Keys        []Key
}

// Key is a certificate of an app registration.
type Key struct {
	KeyID       string
	DisplayName string
	Thumbprint  string // SHA-1, hexadecimal
	NotBefore   time.Time
	NotAfter    time.Time
}

// Credential is a certificate and its key.
type Credential struct {
	Certificate *x509.Certificate
	Signer      crypto.Signer
}

// Store is the folder of one tenant's certificates. It is safe for concurrent
// use, and for use by two processes: each change of several steps holds a lock
// on the folder.
type Store struct {
	Config
	id    string        // tells this folder's keys from those of another one with the same host name
	busy  chan struct{} // one change of several steps at a time
	crash func(string)  // tests die at named points

	mu       sync.Mutex
	graph    Graph
	list     []*generation // oldest first
	foreign  []string      // what is wrong with files of the folder
	unknown  []Key         // keys of ours by name on the application that this folder does not know
	warnedAt map[int]int   // generation → the last threshold that was warned of
}

// Open reads the folder. A generation that cannot be used is left out and
// named by Items; only a folder that cannot be used at all is an error.
func Open(cfg Config) (*Store, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	s := &Store{Config: cfg, busy: make(chan struct{}, 1), warnedAt: map[int]int{}}
	if err := s.openFolder(); err != nil {
		return nil, fmt.Errorf("folder of the Entra certificates of tenant %q: %w", cfg.Tenant, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.reload(); err != nil {
		return nil, err
	}
	return s, nil
}

func (c *Config) complete() error {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("no folder is given"))
	}
	if !isHostName(c.Host) {
		errs = append(errs, fmt.Errorf("%q is no DNS name of this host", c.Host))
	}
	if c.KeyBits == 0 {
		c.KeyBits = 3072
	}
	if c.KeyBits < 2048 || c.KeyBits > 4096 {
		errs = append(errs, fmt.Errorf("an RSA key of %d bits: Entra ID takes 2048 to 4096", c.KeyBits))
	}
	if c.Lifetime == 0 {
		c.Lifetime = 365 * day
	}
	if c.Overlap == 0 {
		c.Overlap = 7 * day
	}
	if c.Lifetime < day || c.Overlap < 0 || c.Overlap > c.Lifetime/6 {
		errs = append(errs, fmt.Errorf("a lifetime of %v with an overlap of %v: give at least a day, and an overlap of at most a sixth of it", c.Lifetime, c.Overlap))
	}
	if c.Retries == (retry.Schedule{}) {
		c.Retries = retry.Schedule{First: 30 * time.Second, Most: 10 * time.Minute}
	}
	if c.Keys == nil {
		c.Keys = keys.New(keys.Config{})
	}
	if c.Where == "" {
		c.Where = keys.File
	}
	if c.NewKey == nil {
		create, where := c.Keys.Create, c.Where
		c.NewKey = func(path string, bits int) (crypto.Signer, error) { return create(path, where, keys.RSAKind(bits)) }
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Wait == nil {
		c.Wait = retry.Wait
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.Audit == nil {
		c.Audit = zap.NewNop()
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("the Entra certificate of tenant %q: %w", c.Tenant, err)
	}
	return nil
}

// Use sets the Graph that Tend and Rotate ask. Without one nothing leaves this
// host: certificates are made, to be uploaded by hand. It is apart from Config
// because the client that implements it signs in with Certificates.
func (s *Store) Use(g Graph) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.graph = g
}

// begin waits for other changes, and for those of other processes.
func (s *Store) begin(ctx context.Context) (end func(), err error) {
	select {
	case s.busy <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for {
		unlock, err := lockFolder(s.path(lockFile))
		if err == nil {
			return func() { unlock(); <-s.busy }, nil
		}
		if !errors.Is(err, errLocked) {
			<-s.busy
			return nil, fmt.Errorf("locking %q: %w", s.Dir, err)
		}
		if err := retry.Wait(ctx, 200*time.Millisecond); err != nil {
			<-s.busy
			return nil, fmt.Errorf("another process works in %q: %w", s.Dir, err)
		}
	}
}

// at is a place to die for tests.
func (s *Store) at(point string) {
	if s.crash != nil {
		s.crash(point)
	}
}
