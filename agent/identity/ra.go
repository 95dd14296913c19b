package identity

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/scep"
)

// RAConfig describes the registration authority of one endpoint.
type RAConfig struct {
	Endpoint string
	// Material is the shape and how things are shown; pairs, chain and next CA
	// are filled in here. The shape is split or combined.
	Material   scep.RA
	Signing    Files // what the operator configured: the first generation
	Encryption Files // in the split shape
	Folder     string
	NextCA     string // file that GetNextCACert serves while it is there; "": none
	Chain      *Chain
	Renew      *Renewal   // nil: a person renews
	Keys       *keys.Keys // nil: keys are in files
	Where      keys.Place // of new keys that take the place of those in plain files; "": a file

	Clock func() time.Time // nil: time.Now
	Log   *zap.Logger      // names the endpoint; nil: nothing is logged
}

// RA keeps the pairs of a registration authority: it renews them, takes new
// files of the operator into use, and lets older keys open what was encrypted
// for them. It is safe for concurrent use.
type RA struct {
	cfg     RAConfig
	lineage lineage
	live    atomic.Pointer[serving]

	work sync.Mutex // one round at a time; held while the CA is asked

	mu       sync.Mutex // guards the rest; never held while anybody is asked
	files    generation
	digest   [32]byte     // of the files' octets
	replaced []generation // files that were replaced while this process ran
	since    map[[32]byte]time.Time
	made     []generation // oldest first
	chain    []*x509.Certificate
	next     *scep.NextCA
	nextRaw  []byte
	checked  map[string]error  // what was found of pairs under a chain
	trouble  map[string]string // by what is affected: files, generations, chain, next
	try      attempts
}

// serving is what devices meet at present.
type serving struct {
	ra       *scep.RA
	current  generation
	previous []generation
	look     [32]byte // of everything that it was built of
}

var _ interface {
	Own
	Looker
	Renewer
} = (*RA)(nil)

