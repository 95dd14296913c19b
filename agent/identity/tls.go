package identity

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/identity/ownenroll"
	"github.com/certconnector/certconnector/internal/keys"
)

// TLSConfig describes a server certificate that our own CA issues.
type TLSConfig struct {
	Name   string // of the part that uses it, as "listener devices"
	Kind   Kind   // "": tls
	Hosts  []string
	Folder string
	Chain  *Chain
	Renew  Renewal    // with a bridge, the template for signing is that of the server
	Keys   *keys.Keys // nil: keys are in files
	Where  keys.Place // of new keys; "": a file

	Clock func() time.Time // nil: time.Now
	Log   *zap.Logger      // nil: nothing is logged
}

// TLS is a server certificate that is made at the first start and renewed from
// then on. It is safe for concurrent use.
type TLS struct {
	cfg     TLSConfig
	lineage lineage
	live    atomic.Pointer[served]

	work sync.Mutex // one round at a time; held while the CA is asked

	mu    sync.Mutex // guards the rest
	try   attempts
	chain []*x509.Certificate
}

// served is what clients meet at present.
type served struct {
	generation
	pair tls.Certificate
}

var _ interface {
	Own
	Renewer
} = (*TLS)(nil)

// OpenTLS takes the newest certificate of the folder, and has one made where
// there is none that is valid: a listener cannot begin without.
func OpenTLS(ctx context.Context, cfg TLSConfig) (*TLS, error) {
	if len(cfg.Hosts) == 0 {
		return nil, fmt.Errorf("%s: a TLS certificate needs names", cfg.Name)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	if cfg.Kind == "" {
		cfg.Kind = KindTLS
	}
	t := &TLS{cfg: cfg, lineage: lineage{folder: cfg.Folder, roles: []string{"tls"}, keys: orFiles(cfg.Keys)}}
	list, _, err := t.lineage.load()
	if err != nil {
		cfg.Log.Warn("a TLS certificate in the state folder cannot be used", zap.String("name", cfg.Name), zap.Error(err))
	}
	if len(list) > 0 {
		t.serve(list[len(list)-1])
	}
	t.recall()
	if _, err := t.Certificate(); err != nil {
		if err := t.Tend(ctx); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *TLS) serve(g generation) {
	s := &served{generation: g}
	p := g.pairs[0]
	s.pair = tls.Certificate{PrivateKey: p.Key, Leaf: p.Certificate, Certificate: [][]byte{p.Certificate.Raw}}
	for _, c := range g.chain {
		if !slices.Equal(c.RawIssuer, c.RawSubject) { // clients have the root, or do not trust it anyway
			s.pair.Certificate = append(s.pair.Certificate, c.Raw)
		}
	}
	t.live.Store(s)
}

// Certificate returns the pair for a new connection, and an error instead of
// one that has expired.
func (t *TLS) Certificate() (*tls.Certificate, error) {
	s := t.live.Load()
	if s == nil {
		return nil, fmt.Errorf("%s: there is no TLS certificate yet", t.cfg.Name)
	}
	if !t.cfg.Clock().Before(s.pair.Leaf.NotAfter) {
		return nil, expired(t.cfg.Name+": TLS certificate", s.pair.Leaf)
	}
	return &s.pair, nil
}

// GetCertificate is Certificate for a tls.Config.
func (t *TLS) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) { return t.Certificate() }

// Named tells whether the name is that of our row.
func (t *TLS) Named(name string) bool { return name == t.cfg.Name }

// Tend renews when it is time, when the CA's certificate changed, and when the
// configuration names other hosts.
func (t *TLS) Tend(ctx context.Context) error {
	t.work.Lock()
	defer t.work.Unlock()
	chain, chainErr := t.cfg.Chain.Get(ctx)
	now := t.cfg.Clock()
	t.mu.Lock()
	t.chain = chain
	why := t.reason(chain, now)
	due := t.try.due(why, now)
	if why == "" {
		t.try.succeeded()
	}
	failed := t.try.err(t.cfg.Name)
	t.mu.Unlock()
	if due {
		failed = t.renew(ctx, why, chain)
	}
	if chainErr != nil {
		chainErr = fmt.Errorf("%s: asking the CA for its chain: %w", t.cfg.Name, chainErr)
	}
	return errors.Join(chainErr, failed)
}

// Renew renews now.
func (t *TLS) Renew(ctx context.Context) error {
	t.work.Lock()
	defer t.work.Unlock()
	chain, err := t.cfg.Chain.Refresh(ctx)
	if err != nil {
		return fmt.Errorf("asking the CA for its chain: %w", err)
	}
	return t.renew(ctx, asked, chain)
}

func (t *TLS) reason(chain []*x509.Certificate, now time.Time) string {
	s := t.live.Load()
	switch {
	case s == nil:
		return "there is none"
	case !sameNames(s.pair.Leaf, t.cfg.Hosts):
		return "the configuration names other hosts"
	case len(chain) > 0 && !sameCA(s.chain, chain):
		return "the CA's certificate has changed"
	case t.try.asked:
		return asked
	case now.Before(s.renewAt()) || now.Before(s.notAfter()) && pointless(s.generation, chain):
		return ""
	}
	return "two thirds of its life are over"
}

// recall goes on with a renewal that somebody asked for.
func (t *TLS) recall() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.try.recall(t.lineage, func() string { return t.reason(t.chain, t.cfg.Clock()) })
}

