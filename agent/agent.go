// Package agent is the service as a value: New builds its parts from a
// configuration, Run starts them in order and stops them in reverse; a Service
// replaces them when the configuration changes. It alone knows concrete CA
// bridges, policy modules and journals.
package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/enroll"
	"github.com/certconnector/certconnector/agent/identity"
	"github.com/certconnector/certconnector/agent/jobs"
	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/agent/outbox"
	"github.com/certconnector/certconnector/agent/reconcile"
	"github.com/certconnector/certconnector/agent/status"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/crp"
	"github.com/certconnector/certconnector/crp/crphttp"
	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/internal/retry"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/webauth"
	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/scep/scephttp"
)

// Options are what does not come from the configuration file.
type Options struct {
	Logger  *zap.Logger      // nil: nothing is logged
	Clock   func() time.Time // nil: time.Now
	Version string           // told to the cloud and by status; "": "unknown"
	Ready   func()           // called once every listener is open; may be nil

	// Store is a journal of the caller's, as one that several agents of one
	// process share. It is closed at the end. nil: the configured one.
	Store Store
	// Wait returns after a time, or when ctx ends with its error. It is what the
	// care for our own certificates waits with; nil: by the machine's clock.
	Wait func(ctx context.Context, d time.Duration) error

	// from is the Agent of the configuration before, with which the one that is
	// built shares the Store and what a new start would forget; nil: there is none.
	from *Agent
}

// Agent is the service under one configuration. Run it once.
type Agent struct {
	cfg     Config
	options Options
	log     *zap.Logger
	audit   *zap.Logger
	down    teardown
	base    teardown // what the Agents of a Service share: the journal, keys
	began   time.Time
	record  *record // of reloads

	journal      Store
	cas          map[string]authority
	chains       map[string]*identity.Chain
	keeper       *identity.Keeper // of our own certificates
	sealer       *secret.Sealer
	keys         *keys.Keys
	tenants      map[string]*intune.Client
	principals   map[string]policymodule.Principal
	challengers  map[string]policymodule.Challenger // by endpoint
	registration *enroll.Registration
	outbox       *outbox.Outbox
	jobs         *jobs.Jobs // nil: nobody is asked for work
	reconciler   *reconcile.Reconciler
	handler      *scephttp.Handler
	// registrationPoint is what other front ends ask; nil: there are none.
	registrationPoint *crphttp.Handler
	// distribution and responder are what relying parties ask; nil: not shown.
	distribution *embedded.Distribution
	responder    *embedded.Responder
	status       *status.Status
	modules      map[string]policymodule.Module // by endpoint
	points       map[string]*crp.Point          // by tenant
	ras          map[string]*identity.RA        // by endpoint
	passwords    map[string]*webauth.Passwords  // by the listener's address
	meter        *meter
	bridges      map[string]ca.Authority // the CAs, with their calls counted
	owed         counted[[]journal.DebtStat]
	sources      counted[[]journal.Source]
	more         []task // what runs beside listeners and workers, by configuration
}

// quietFor is how long no device has come when the outbox may hurry.
const quietFor = time.Minute

// New opens everything that needs no network: keys, journal, CAs, policy
// modules. The configuration must be valid. What it opened is closed again
// when it fails.
func New(cfg Config, o Options) (*Agent, error) {
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Wait == nil {
		o.Wait = retry.Wait
	}
	if o.Version == "" {
		o.Version = "unknown"
	}
	return build(context.Background(), cfg, o)
}

func build(ctx context.Context, cfg Config, o Options) (*Agent, error) {
	a := &Agent{
		cfg: cfg, options: o, log: o.Logger, audit: o.Logger.Named("audit"), began: o.Clock(),
		cas: make(map[string]authority), chains: make(map[string]*identity.Chain), tenants: make(map[string]*intune.Client),
		challengers: make(map[string]policymodule.Challenger), ras: make(map[string]*identity.RA), passwords: make(map[string]*webauth.Passwords),
		down: teardown{log: o.Logger}, base: teardown{log: o.Logger}, record: &record{applied: o.Clock()},
	}
	if o.from != nil {
		a.began, a.record = o.from.began, o.from.record
	}
	a.meter = newMeter(cfg, o)
	if err := a.build(ctx); err != nil {
		return nil, errors.Join(err, a.down.run(cfg.ShutdownGrace), a.base.run(cfg.ShutdownGrace))
	}
	return a, nil
}

