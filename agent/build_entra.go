package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/identity"
	"github.com/certconnector/certconnector/agent/identity/entra"
	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/intune"
)

// aadstsUnknownKey is what Entra ID answers to a certificate that it does not
// know, or not yet (AADSTS700027).
const aadstsUnknownKey = 700027

// buildEntra keeps a tenant's client certificate, and has it replaced in time.
func (a *Agent) buildEntra(t Tenant, store *entra.Store, cfg intune.Config, client *intune.Client) {
	store.Use(graph{client: client, cfg: cfg})
	a.keeper.Add(entraItems{store: store, tenant: t.Name})
	a.more = append(a.more, task{"Entra certificate of " + t.Name, store.Run})
}

// OpenEntra opens the folder of a tenant's managed client certificate, for
// commands. It may be open in the service at the same time. The Store can
// rotate where the configuration lets the service do so.
func OpenEntra(cfg Config, tenant string, log *zap.Logger) (*entra.Store, error) {
	for _, t := range cfg.Tenants {
		if t.Name != tenant {
			continue
		}
		if t.Credential.Managed == nil {
			return nil, fmt.Errorf("tenant %q signs in with something else; its credential is not managed", tenant)
		}
		store, err := t.Credential.Managed.open(t.Name, cfg.Keys.Open(log), keys.Place(cfg.Keys.New), Options{Clock: time.Now}, log, log)
		if err != nil {
			return nil, err
		}
		if len(store.Certificates()) == 0 {
			return store, nil // nothing to sign in with
		}
		a := &Agent{cfg: cfg, options: Options{Version: "command", Clock: time.Now}, log: log, keys: cfg.Keys.Open(log)}
		ic, err := a.intuneConfig(t, store)
		if err != nil {
			return nil, err
		}
		client, err := intune.New(ic)
		if err != nil {
			return nil, err
		}
		store.Use(graph{client: client, cfg: ic})
		return store, nil
	}
	return nil, fmt.Errorf("no tenant is called %q", tenant)
}

// LoadEntraCredential reads a certificate and its key.
func LoadEntraCredential(cfg Config, certificate, key string) (entra.Credential, error) {
	pair, err := loadPair(cfg.Keys.Open(zap.NewNop()), KeyPair{Certificate: certificate, Key: key})
	return entra.Credential{Certificate: pair.Certificate, Signer: pair.Key}, err
}

func (m *ManagedCredential) open(tenant string, from *keys.Keys, where keys.Place, o Options, log, audit *zap.Logger) (*entra.Store, error) {
	host := m.Host
	if host == "" {
		var err error
		if host, err = os.Hostname(); err != nil {
			return nil, fmt.Errorf("this host has no name; set credential.managed.host: %w", err)
		}
	}
	store, err := entra.Open(entra.Config{
		Dir: filepath.Clean(m.Folder), Tenant: tenant, Host: host, Lifetime: m.Lifetime, Overlap: m.Overlap, ByHand: !m.Rotate,
		Clock: o.Clock, Wait: o.Wait, Log: log, Audit: audit, Keys: from, Where: where,
	})
	if err != nil {
		return nil, fmt.Errorf("tenant %q: %w", tenant, err)
	}
	return store, nil
}

// certificates are what the store signs in with, as the client wants them.
func certificates(store *entra.Store) func() []intune.Certificate {
	return func() []intune.Certificate {
		var list []intune.Certificate
		for _, c := range store.Certificates() {
			list = append(list, intune.Certificate{Certificate: c.Certificate, Signer: c.Signer})
		}
		return list
	}
}

// graph is what a rotation needs, by the Intune client.
type graph struct {
	client *intune.Client
	cfg    intune.Config
}

var _ entra.Graph = graph{}

// Application implements entra.Graph.
func (g graph) Application(ctx context.Context) (entra.Application, error) {
	app, err := g.client.Application(ctx)
	if err != nil {
		return entra.Application{}, forbidden(err)
	}
	out := entra.Application{ObjectID: app.ObjectID, DisplayName: app.DisplayName}
	for _, k := range app.Keys {
		out.Keys = append(out.Keys, entra.Key(k))
	}
	return out, nil
}

// AddKey implements entra.Graph.
func (g graph) AddKey(ctx context.Context, objectID string, certificate []byte, displayName, proof string) (entra.Key, error) {
	k, err := g.client.AddKey(ctx, objectID, certificate, displayName, proof)
	return entra.Key(k), forbidden(err)
}

// RemoveKey implements entra.Graph.
func (g graph) RemoveKey(ctx context.Context, objectID, keyID, proof string) error {
	return forbidden(g.client.RemoveKey(ctx, objectID, keyID, proof))
}

// Proof implements entra.Graph.
func (g graph) Proof(objectID string, with entra.Credential, now time.Time) (string, error) {
	return intune.KeyProof(objectID, intune.Certificate{Certificate: with.Certificate, Signer: with.Signer}, now)
}

// Try implements entra.Graph: a client that knows this certificate alone asks
// for a token.
func (g graph) Try(ctx context.Context, with entra.Credential) error {
	cfg := g.cfg
	cfg.Credential = intune.Credential{Certificates: intune.Fixed(intune.Certificate{Certificate: with.Certificate, Signer: with.Signer})}
	client, err := intune.New(cfg)
	if err != nil {
		return err
	}
	defer client.Close()
	err = client.SignIn(ctx)
	if e, ok := errors.AsType[*intune.AuthError](err); ok && e.AADSTS == aadstsUnknownKey {
		return fmt.Errorf("%w: %w", entra.ErrUnknownCertificate, err)
	}
	return err
}

// forbidden tells a missing permission from other failures.
func forbidden(err error) error {
	if e, ok := errors.AsType[*intune.HTTPError](err); ok && (e.Status == 401 || e.Status == 403) {
		return fmt.Errorf("%w: %w", entra.ErrForbidden, err)
	}
	return err
}

// entraItems shows a store in the inventory; it has a task of its own.
type entraItems struct {
	store  *entra.Store
	tenant string
}

// Items implements identity.Own.
func (e entraItems) Items() []identity.Item {
	var items []identity.Item
	for _, i := range e.store.Items() {
		items = append(items, identity.Item{
			Name: "tenant " + e.tenant, Kind: identity.KindEntraClient, Subject: i.Subject, Issuer: i.Subject, SHA256: i.SHA256,
			Source: i.Path, Key: i.Key, NotBefore: i.NotBefore, NotAfter: i.NotAfter, RenewAt: i.NextAt, Next: i.Next, Problem: i.Problem, Managed: !i.ByHand,
		})
	}
	if len(items) == 0 {
		items = append(items, identity.Item{
			Name: "tenant " + e.tenant, Kind: identity.KindEntraClient, Source: e.store.Dir,
			Next: "run \"certconnector entra create\" and upload the certificate", Problem: "there is no certificate yet",
		})
	}
	return items
}

// Tend implements identity.Own.
func (e entraItems) Tend(context.Context) error { return nil }