func sameNames(cert *x509.Certificate, hosts []string) bool {
	for _, host := range hosts {
		if cert.VerifyHostname(host) != nil && !slices.Contains(cert.DNSNames, host) { // "*.example" is no host name
			return false
		}
	}
	return len(cert.DNSNames)+len(cert.IPAddresses) == len(hosts)
}

func (t *TLS) renew(ctx context.Context, why string, chain []*x509.Certificate) error {
	now := t.cfg.Clock()
	var present generation
	if s := t.live.Load(); s != nil {
		present = s.generation
	}
	renew := t.cfg.Renew
	cfg := ownenroll.Config{CA: renew.CA, Direct: renew.Direct, Chain: chain, Subject: renew.Subject, KeyBits: renew.KeyBits, Clock: t.cfg.Clock}
	cfg.Roles = []ownenroll.Role{{
		Name: "tls", Template: renew.SigningTemplate, Hosts: t.cfg.Hosts, CommonName: t.cfg.Hosts[0], KeyUsage: x509.KeyUsageDigitalSignature,
		Where: cmp.Or(t.cfg.Where, keys.File),
	}}
	g, err := t.lineage.next(ctx, cfg, func(g generation) error {
		if !g.validAt(now) {
			return errors.New("the CA's new certificate is not valid now; compare the clocks")
		}
		if !g.signedBy(chain) {
			return errors.New("the certificate was not signed by the CA that is configured")
		}
		if len(present.pairs) > 0 && !sameNames(present.pairs[0].Certificate, t.cfg.Hosts) {
			return nil
		}
		return gain(why, present, g)
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.try.failedWith(why, err, now, present.notAfter())
		return t.try.err(t.cfg.Name)
	}
	t.try.succeeded()
	t.serve(g)
	t.cfg.Log.Info("TLS certificate renewed", zap.String("name", t.cfg.Name), zap.String("reason", why), zap.Time("not_after", g.notAfter()))
	return t.prune()
}

// prune keeps the generation before the present one and no others: nobody
// encrypts to a server's old key.
func (t *TLS) prune() error {
	list, _, err := t.lineage.load()
	if err != nil || len(list) <= 2 {
		return nil // what cannot be read was logged when it was opened
	}
	var errs []error
	for _, g := range list[:len(list)-2] {
		errs = append(errs, t.lineage.drop(g))
	}
	return errors.Join(errs...)
}

// Items is the one row.
func (t *TLS) Items() []Item {
	s := t.live.Load()
	t.mu.Lock()
	defer t.mu.Unlock()
	if s == nil {
		return []Item{{Name: t.cfg.Name, Kind: t.cfg.Kind, Source: t.cfg.Folder, Managed: true, Next: "made as soon as the CA issues", Problem: t.try.problem}}
	}
	i := describe(t.cfg.Name, t.cfg.Kind, s.pair.Leaf, s.source)
	i.Managed, i.Problem, i.Key = true, t.try.problem, keys.PlaceOfRef(filepath.Join(s.source, keyFile("tls")))
	switch {
	case pointless(s.generation, t.chain):
		i.Next = fmt.Sprintf("ends with the CA's own certificate on %s; renew the CA by %s", date(t.chain[0].NotAfter), date(i.RenewAt))
	case t.try.problem != "":
		i.Next = "tried again at " + t.try.retryAt.UTC().Format("2006-01-02 15:04") + " UTC"
	default:
		i.Next = "renewed on " + date(i.RenewAt) + ", or at once when the CA's certificate changes"
	}
	return []Item{i}
}
