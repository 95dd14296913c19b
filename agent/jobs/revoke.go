package jobs

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/eventid"
	"github.com/certconnector/certconnector/internal/failpoint"
	"github.com/certconnector/certconnector/intune"
)

// RevokerConfig is what NewRevoker needs.
type RevokerConfig struct {
	Entries interface {
		Issued(ctx context.Context, ca, serial string) (journal.Entry, error)
	}
	Imported interface {
		Imported(ctx context.Context, ca, serial string) ([]string, error)
	}
	CAs     []RevocationCA
	Tenants map[string]RevocationTenant // by the name of their source
	// RestoredAt is when the journal was brought back from a backup; zero:
	// never. For RestoredDoubt after it (0: two years) a certificate that the
	// journal does not know may be one that it has forgotten.
	RestoredAt    time.Time
	RestoredDoubt time.Duration

	Clock func() time.Time // nil: time.Now
	Log   *zap.Logger
	Audit *zap.Logger
	// Calls bounds calls to CAs at once, CallsPerCA those to one; 0: 2 and 1.
	Calls, CallsPerCA int
}

// RevocationCA is a CA of this connector.
type RevocationCA struct {
	Name      string // as in journal entries
	Authority ca.Authority
	// Certificates returns the chain, former certificates too: what others may
	// mean by it. nil: Authority.Chain.
	Certificates func(context.Context) ([]*x509.Certificate, error)
}

// RevocationTenant is what may be revoked on a tenant's word.
type RevocationTenant struct {
	Name        string        // as in journal entries
	Reason      ca.Reason     // of the revocations, as the cloud gives none
	AnySerial   bool          // unsafe: also what this connector never issued for it
	Operator    bool          // a person at this machine asks, who may revoke anything
	OwnsTenant  bool          // no other connector serves it: unknown CAs are "not found"
	GiveUpAfter time.Duration // 0: 72 h
}

// Revoker is the handler of revocations. A connector is an officer of its CA
// and must not be a deputy for everybody: what a tenant names is revoked only
// if it was issued for that tenant.
type Revoker struct {
	RevokerConfig
	gate  *gate
	names *nameBook

	mu        sync.Mutex
	forbidden map[string]string // CAs that do not let us revoke, and why
}

const (
	forbiddenDelay = time.Hour
	defaultGiveUp  = 72 * time.Hour
	leastAttempts  = 5
)

// NewRevoker returns a handler. It warns of each tenant that may revoke any
// serial number.
func NewRevoker(cfg RevokerConfig) *Revoker {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	cfg.RestoredDoubt = cmp.Or(cfg.RestoredDoubt, 2*365*24*time.Hour)
	for _, t := range cfg.Tenants {
		if t.AnySerial {
			cfg.Log.Warn("UNSAFE: any_serial is on: this tenant can have every certificate of the CA revoked", zap.String("tenant", t.Name))
		}
	}
	return &Revoker{
		RevokerConfig: cfg, forbidden: map[string]string{}, names: newNameBook(cfg.Clock),
		gate: newGate(cfg.Clock, cmp.Or(cfg.Calls, 2), cmp.Or(cfg.CallsPerCA, 1)),
	}
}

// order is a job on its way through Do.
type order struct {
	job    journal.Job
	tenant RevocationTenant
	asked  Revocation
	ca     RevocationCA
	serial string
}

// asker is who asks: a tenant, or a queue whose certificate was not delivered.
// That one may have left the configuration meanwhile.
func (r *Revoker) asker(source string) (RevocationTenant, bool) {
	if queue, ok := strings.CutPrefix(source, undelivered); ok {
		return RevocationTenant{Name: QueueName(queue), Reason: ca.CessationOfOperation}, true
	}
	t, ok := r.Tenants[source]
	return t, ok
}