// build makes the parts, each from those before it. It is one straight
// function on purpose: the order is the design.
func (a *Agent) build(ctx context.Context) error {
	if err := a.openJournal(); err != nil {
		return err
	}
	sealer := a.sealer
	a.openKeys()
	a.keeper = identity.NewKeeper(identity.Config{Clock: a.options.Clock, Wait: a.options.Wait, Log: a.log.Named("identity")})

	if at := a.journal.RestoredAt(); !at.IsZero() && a.options.from == nil {
		a.log.Warn("the journal was restored from a backup; challenges that were made before are refused", zap.Time("restored_at", at))
	}
	var err error
	bridges := make(map[string]ca.Authority)
	a.bridges = bridges
	for _, c := range inOrder(a.cfg.CAs) {
		if a.cas[c.Name], err = a.buildCA(c, sealer); err != nil {
			return err
		}
		bridges[c.Name] = a.meter.measured(c.Name, a.cas[c.Name].Authority)
	}
	if err := a.buildRevocationStatus(sealer); err != nil {
		return err
	}
	if err := a.noteCAs(); err != nil {
		return err
	}
	points := make(map[string]*crp.Point)
	a.points = points
	for _, t := range a.cfg.Tenants {
		if points[t.Name], err = a.buildTenant(t, sealer, a.options.Clock); err != nil {
			return err
		}
	}
	if a.principals, err = a.cfg.principals(); err != nil {
		return err
	}
	modules := make(map[string]policymodule.Module)
	for _, e := range a.cfg.Endpoints {
		if modules[e.Name], err = a.buildModule(e, points, sealer); err != nil {
			return err
		}
	}
	if err := a.eachReporter(func(f FrontEnd, tenant string) error {
		modules[enroll.ReportedName(f.Name, tenant)] = points[tenant]
		return nil
	}); err != nil {
		return err
	}

	a.modules = modules
	a.outbox = outbox.New(outbox.Config{
		Journal: a.journal, Sealer: sealer, Clock: a.options.Clock, Log: a.log.Named("outbox"), Audit: a.audit,
		Modules: modules, CAs: bridges, Changed: func(e journal.Entry) { a.registration.Published(e) }, Observe: a.meter.delivered,
		Idle: func() bool { return a.handler.Queue().Quiet > quietFor },
	})
	a.registration = enroll.New(enroll.Config{
		Journal: a.journal, Teller: a.outbox, Sealer: sealer, Clock: a.options.Clock, Log: a.log.Named("enroll"), Audit: a.audit,
		RestoredAt: a.journal.RestoredAt(), Quarantine: a.cfg.Journal.RestoreQuarantine, Observer: a.meter,
	})
	if err := a.eachReporter(func(f FrontEnd, tenant string) error {
		return a.registration.AddFrontEnd(f.Name, tenant, f.CA, points[tenant])
	}); err != nil {
		return err
	}
	if err := a.buildRegistrationPoint(points); err != nil {
		return err
	}
	var endpoints []scephttp.Endpoint
	for _, e := range a.cfg.Endpoints {
		built, err := a.buildEndpoint(ctx, e, modules[e.Name], a.cas[e.CA])
		if err != nil {
			return err
		}
		endpoints = append(endpoints, built)
	}
	if a.handler, err = scephttp.New(endpoints, a.scepLimits(), a.log.Named("scep"), a.meter); err != nil {
		return err
	}
	if err := a.buildJobs(); err != nil {
		return err
	}
	if err := a.buildReconciler(bridges); err != nil {
		return err
	}
	a.buildStatus()
	a.inherit()
	return nil
}

// openJournal loads the local key and opens what all Agents of a Service share.
func (a *Agent) openJournal() (err error) {
	if from := a.options.from; from != nil {
		a.journal, a.sealer = from.journal, from.sealer
		return nil
	}
	if a.sealer, err = secret.LoadSealer(a.cfg.Secrets.LocalKey); err != nil {
		return fmt.Errorf("%w (\"certconnector init\" makes it)", err)
	}
	if a.journal = a.options.Store; a.journal == nil {
		if a.journal, err = a.openStore(); err != nil {
			return err
		}
	}
	a.base.push("journal", func(context.Context) error { return a.journal.Close() })
	return nil
}

func (a *Agent) scepLimits() scephttp.Limits {
	l := a.cfg.Limits
	return scephttp.Limits{
		MaxURL: l.HeaderBytes, MaxBody: l.BodyBytes, Concurrency: l.Concurrent, Queue: l.Queue, QueueTime: l.Wait, ChallengeLife: l.ChallengeLife, Held: l.Held,
		PerSource: l.PerSource, FailuresPerMinute: l.FailuresPerMinute,
	}
}

// Run serves until ctx ends, and then stops in reverse order: accept nothing
// more, finish what is in flight, stop the workers, close the journal. It may
// be called once, and always ends with everything closed. A Service runs one
// Agent after the other.
func (a *Agent) Run(ctx context.Context) error { return newService(a).Run(ctx) }

// left is what a stop that began at a time has left of its grace for the parts
// behind the listeners: a third of it at the least.
func (a *Agent) left(asked int64) time.Duration {
	grace := a.cfg.ShutdownGrace
	if asked == 0 {
		return grace // nobody asked: a part has failed
	}
	return max(grace/3, grace-time.Since(time.Unix(0, asked)))
}

// workers are what goes on when the listeners are closed.
func (a *Agent) workers() []task {
	list := []task{{"outbox", a.outbox.Run}, {"settle worker", a.registration.Settle}}
	if a.jobs != nil {
		list = append(list, task{"jobs", a.jobs.Run})
	}
	return list
}
