package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/identity"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/scep"
)

// chain is a CA's chain as it is remembered: asked for once a day, so that a
// renewed CA certificate is noticed.
func (a *Agent) chain(caName string) *identity.Chain {
	if a.chains[caName] == nil {
		a.chains[caName] = identity.NewChain(a.cas[caName].Chain, a.options.Clock)
	}
	return a.chains[caName]
}

// buildRA opens an endpoint's registration authority. It renews itself where
// the configuration lets it and the CA can.
func (a *Agent) buildRA(ctx context.Context, e Endpoint) (*identity.RA, error) {
	cfg := identity.RAConfig{
		Endpoint: e.Name,
		Material: scep.RA{
			Shape: scep.SplitRA, IncludeRoot: e.GetCACert.IncludeRoot, DERSort: e.GetCACert.DERSort, DummyContent: e.DummyContent,
		},
		Signing: identity.Files(e.RA.Signing), Encryption: identity.Files(e.RA.Encryption),
		Folder: filepath.Join(a.cfg.StateDir, "identity", "ra-"+e.Name), NextCA: e.GetCACert.Next, Chain: a.chain(e.CA),
		Keys: a.keys, Where: keys.Place(a.cfg.Keys.New), Clock: a.options.Clock, Log: a.log.Named("identity").With(zap.String("endpoint", e.Name)),
	}
	if e.RA.Shape == ShapeCombined {
		cfg.Material.Shape, cfg.Encryption = scep.CombinedRA, identity.Files{}
	}
	if e.RA.Renew == RenewAuto {
		cfg.Renew = a.renewal(e.CA)
		cfg.Renew.SigningTemplate, cfg.Renew.EncryptionTemplate = e.RA.Templates.Signing, e.RA.Templates.Encryption
		if cfg.Renew.Direct == nil && e.RA.Templates.Signing == "" {
			cfg.Renew = nil // a Microsoft CA wants a template: the inventory says that a person renews
		}
	}
	ra, err := identity.OpenRA(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("endpoint %q: %w", e.Name, err)
	}
	if from := a.options.from; from != nil && from.ras[e.Name] != nil {
		if err := ra.Inherit(from.ras[e.Name]); err != nil {
			return nil, fmt.Errorf("endpoint %q: %w", e.Name, err)
		}
	}
	a.ras[e.Name] = ra
	a.keeper.Add(ra)
	return ra, nil
}

// renewal says who issues our own certificates at a CA.
func (a *Agent) renewal(caName string) *identity.Renewal {
	issuer := a.cas[caName].Authority
	if own, ok := issuer.(*embedded.CA); ok {
		return &identity.Renewal{Direct: identity.Embedded(own)}
	}
	return &identity.Renewal{CA: issuer}
}

// watch reads a pair of files that is looked at for changes from now on.
func (a *Agent) watch(name string, kind identity.Kind, p KeyPair) (*identity.Watched, error) {
	w, err := identity.OpenWatched(identity.WatchedConfig{
		Name: name, Kind: kind, Files: identity.Files(p), Keys: a.keys, Clock: a.options.Clock, Log: a.log.Named("identity"),
	})
	if err != nil {
		return nil, err
	}
	a.keeper.Add(w)
	return w, nil
}

// note puts a row into the inventory for a certificate that is read once and
// that a person renews.
func (a *Agent) note(name string, kind identity.Kind, p KeyPair) error {
	certs, err := identity.LoadChain(p.Certificate)
	if err != nil {
		return err
	}
	row := identity.Describe(name, kind, certs[0], p.Certificate)
	row.Key = keys.PlaceOfRef(p.Key)
	row.Next = "replace the files by " + row.RenewAt.UTC().Format("2006-01-02") + " and reload the service"
	a.keeper.Add(identity.Note(func(time.Time) []identity.Item { return []identity.Item{row} }, a.options.Clock))
	return nil
}

// certificate is how a listener gets its certificate for each connection: from
// files that are watched, or from a CA of ours.
func (a *Agent) certificate(l Listener) (func(*tls.ClientHelloInfo) (*tls.Certificate, error), error) {
	name, kind := "listener "+l.Name, identity.KindTLS
	if l.Shows(FaceCRP) {
		kind = identity.KindCRPServer
	}
	if files := l.TLS.files(); files != nil {
		w, err := a.watch(name, kind, *files)
		if err != nil {
			return nil, err
		}
		return w.GetCertificate, nil
	}
	own, err := identity.OpenTLS(context.Background(), identity.TLSConfig{
		Name: name, Kind: kind, Hosts: l.TLS.Names, Folder: filepath.Join(a.cfg.StateDir, "identity", "tls-"+l.Name),
		Chain: a.chain(l.TLS.IssuedBy), Renew: *a.renewal(l.TLS.IssuedBy), Keys: a.keys, Where: keys.Place(a.cfg.Keys.New), Clock: a.options.Clock, Log: a.log.Named("identity"),
	})
	if err != nil {
		return nil, err
	}
	a.keeper.Add(own)
	return own.GetCertificate, nil
}

// expired names our own certificates that have ended.
func (a *Agent) expired() error {
	var errs []error
	now := a.options.Clock()
	for _, i := range a.keeper.Inventory() {
		if i.Kind != identity.KindRAPrevious && i.Kind != identity.KindNextCA && i.Kind != identity.KindEntraClient && !i.NotAfter.IsZero() && !now.Before(i.NotAfter) {
			errs = append(errs, fmt.Errorf("%s: %s certificate expired on %s", i.Name, i.Kind, i.NotAfter.UTC().Format("2006-01-02")))
		}
	}
	return errors.Join(errs...)
}

// noteCAs puts into the inventory what CAs depend on: the certificate of an
// embedded one with its OCSP signer, and what we show to a Microsoft CA.
func (a *Agent) noteCAs() error {
	for _, c := range a.cfg.CAs {
		name := c.Name
		var link *KeyPair
		switch {
		case c.Embedded != nil:
			chain, err := a.cas[name].Chain(context.Background())
			if err != nil {
				return err
			}
			rows, place := identity.EmbeddedCA(name, c.Embedded.Certificate, chain), keys.PlaceOfRef(c.Embedded.Key)
			a.keeper.Add(identity.Note(func(now time.Time) []identity.Item {
				list := rows(now)
				for i := range list {
					list[i].Key = place
				}
				return list
			}, a.options.Clock))
			if a.responder != nil {
				rows := identity.OCSPSigner(name, func() *x509.Certificate { return a.responder.Signer(name) })
				a.keeper.Add(responder{Own: identity.Note(rows, a.options.Clock), Responder: a.responder})
			}
		case c.Certsrv != nil:
			link = c.Certsrv.ClientCertificate
		case c.WSTEP != nil:
			link = c.WSTEP.ClientCertificate
		}
		if !link.empty() {
			if _, err := a.watch("CA "+name, identity.KindCALink, *link); err != nil {
				return fmt.Errorf("CA %q: %w", name, err)
			}
		}
	}
	return nil
}

// responder has the signers of OCSP responses renewed with everything else.
type responder struct {
	identity.Own
	*embedded.Responder
}

// Tend implements identity.Own.
func (r responder) Tend(ctx context.Context) error { return r.Renew(ctx) }