// OpenRA reads the operator's files and what was made before; the CA may be
// down where it was reached before. It fails when nothing fits the CA: that is
// a mistake in the configuration. Expired certificates are no such failure,
// see Expired.
func OpenRA(ctx context.Context, cfg RAConfig) (*RA, error) {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	r := &RA{cfg: cfg, since: map[[32]byte]time.Time{}, trouble: map[string]string{}, checked: map[string]error{}}
	r.lineage = lineage{folder: cfg.Folder, roles: []string{"signing", "encryption"}, keys: orFiles(cfg.Keys)}
	switch cfg.Material.Shape {
	case scep.SplitRA:
	case scep.CombinedRA:
		r.lineage.roles = []string{"combined"}
	default:
		return nil, fmt.Errorf("endpoint %q: pairs of the shape %v are the CA's own", cfg.Endpoint, cfg.Material.Shape)
	}
	filesErr := r.readFiles()
	r.readNext()
	chain, chainErr := cfg.Chain.Get(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.chain = chain
	r.load()
	err := r.choose()
	if err == nil {
		r.recall()
		return r, nil
	}
	return nil, fmt.Errorf("endpoint %q: %w", cfg.Endpoint, errors.Join(filesErr, chainErr, err))
}

// Live returns the registration authority for one exchange: use the same value
// from opening the message to signing the answer. It is nil while there is
// none, or only one whose certificates have expired.
func (r *RA) Live() *scep.RA {
	s := r.live.Load()
	if s == nil || !r.cfg.Clock().Before(s.current.notAfter()) {
		return nil
	}
	return s.ra
}

// Expired says why Live returns nil; nil: it does not. An endpoint in this
// state is not ready.
func (r *RA) Expired() error {
	if r.Live() != nil {
		return nil
	}
	s := r.live.Load()
	if s == nil {
		return fmt.Errorf("endpoint %q has no RA certificates that fit its CA", r.cfg.Endpoint)
	}
	for _, p := range s.current.pairs {
		if !r.cfg.Clock().Before(p.Certificate.NotAfter) {
			return fmt.Errorf("endpoint %q: %w", r.cfg.Endpoint, expired("RA certificate", p.Certificate))
		}
	}
	return nil
}

// Named tells whether the name is that of our rows.
func (r *RA) Named(name string) bool { return name == r.name() || name == r.cfg.Endpoint }

func (r *RA) name() string { return "endpoint " + r.cfg.Endpoint }

// Look takes new files into use.
func (r *RA) Look() error {
	err := errors.Join(r.readFiles(), r.readNext())
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(err, r.choose())
}

// Tend looks at the files and the CA's chain, renews what is due and forgets
// what has served its time.
func (r *RA) Tend(ctx context.Context) error {
	r.work.Lock()
	defer r.work.Unlock()
	err := errors.Join(r.readFiles(), r.readNext(), r.readChain(ctx))
	r.mu.Lock()
	err = errors.Join(err, r.choose())
	why := r.reason(r.cfg.Clock())
	due := r.renews() && r.try.due(why, r.cfg.Clock())
	if why == "" {
		r.try.succeeded()
	}
	failed := r.try.err(r.name())
	r.mu.Unlock()
	if due {
		failed = r.renew(ctx, why)
	}
	return errors.Join(err, failed, r.prune())
}

// Renew renews now.
func (r *RA) Renew(ctx context.Context) error {
	if !r.renews() {
		return fmt.Errorf("%s: its RA certificates are renewed by a person: ra.renew is off, there are no templates, or the keys are in a device where the service makes none", r.name())
	}
	r.work.Lock()
	defer r.work.Unlock()
	if _, err := r.cfg.Chain.Refresh(ctx); err != nil {
		return fmt.Errorf("asking the CA for its chain: %w", err)
	}
	if err := r.readChain(ctx); err != nil {
		return err
	}
	return r.renew(ctx, asked)
}

// readFiles reads the operator's files. What cannot be read, or is not a pair,
// leaves what was read before.
func (r *RA) readFiles() error {
	files := []Files{r.cfg.Signing, r.cfg.Encryption}[:len(r.lineage.roles)]
	r.mu.Lock()
	defer r.mu.Unlock()
	digest, err := digestFiles(files)
	if err == nil && digest == r.digest && r.trouble["files"] == "" {
		return nil
	}
	g := generation{source: r.cfg.Signing.Certificate}
	for i, f := range files {
		p, failed := r.lineage.pair(r.lineage.roles[i], f)
		g.pairs, err = append(g.pairs, p), errors.Join(err, failed)
	}
	if err != nil {
		r.trouble["files"] = err.Error()
		return fmt.Errorf("%s: %w", r.name(), err)
	}
	delete(r.trouble, "files")
	r.digest = digest
	if !g.same(r.files) {
		if len(r.files.pairs) > 0 {
			r.replaced = append(r.replaced, r.files)
		}
		r.files = g
	}
	return nil
}

// digestFiles is of certificates and keys as they are.
func digestFiles(files []Files) ([32]byte, error) {
	h := sha256.New()
	for _, f := range files {
		for _, path := range []string{f.Certificate, f.Key} {
			b, err := octets(path)
			if err != nil {
				return [32]byte{}, fmt.Errorf("reading a pair: %w", err)
			}
			sum := sha256.Sum256(b)
			clear(b)
			h.Write(sum[:])
		}
	}
	return [32]byte(h.Sum(nil)), nil
}

// octets are those of a file, or what names a key of a device.
func octets(ref string) ([]byte, error) {
	if keys.IsURI(ref) {
		return []byte(ref), nil
	}
	return os.ReadFile(ref)
}

// readNext reads what GetNextCACert serves.
func (r *RA) readNext() error {
	if r.cfg.NextCA == "" {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.trouble, "next")
	raw, err := os.ReadFile(r.cfg.NextCA)
	if errors.Is(err, os.ErrNotExist) {
		r.next, r.nextRaw = nil, nil
		return nil
	}
	if err == nil && r.nextRaw != nil && bytes.Equal(raw, r.nextRaw) {
		return nil
	}
	chain, err := embedded.LoadChain(r.cfg.NextCA)
	if err != nil {
		r.trouble["next"] = err.Error()
		return fmt.Errorf("%s: next CA: %w", r.name(), err)
	}
	r.next, r.nextRaw = &scep.NextCA{Chain: chain}, raw
	return nil
}

// readChain asks the CA, at most once a day.
func (r *RA) readChain(ctx context.Context) error {
	chain, err := r.cfg.Chain.Get(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(chain) > 0 {
		r.chain = chain
	}
	delete(r.trouble, "chain")
	if err != nil {
		r.trouble["chain"] = err.Error()
		return fmt.Errorf("%s: asking the CA for its chain: %w", r.name(), err)
	}
	return nil
}

// load reads the generations.
func (r *RA) load() {
	list, _, err := r.lineage.load()
	r.made = list
	delete(r.trouble, "generations")
	if err != nil {
		r.trouble["generations"] = err.Error()
		r.cfg.Log.Warn("RA certificates in the state folder cannot be used", zap.Error(err))
	}
}

// reason is why the present pairs should be replaced; "": they should not.
func (r *RA) reason(now time.Time) string {
	s := r.live.Load()
	switch {
	case s == nil:
		return "there are none that fit the CA"
	case len(r.chain) > 0 && r.older(s.current):
		return "the CA's certificate has changed"
	case r.try.asked:
		return asked
	case now.Before(s.current.renewAt()) || now.Before(s.current.notAfter()) && pointless(s.current, r.chain):
		return ""
	}
	return "two thirds of their life are over"
}

// recall goes on with a renewal that somebody asked for.
func (r *RA) recall() {
	r.try.recall(r.lineage, func() string { return r.reason(r.cfg.Clock()) })
}

// older tells whether pairs were issued under another CA certificate than the
// present one: Windows does not enrol against such a pair, even where the CA
// kept its key.
func (r *RA) older(g generation) bool {
	if len(g.chain) > 0 && !sameCA(g.chain, r.chain) {
		return true
	}
	// A day is more than what a CA dates certificates back.
	return g.number == 0 && g.notBefore().Before(r.chain[0].NotBefore.Add(-day)) || !r.present(g)
}

// renew makes the next generation and takes it into use.
func (r *RA) renew(ctx context.Context, why string) error {
	now := r.cfg.Clock()
	r.mu.Lock()
	chain := r.chain
	var present generation
	if s := r.live.Load(); s != nil {
		present = s.current
	} else {
		present = r.files
	}
	r.mu.Unlock()
	g, err := r.lineage.next(ctx, r.order(present, chain), func(g generation) error {
		if _, err := scep.NewRA(r.bare(g, chain)); err != nil {
			return err
		}
		return gain(why, present, g)
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.try.failedWith(why, err, now, present.notAfter())
		return r.try.err(r.name())
	}
	r.try.succeeded()
	r.load()
	if err := r.choose(); err != nil {
		return err
	}
	r.cfg.Log.Info("RA certificates renewed", zap.String("reason", why), zap.String("source", g.source), zap.Time("not_after", g.notAfter()))
	return nil
}

// problem is what is wrong at present, the most pressing first.
func (r *RA) problem() string {
	return cmp.Or(r.try.problem, r.trouble["files"], r.trouble["passed over"], r.trouble["generations"], r.trouble["chain"])
}