// Do carries out one request: whose CA, which certificate, may this tenant,
// revoke. It keeps no work: each step can be repeated.
func (r *Revoker) Do(ctx context.Context, job journal.Job) Ending {
	o := &order{job: job}
	// 1. Who asks for what?
	tenant, ok := r.asker(job.Source)
	if !ok {
		return TryLater(fmt.Errorf("no tenant is configured for source %q; put it back so that its revocations can be carried out", job.Source), forbiddenDelay)
	}
	o.tenant = tenant
	if err := json.Unmarshal(job.Content, &o.asked); err != nil {
		return r.refuse(o, intune.RevocationDataSerializationError, "the request cannot be read")
	}
	// 2. Whose CA?
	cas, named, err := r.meant(ctx, o.asked)
	if err != nil {
		return TryLater(err, 0)
	}
	if len(cas) == 0 {
		return r.foreign(o)
	}
	// 3. Which certificate, and was it issued for this tenant?
	forms, err := serialForms(o.asked.Serial)
	if err != nil {
		if !named {
			return r.foreign(o)
		}
		return r.refuse(o, intune.RevocationParameterDataInvalidError, err.Error())
	}
	found, others, err := r.find(ctx, o, cas, forms)
	switch {
	case err != nil:
		return TryLater(err, 0)
	case others && !tenant.Operator:
		return r.othersCertificate(o)
	case found || others:
	case tenant.Operator && len(cas) == 1:
		o.ca, o.serial = cas[0], forms[0]
	case tenant.AnySerial && len(cas) == 1:
		o.ca, o.serial = cas[0], forms[0]
		r.audit(o, r.Audit.Warn, "any_serial: revoking a certificate that this connector did not issue for the tenant")
	case !named:
		return r.foreign(o)
	default:
		return r.unknown(o)
	}
	// 4. Revoke.
	return r.revoke(ctx, o)
}

// meant returns the CAs that a request may mean. named says that it names
// them; without a name it may mean each.
func (r *Revoker) meant(ctx context.Context, asked Revocation) (cas []RevocationCA, named bool, err error) {
	text := asked.Issuer
	if fold(text) == "" {
		text = asked.CAConfiguration
	}
	if fold(text) == "" {
		return r.CAs, false, nil
	}
	// The name that the cloud was told with our certificates: no CA need be up for that.
	for _, c := range r.CAs {
		if fold(c.Name) == fold(text) {
			return []RevocationCA{c}, true, nil
		}
	}
	var unread error
	for _, c := range r.CAs {
		names, err := r.names.of(ctx, c)
		if err != nil {
			unread = err
		}
		if names.match(text) {
			cas = append(cas, c)
		}
	}
	if len(cas) == 0 && unread != nil {
		return nil, false, unread // it might be that one
	}
	return cas, true, nil
}

// find looks for the certificate in the journal. others says that it is there,
// but was not issued for this tenant.
func (r *Revoker) find(ctx context.Context, o *order, cas []RevocationCA, forms []string) (found, others bool, err error) {
	for _, c := range cas {
		for _, serial := range forms {
			e, err := r.Entries.Issued(ctx, c.Name, serial)
			if err != nil && !errors.Is(err, journal.ErrNotFound) {
				return false, false, fmt.Errorf("looking the certificate up: %w", err)
			}
			if err == nil && e.Tenant == o.tenant.Name {
				o.ca, o.serial = c, serial
				return true, false, nil
			}
			tenants, importErr := r.Imported.Imported(ctx, c.Name, serial)
			if importErr != nil {
				return false, false, fmt.Errorf("looking the certificate up: %w", importErr)
			}
			if err != nil && slices.Contains(tenants, o.tenant.Name) {
				o.ca, o.serial = c, serial
				return true, false, nil
			}
			if err == nil || len(tenants) > 0 {
				o.ca, o.serial, others = c, serial, true
			}
		}
	}
	return false, others, nil
}

