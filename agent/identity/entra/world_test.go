package entra_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/certconnector/certconnector/agent/identity/entra"
	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/internal/testkeys"
)

const (
	day  = 24 * time.Hour
	host = "scep01.corp.example"
)

// cloud is Entra ID and Graph for one app registration: it knows certificates
// that were added, each some time after that, and believes proofs of those.
type cloud struct {
	mu        sync.Mutex
	now       func() time.Time
	store     func() *entra.Store
	keys      []key
	replicate time.Duration // until a key that was added signs in
	forbidden bool
	loseAdd   int // so many answers to AddKey are lost though it was done
	loseDel   int
	down      bool
	mute      bool // no thumbprints are shown

	added, removed int
	proofs         int
}

type key struct {
	entra.Key
	fingerprint string
	since       time.Time
}

var errLost = errors.New("the answer was lost")

// upload is what a person does in the portal.
func (c *cloud) upload(cert *x509.Certificate, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(cert, name)
}

func (c *cloud) add(cert *x509.Certificate, name string) entra.Key {
	k := key{Key: entra.Key{
		KeyID: fmt.Sprintf("key-%d", len(c.keys)+c.removed+1), DisplayName: name, Thumbprint: strings.ToLower(entra.Thumbprint(cert.Raw)),
		NotBefore: cert.NotBefore, NotAfter: cert.NotAfter,
	}, fingerprint: entra.Fingerprint(cert.Raw), since: c.now()}
	c.keys = append(c.keys, k)
	return k.Key
}

func (c *cloud) knows(fingerprint string) bool {
	return slices.ContainsFunc(c.keys, func(k key) bool {
		return k.fingerprint == fingerprint && !c.now().Before(k.since.Add(c.replicate)) && c.now().Before(k.NotAfter) && !c.now().Before(k.NotBefore)
	})
}

// signIn is what the client does for any call: the first certificate that is known.
func (c *cloud) signIn() error {
	if c.down {
		return errors.New("no answer")
	}
	for _, cred := range c.store().Certificates() {
		if c.knows(entra.Fingerprint(cred.Certificate.Raw)) {
			return nil
		}
	}
	return entra.ErrUnknownCertificate
}

func (c *cloud) Application(context.Context) (entra.Application, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.signIn(); err != nil {
		return entra.Application{}, err
	}
	app := entra.Application{ObjectID: "object", DisplayName: "connector"}
	for _, k := range c.keys {
		if c.mute {
			k.Thumbprint = ""
		}
		app.Keys = append(app.Keys, k.Key)
	}
	return app, nil
}

func (c *cloud) Proof(objectID string, with entra.Credential, _ time.Time) (string, error) {
	return objectID + " " + entra.Fingerprint(with.Certificate.Raw), nil
}

func (c *cloud) change(proof string) error {
	if err := c.signIn(); err != nil {
		return err
	}
	if c.forbidden {
		return fmt.Errorf("HTTP 403: %w", entra.ErrForbidden)
	}
	object, fingerprint, _ := strings.Cut(proof, " ")
	if object != "object" || !c.knows(fingerprint) {
		return errors.New("the proof is by no key of the application")
	}
	c.proofs++
	return nil
}

func (c *cloud) AddKey(_ context.Context, _ string, der []byte, name, proof string) (entra.Key, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.change(proof); err != nil {
		return entra.Key{}, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return entra.Key{}, err
	}
	c.added++
	k := c.add(cert, name)
	if c.loseAdd > 0 {
		c.loseAdd--
		return entra.Key{}, errLost
	}
	return k, nil
}

func (c *cloud) RemoveKey(_ context.Context, _, keyID, proof string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.change(proof); err != nil {
		return err
	}
	n := len(c.keys)
	c.keys = slices.DeleteFunc(c.keys, func(k key) bool { return k.KeyID == keyID })
	if len(c.keys) == n {
		return errors.New("there is no such key")
	}
	c.removed++
	if c.loseDel > 0 {
		c.loseDel--
		return errLost
	}
	return nil
}

func (c *cloud) Try(_ context.Context, with entra.Credential) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.down {
		return errors.New("no answer")
	}
	if !c.knows(entra.Fingerprint(with.Certificate.Raw)) {
		return fmt.Errorf("AADSTS700027: %w", entra.ErrUnknownCertificate)
	}
	return nil
}

// world is a folder, a clock and a cloud.
type world struct {
	t     *testing.T
	cfg   entra.Config
	store *entra.Store
	cloud *cloud
	clock time.Time
	logs  *observer.ObservedLogs
}

func newWorld(t *testing.T, change ...func(*entra.Config)) *world {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	w := &world{t: t, clock: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), logs: logs}
	made := 0
	w.cfg = entra.Config{
		Dir: t.TempDir() + "/entra/contoso", Tenant: "contoso", Host: host, Lifetime: 360 * day,
		Clock: func() time.Time { return w.clock }, Log: zap.New(core), Audit: zap.New(core),
		NewKey: func(path string, _ int) (crypto.Signer, error) {
			made++
			return stored(path, made)
		},
	}
	for _, c := range change {
		c(&w.cfg)
	}
	w.cloud = &cloud{now: w.cfg.Clock, store: func() *entra.Store { return w.store }, replicate: 3 * time.Minute}
	w.open()
	return w
}

// stored puts one of the fixed keys into a generation's file.
func stored(path string, n int) (crypto.Signer, error) {
	key := testkeys.RSA2048(n % 8)
	return key, keys.StoreFile(path, key)
}

// open starts the process anew.
func (w *world) open() {
	w.t.Helper()
	s, err := entra.Open(w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	s.Use(w.cloud)
	w.store = s
}

// created makes the first certificate, uploads it and waits until it works.
func (w *world) created() {
	w.t.Helper()
	if _, err := w.store.Create(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	w.cloud.upload(w.store.Certificates()[0].Certificate, "by hand")
	w.clock = w.clock.Add(w.cloud.replicate)
	w.pass(10*time.Minute, time.Minute)
	if s := w.states(); s != "1 working" {
		w.t.Fatalf("the uploaded certificate: %s", s)
	}
}

// pass lets time pass, with a Tend at each step.
func (w *world) pass(d, step time.Duration) {
	w.t.Helper()
	for end := w.clock.Add(d); w.clock.Before(end); {
		w.clock = w.clock.Add(step)
		_ = w.store.Tend(w.t.Context()) // what fails is tried again, and named by Items
		w.signsIn()
	}
}

// signsIn fails the test when no certificate would get a token.
func (w *world) signsIn() {
	w.t.Helper()
	w.cloud.mu.Lock()
	defer w.cloud.mu.Unlock()
	if w.cloud.down {
		return
	}
	if err := w.cloud.signIn(); err != nil {
		w.t.Fatalf("at %v nothing signs in: %v", w.clock, err)
	}
}

// states of the generations that are not retired, oldest first.
func (w *world) states() string {
	var s []string
	for _, item := range slices.Backward(w.store.Items()) {
		var n int
		if _, err := fmt.Sscanf(item.Name, "Entra certificate %d of", &n); err == nil {
			s = append(s, fmt.Sprintf("%d %s", n, item.State))
		}
	}
	return strings.Join(s, ", ")
}
