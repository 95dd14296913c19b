// Package crphttp is the registration point as a web service over mutual TLS:
// front ends that have a CA but no credential for the cloud, as another
// certconnector or a policy module in Microsoft's NDES, ask here whether a
// request may have a certificate, and tell what became of it. A verdict holds
// for the front end that asked, the transaction and the request, never for a
// transaction alone. Paths and success statuses are those of Microsoft's
// registration point; the body is our own, so the two are not compatible.
package crphttp

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/policymodule"
)

// The paths, which are compared without regard to case.
const (
	Root       = "/CertificateRegistrationSvc"
	VerifyPath = Root + "/Certificate/VerifyRequest"
	NotifyPath = Root + "/Certificate/Notify"
)

// FrontEnd is one caller that is served.
type FrontEnd struct {
	Name    string   // as Config.Identify returns it
	Tenants []string // it may ask these; the first is asked when it names none

	// ReleasesItself says that the front end gives certificates to devices
	// whatever the answer to Notify, as Microsoft's NDES does. Its outcomes go
	// to Config.Reporter.
	ReleasesItself bool

	// Issuers returns the CA certificates of which one has signed whatever the
	// front end reports. Set it where certificates are revoked for a front end:
	// revocation goes by serial number, and a report must not revoke what
	// another made. nil: not checked.
	Issuers func(context.Context) ([]*x509.Certificate, error)

	// LegacySHA1 lets requests pass that are signed over SHA-1.
	LegacySHA1 bool

	// Check returns the refusal of a request that no party may vouch for, or
	// nil; it comes before anybody is asked. nil: every request may be asked
	// about. A front end that applies rules of its own needs none.
	Check func(csr *pkcs10.Request) *policymodule.Decision
}

// Reporter takes the outcomes of front ends that release certificates by
// themselves.
type Reporter interface {
	// Report records an outcome durably and tries to tell it. told is false
	// when it is recorded and will be told later. An error that wraps
	// policymodule.ErrNotifyRefused says that it never will be taken, and that
	// the revocation of the certificate is recorded; after any other error
	// nothing is recorded. It may be called again for one outcome.
	Report(ctx context.Context, frontEnd, tenant string, o policymodule.Outcome) (told bool, err error)
}

// Rejecter is a Reporter that can also have a certificate revoked that should
// never have been released: a second one for one verdict. It has the request's
// key, and is signed by one of FrontEnd.Issuers.
type Rejecter interface {
	// Reject records durably that the certificate of an outcome must be
	// revoked. It may be called again for one certificate.
	Reject(ctx context.Context, frontEnd, tenant string, o policymodule.Outcome) error
}

// Recaller is a module whose grants differ in nothing but the challenge, so
// that one can be repeated from its record, without asking.
type Recaller interface {
	Recall(v policymodule.Verdict) policymodule.Decision
}

// Config says who is served and who decides.
type Config struct {
	FrontEnds []FrontEnd
	Modules   map[string]policymodule.Module // by tenant
	Verdicts  policymodule.Verdicts          // durable

	// Identify returns the name of the front end that sent a request; a
	// *webauth.Refusal says which rule its credential breaks.
	Identify func(*http.Request) (frontEnd string, err error)

	Reporter Reporter // required when a front end releases by itself

	Limits Limits
	Clock  func() time.Time // nil: time.Now
	Log    *zap.Logger      // nil: nothing is logged
	Audit  *zap.Logger      // nil: none. One line a decision, append-only
}

// Handler serves the registration point. It is safe for concurrent use.
type Handler struct {
	config    Config
	frontEnds map[string]FrontEnd
	limits    Limits
	slots     chan struct{}
	failures  *failures
	asking    *singleflight.Group // identical questions in flight are joined
	telling   *locks              // outcomes of one challenge come one after the other
}

// New returns a handler, or an error that names all that is wrong.
func New(config Config) (*Handler, error) {
	if config.Clock == nil {
		config.Clock = time.Now
	}
	if config.Log == nil {
		config.Log = zap.NewNop()
	}
	if config.Audit == nil {
		config.Audit = zap.NewNop()
	}
	h := &Handler{config: config, frontEnds: map[string]FrontEnd{}, limits: config.Limits.withDefaults(), asking: &singleflight.Group{}, telling: &locks{}}
	h.slots = make(chan struct{}, h.limits.Concurrency)
	h.failures = newFailures(h.limits.FailuresPerMinute, config.Clock)
	var wrong []error
	missing := func(is bool, what string) {
		if is {
			wrong = append(wrong, errors.New("registration point service: "+what))
		}
	}
	missing(len(config.FrontEnds) == 0, "no front end is configured, so nobody may ask")
	missing(config.Verdicts == nil, "there is no place to record verdicts")
	missing(config.Identify == nil, "there is no way to tell who asks")
	for _, f := range config.FrontEnds {
		wrong = append(wrong, h.addFrontEnd(f))
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	return h, nil
}

func (h *Handler) addFrontEnd(f FrontEnd) error {
	_, twice := h.frontEnds[f.Name]
	switch {
	case f.Name == "":
		return errors.New("registration point service: a front end has no name")
	case twice:
		return fmt.Errorf("registration point service: two front ends are called %q", f.Name)
	case len(f.Tenants) == 0:
		return fmt.Errorf("registration point service: front end %q may ask no tenant; list at least one", f.Name)
	case f.ReleasesItself && h.config.Reporter == nil:
		return fmt.Errorf("registration point service: front end %q releases certificates by itself, but nobody takes its reports", f.Name)
	}
	for _, tenant := range f.Tenants {
		if h.config.Modules[tenant] == nil {
			return fmt.Errorf("registration point service: front end %q names the tenant %q, which there is not", f.Name, tenant)
		}
	}
	f.Tenants = slices.Clone(f.Tenants)
	h.frontEnds[f.Name] = f
	return nil
}

// Serves reports whether a path belongs to the registration point.
func (h *Handler) Serves(path string) bool { return below(path) }

func below(path string) bool {
	return len(path) >= len(Root) && strings.EqualFold(path[:len(Root)], Root) && (len(path) == len(Root) || path[len(Root)] == '/')
}

// ServeHTTP answers one request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{Handler: h, w: w, r: r, log: h.config.Log, start: h.config.Clock()}
	defer x.finish()
	x.serve()
}