// revoke asks the CA and translates what it says.
func (r *Revoker) revoke(ctx context.Context, o *order) Ending {
	revoker, ok := ca.Ability[ca.Revoker](o.ca.Authority)
	if !ok {
		return r.refuse(o, intune.RevocationNotSupportedError, "the connection to this CA cannot revoke: revoke the certificate there by hand")
	}
	serial, ok := new(big.Int).SetString(o.serial, 16)
	if !ok {
		return r.refuse(o, intune.RevocationParameterDataInvalidError, errSerial.Error())
	}
	leave, err := r.gate.enter(ctx, o.ca.Name)
	if closed, ok := errors.AsType[*closedError](err); ok {
		return r.later(o, intune.RevocationServiceUnavailableError, closed, closed.left)
	}
	err = errors.New("the call did not return")
	func() {
		defer func() { leave(err) }() // a panic goes on to the worker
		done, turnErr := ca.Turn(ctx, o.ca.Authority)
		if turnErr != nil {
			err = turnErr
			return
		}
		defer done()
		err = revoker.Revoke(ctx, serial, o.tenant.Reason)
	}()
	switch {
	case err == nil:
		failpoint.Hit("jobs.revoked")
		r.allowed(o.ca.Name, nil)
		r.audit(o, r.Audit.Info, "revoked", zap.Stringer("reason", o.tenant.Reason), zap.String("outcome", "revoked"), eventid.RevokeRequestSuccess.Field())
		return Done(journal.JobResult{Succeeded: true, Serial: o.serial, CA: o.ca.Name})
	case errors.Is(err, ca.ErrNotFound):
		r.allowed(o.ca.Name, nil)
		if !o.tenant.AnySerial {
			r.Log.Error("a CA does not know a certificate that it issued; look at its database", zap.String("ca", o.ca.Name), zap.String("serial", o.serial), eventid.RevokeRequestFailure.Field())
		}
		return r.refuse(o, intune.RevocationCertificateNotFoundError, "the CA does not know this serial number")
	case errors.Is(err, ca.ErrForbidden):
		r.allowed(o.ca.Name, err)
		r.audit(o, r.Audit.Error, "revocation not permitted", zap.String("outcome", "forbidden"), zap.NamedError("detail", err), eventid.RevokeRequestFailure.Field())
		r.Log.Error("a CA does not let us revoke: give this connector's account the right Issue and Manage Certificates there",
			zap.String("ca", o.ca.Name), zap.Error(err), eventid.RevokeRequestFailure.Field())
		return r.later(o, intune.RevocationAuthenticationError, err, forbiddenDelay)
	}
	return r.later(o, intune.RevocationServiceUnavailableError, fmt.Errorf("revoking at CA %q: %w", o.ca.Name, err), 0)
}

// later postpones a job, until it has been tried for so long that the cloud
// had better offer it again.
func (r *Revoker) later(o *order, code intune.RevocationCode, why error, notBefore time.Duration) Ending {
	// One that was offered again has been accepted long ago, but has its attempts before it.
	if r.Clock().Sub(o.job.AcceptedAt) < cmp.Or(o.tenant.GiveUpAfter, defaultGiveUp) || o.job.Attempts < leastAttempts {
		return TryLater(why, notBefore)
	}
	text := "the CA cannot be reached; please offer the request again"
	if code == intune.RevocationAuthenticationError {
		text = "the CA does not let the connector revoke; please offer the request again"
	}
	return r.refuse(o, code, text)
}

// allowed remembers, for Problems, whether a CA lets us revoke.
func (r *Revoker) allowed(name string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.forbidden, name)
	if err != nil {
		r.forbidden[name] = err.Error()
	}
}

// Problems names CAs that do not let us revoke.
func (r *Revoker) Problems() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []string
	for name, why := range r.forbidden {
		list = append(list, fmt.Sprintf("CA %s does not let us revoke (the right Issue and Manage Certificates is needed): %s", name, why))
	}
	return list
}
