package entra_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/identity/entra"
	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/intune/intunetest"
)

// graph is entra.Graph by the client that the service uses.
type graph struct {
	config intune.Config
	client *intune.Client
}

func credentials(s *entra.Store) func() []intune.Certificate {
	return func() []intune.Certificate {
		var list []intune.Certificate
		for _, c := range s.Certificates() {
			list = append(list, intune.Certificate(c))
		}
		return list
	}
}

// said translates what the client's callers have to tell apart.
func said(err error) error {
	if e, ok := errors.AsType[*intune.AuthError](err); ok && e.AADSTS == 700027 {
		return fmt.Errorf("%w: %v", entra.ErrUnknownCertificate, err)
	}
	if e, ok := errors.AsType[*intune.HTTPError](err); ok && (e.Status == http.StatusForbidden || e.Status == http.StatusUnauthorized) {
		return fmt.Errorf("%w: %v", entra.ErrForbidden, err)
	}
	return err
}

func (g *graph) Application(ctx context.Context) (entra.Application, error) {
	a, err := g.client.Application(ctx)
	app := entra.Application{ObjectID: a.ObjectID, DisplayName: a.DisplayName}
	for _, k := range a.Keys {
		app.Keys = append(app.Keys, entra.Key(k))
	}
	return app, said(err)
}

func (g *graph) AddKey(ctx context.Context, objectID string, der []byte, name, proof string) (entra.Key, error) {
	k, err := g.client.AddKey(ctx, objectID, der, name, proof)
	return entra.Key(k), said(err)
}

func (g *graph) RemoveKey(ctx context.Context, objectID, keyID, proof string) error {
	return said(g.client.RemoveKey(ctx, objectID, keyID, proof))
}

func (g *graph) Proof(objectID string, with entra.Credential, now time.Time) (string, error) {
	return intune.KeyProof(objectID, intune.Certificate(with), now)
}

func (g *graph) Try(ctx context.Context, with entra.Credential) error {
	cfg := g.config
	cfg.Credential = intune.Credential{Certificates: intune.Fixed(intune.Certificate(with))}
	c, err := intune.New(cfg)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Application(ctx)
	return said(err)
}

// tenant is a simulated cloud, a folder, and a clock that moves only while
// nobody is within a call.
type tenant struct {
	t     *testing.T
	cloud *intunetest.Cloud
	store *entra.Store
	graph *graph

	calls sync.RWMutex // held by whoever is within a call
	mu    sync.Mutex
	at    time.Time
}

func (c *tenant) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *tenant) advance(d time.Duration) {
	c.calls.Lock()
	defer c.calls.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// newTenant has a certificate that was uploaded and works.
func newTenant(t *testing.T, options intunetest.Options) *tenant {
	t.Helper()
	c := &tenant{t: t, at: time.Now().Truncate(time.Second)}
	options.Clock = c.now
	options.TokenLife = time.Second // each call signs in anew
	var err error
	if c.cloud, err = intunetest.New(options); err != nil {
		t.Fatal(err)
	}
	if err := c.cloud.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.cloud.Close(); err != nil {
			t.Error(err)
		}
	})
	made := 0
	c.store, err = entra.Open(entra.Config{
		Dir: t.TempDir(), Tenant: "contoso", Host: host, Lifetime: 360 * day, Clock: c.now,
		NewKey: func(path string, _ int) (crypto.Signer, error) { made++; return stored(path, made) },
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.store.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.cloud.SetCertificates(intunetest.ContosoID, intunetest.ContosoClient, c.store.Certificates()[0].Certificate); err != nil {
		t.Fatal(err)
	}
	cfg := c.cloud.ClientConfig()
	cfg.Credential = intune.Credential{Certificates: credentials(c.store)}
	client, err := intune.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	c.graph = &graph{config: cfg, client: client}
	c.store.Use(c.graph)
	if err := c.store.Tend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if items := c.store.Items(); len(items) != 1 || items[0].State != entra.Working {
		t.Fatalf("the uploaded certificate: %+v", items)
	}
	return c
}

// TestRotationWithoutOneFailedCall signs in all the time, with real
// assertions, while the certificate is replaced.
func TestRotationWithoutOneFailedCall(t *testing.T) {
	c := newTenant(t, intunetest.Options{KeyDelay: 2 * time.Hour})
	old := c.cloud.Keys()[0].Thumbprint
	stop := make(chan struct{})
	var caller sync.WaitGroup
	var calls, failed atomic.Int64
	caller.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			c.calls.RLock()
			_, err := c.graph.client.Application(t.Context())
			c.calls.RUnlock()
			if n := calls.Add(1); err != nil {
				failed.Add(1)
				t.Errorf("call %d: %v", n, err)
			}
			time.Sleep(time.Millisecond) // lets the clock move
		}
	})
	pass := func(times int, d time.Duration) {
		for range times {
			for n := calls.Load(); calls.Load() == n; { // at least one call between any two steps
				time.Sleep(time.Millisecond)
			}
			c.advance(d)
			c.calls.RLock()
			err := c.store.Tend(t.Context())
			c.calls.RUnlock()
			if err != nil && !errors.Is(err, entra.ErrUnknownCertificate) {
				t.Error(err)
			}
		}
	}
	pass(24, 10*day)
	pass(15, 10*time.Minute)
	if n := len(c.cloud.Keys()); n != 2 {
		t.Errorf("%d keys while both serve", n)
	}
	pass(10, day)
	close(stop)
	caller.Wait()
	keys := c.cloud.Keys()
	if len(keys) != 1 || keys[0].Thumbprint == old || keys[0].Thumbprint != c.store.Items()[0].SHA1 {
		t.Errorf("keys in the end: %+v", keys)
	}
	t.Logf("%d calls, %d failed", calls.Load(), failed.Load())
}

func TestTenantThatWantsAPermission(t *testing.T) {
	c := newTenant(t, intunetest.Options{KeyRole: true})
	up, err := c.store.Rotate(t.Context())
	if !errors.Is(err, entra.ErrByHand) || up.Generation != 2 {
		t.Fatalf("without the permission: %+v, %v", up, err)
	}
	if items := c.store.Items(); !items[0].ByHand || items[1].State != entra.Working {
		t.Errorf("items %+v", items)
	}
	// A person uploads it.
	list := c.store.Certificates()
	if err := c.cloud.SetCertificates(intunetest.ContosoID, intunetest.ContosoClient, list[0].Certificate, list[1].Certificate); err != nil {
		t.Fatal(err)
	}
	if up, err := c.store.Rotate(t.Context()); err != nil || up.Generation != 2 {
		t.Fatalf("after the upload: %+v, %v", up, err)
	}
}
