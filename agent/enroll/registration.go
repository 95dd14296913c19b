// Package enroll is the registration authority: it takes one SCEP request
// from the question "may it have a certificate?" to the certificate that
// everyone owed has been told of, and records every step before taking it.
// Read Endpoint.Enroll first; everything else is below it.
package enroll

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/retry"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/policymodule"
)

// Journal is what the registration authority needs of the durable record.
type Journal interface {
	journal.Entries
	journal.Work
}

// Teller tells the policy module of an issued certificate at once, and keeps
// on trying afterwards by itself when that fails.
type Teller interface {
	// Tell makes one attempt and returns the entry as it is then.
	Tell(ctx context.Context, entry int64) (journal.Entry, error)
	// Wake says that something new is owed.
	Wake()
}

// Config is what New needs.
type Config struct {
	Journal Journal
	Teller  Teller
	Sealer  *secret.Sealer
	Clock   func() time.Time // nil: time.Now
	Log     *zap.Logger
	Audit   *zap.Logger // one line a decision, append-only

	// Observer hears how long neighbours take; nil: nobody counts.
	Observer Observer

	// SubmitWithin bounds one call to a CA; 0: 60 s.
	SubmitWithin time.Duration
	// AskWithin bounds the policy question; 0: 45 s.
	AskWithin time.Duration
	// Retries are the delays between tries at a CA that is down.
	Retries retry.Schedule

	// RestoredAt is when the journal was brought back from a backup; zero:
	// never. It cannot know which challenges were spent between the backup and
	// then, so those made before are refused; and for Quarantine (0: 1 h, the
	// life of a challenge) after it those of which nobody knows when they were
	// made.
	RestoredAt time.Time
	Quarantine time.Duration
}

// Registration is the registration authority behind all endpoints.
type Registration struct {
	cfg       Config
	log       *zap.Logger
	audit     *zap.Logger
	now       func() time.Time
	endpoints map[string]*Endpoint
	hub       *hub
	admitting *singleflight.Group // identical requests in flight are joined
	recent    *recent

	working  sync.WaitGroup // entries being driven; drained by Close
	closing  sync.Mutex     // held while stop is called, and by who takes up entries
	life     context.Context
	stop     context.CancelFunc // ends waiting exchanges and the settle worker
	abort    context.CancelFunc // ends work that did not drain in time
	workLife context.Context
}

const (
	defaultSubmitWithin = 60 * time.Second
	defaultAskWithin    = 45 * time.Second
	defaultParkedFor    = 7 * 24 * time.Hour
	defaultQuarantine   = time.Hour
)

// New returns a registration authority without endpoints.
func New(cfg Config) *Registration {
	setDefault(&cfg.SubmitWithin, defaultSubmitWithin)
	setDefault(&cfg.AskWithin, defaultAskWithin)
	setDefault(&cfg.Quarantine, defaultQuarantine)
	if cfg.Retries == (retry.Schedule{}) {
		cfg.Retries = retry.Schedule{First: 2 * time.Second, Most: time.Minute}
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	r := &Registration{
		cfg: cfg, log: cfg.Log, audit: cfg.Audit, now: cfg.Clock,
		endpoints: make(map[string]*Endpoint), hub: newHub(), admitting: &singleflight.Group{}, recent: &recent{},
	}
	r.life, r.stop = context.WithCancel(context.Background())
	r.workLife, r.abort = context.WithCancel(context.Background())
	return r
}

func setDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Endpoint is one SCEP endpoint: who vouches, which CA issues, and how long a
// device is kept waiting. It implements scephttp.Enroller.
type Endpoint struct {
	EndpointConfig
	r *Registration
}

// EndpointConfig describes an endpoint.
type EndpointConfig struct {
	Name      string
	Tenant    string // "" where no tenant vouches
	Module    policymodule.Module
	CA        ca.Authority
	CAName    string // the CA's short, stable name, as the cloud is told
	Templates Templates
	Rules     Rules

	// ModuleKind is what audit lines call the module, such as "intune",
	// "static" or "onetime"; "" leaves it out.
	ModuleKind string

	// AnswerWithin is how long an exchange is held for its outcome before the
	// device is told PENDING; 0: 25 s, since Apple devices ask about four
	// times within 20 s of patience of their own.
	AnswerWithin time.Duration
	// WithholdFor is how long a certificate may wait for the cloud before it
	// is abandoned and revoked; 0: 50 min, less than a challenge lives.
	WithholdFor time.Duration
	// ParkedFor is how long a request may wait for a person; 0: 7 days.
	ParkedFor time.Duration
	// ReplayWindow is how long an identical request gets the same answer; 0: 24 h.
	ReplayWindow time.Duration
	// Jobs says that no device asks here: calls to the CA go after those of
	// devices, also when the settle worker takes them up again.
	Jobs bool
	// SameStore says that the CA's register is in the journal's database: then
	// an intent need not be on disk before the CA signs, because the signature
	// is worth nothing until the register is.
	SameStore bool
}

const (
	defaultAnswerWithin = 25 * time.Second
	defaultWithholdFor  = 50 * time.Minute
	defaultReplayWindow = 24 * time.Hour
)

// Add adds an endpoint; all are added before the first request.
func (r *Registration) Add(cfg EndpointConfig) (*Endpoint, error) {
	if _, ok := r.endpoints[cfg.Name]; ok {
		return nil, fmt.Errorf("endpoint %q exists already", cfg.Name)
	}
	if cfg.Module == nil || cfg.CA == nil {
		return nil, fmt.Errorf("endpoint %q needs a policy module and a CA", cfg.Name)
	}
	setDefault(&cfg.AnswerWithin, defaultAnswerWithin)
	setDefault(&cfg.WithholdFor, defaultWithholdFor)
	setDefault(&cfg.ParkedFor, defaultParkedFor)
	setDefault(&cfg.ReplayWindow, defaultReplayWindow)
	p := &Endpoint{EndpointConfig: cfg, r: r}
	r.endpoints[cfg.Name] = p
	return p, nil
}

// Published hears of entries that others have moved, such as the outbox.
func (r *Registration) Published(e journal.Entry) { r.hub.publish(e) }

// AnswerNow answers waiting exchanges, and those still to come, with what is
// known. It is the first step of a stop, before the listeners drain.
func (r *Registration) AnswerNow() {
	r.closing.Lock()
	defer r.closing.Unlock()
	r.stop()
}

// begin has Close wait until end, unless nothing new is taken up any more.
func (r *Registration) begin() (end func(), ok bool) {
	r.closing.Lock()
	defer r.closing.Unlock()
	if r.life.Err() != nil {
		return nil, false
	}
	r.working.Add(1)
	return r.working.Done, true
}

// Close lets work in flight finish until ctx ends, and then cuts it off: the
// journal knows where it was. No exchange may be under way any more.
func (r *Registration) Close(ctx context.Context) error {
	r.AnswerNow()
	drained := make(chan struct{})
	go func() {
		r.working.Wait()
		close(drained)
	}()
	select {
	case <-drained:
		r.abort()
		return nil
	case <-ctx.Done():
		r.abort()
		<-drained
		return errors.New("work in flight was cut off; the journal takes it up at the next start")
	}
}
