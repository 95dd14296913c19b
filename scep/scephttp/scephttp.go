// Package scephttp serves SCEP over HTTP (RFC 8894, section 4) the way devices
// ask for it: GetCACaps, GetCACert, GetNextCACert and PKIOperation by GET and
// POST. It knows limits and leniency, no policy: what becomes of a request an
// Enroller decides.
//
// The order is fixed, so that a stranger's bytes cost little: size, source,
// base64, the outer layer as it can be read without a key, then a slot for
// cryptography, then the outer signature, then the private key.
//
// A Handler must see requests as they came. Do not put it under a
// http.ServeMux pattern: a mux answers unclean paths with a redirect, which
// devices do not follow; ask Handler.Serves instead.
package scephttp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/admission"
	"github.com/certconnector/certconnector/scep"
)

// Enroller decides what becomes of a request. An error means that nothing was
// decided and the device should ask again: it becomes HTTP 503 with
// Retry-After and no CertRep is sent. A refusal is a Result.
//
// The context carries the device's address (see Source) and when its challenge
// ends at the latest (admission.Deadline), and ends when the device hangs up;
// what must not be left half done has to outlive it. Enroll is called
// concurrently and may take as long as it likes.
type Enroller interface {
	Enroll(ctx context.Context, req *scep.Request) (*scep.Result, error)
}

// RetryAfterer may be implemented by an error of Enroll: when the device
// should come again, in place of Endpoint.RetryAfter.
type RetryAfterer interface {
	RetryAfter() time.Duration
}

// BareGET is the answer to a GET without operation: what a person or a
// monitoring script sees who opens the URL.
type BareGET int

const (
	// Page answers 200 and a page that says what the URL is for, as NDES does.
	Page BareGET = iota
	// Forbidden answers 403, as NDES does with Intune's policy module: it is
	// the documented sign of health there.
	Forbidden
)

// Endpoint is one SCEP service at one path.
type Endpoint struct {
	// Name is what logs and metrics call it.
	Name string

	// Path is served in any letter case, with everything below it: Windows
	// appends /pkiclient.exe. A path that ends in /mscep.dll, such as
	// /certsrv/mscep/mscep.dll, claims its whole folder, as NDES does.
	Path string

	Enroller Enroller

	// RA returns the keys and certificates to use now. nil means not ready:
	// every operation is answered with 503.
	RA func() *scep.RA

	// Capabilities returns the body of GetCACaps; nil: what Algorithms and the
	// RA can do.
	Capabilities func() string

	// Ready says why the endpoint cannot enrol at present, beginning with the
	// name of what failed; nil means it can. It only changes the answer to a
	// bare GET, to 503, as RA certificates that have expired do. It may be nil.
	Ready func() error

	// Clock tells whether RA certificates are within their time; nil: time.Now.
	Clock func() time.Time

	// Algorithms are what is accepted, whatever GetCACaps says.
	Algorithms scep.Algorithms

	BareGET BareGET

	// AdminPath is where a person gets a challenge for this endpoint, such as
	// /certsrv/mscep_admin; "" where there is no such page. The page of a bare
	// GET names it.
	AdminPath string

	// NDESCompatible answers an undecodable GET as NDES does, with 200 and a
	// page: Microsoft's script that tests long URLs counts nothing else as
	// success.
	NDESCompatible bool

	// RetryAfter is sent with 503; 0 means a minute. Who is sent away because
	// too many wait hears a time that fits their number instead.
	RetryAfter time.Duration

	// Concurrent is how many requests of this endpoint may do cryptography at
	// the same time, within Limits.Concurrency; the others of this endpoint
	// wait, those of other endpoints pass by. 0: no limit of its own.
	Concurrent int

	// Held is how many PKIOperations of this endpoint may be under way at the
	// same time, within Limits.Held; then 503. 0: no limit of its own.
	Held int
}

// Observer counts. Observe is called once for each exchange, when it is over,
// and must be quick and safe for concurrent use.
type Observer interface {
	Observe(Event)
}

// Event is one exchange as metrics see it: every field but Duration has few
// values, none of them chosen by a device.
type Event struct {
	Endpoint    string           // name, "" when no endpoint has the path
	Operation   string           // as RFC 8894 spells it, "" for a bare GET, "unknown"
	HTTPStatus  int              // 499 when the device hung up before the answer
	MessageType scep.MessageType // of a PKIOperation that was read
	Replied     bool             // a CertRep was sent: Status is set
	Status      scep.Status
	FailInfo    scep.FailInfo
	Limited     string // which limit refused: "source", "busy", "held", "large"; "" for none
	Duration    time.Duration
}

// Handler serves endpoints. It is safe for concurrent use.
type Handler struct {
	endpoints map[string]*Endpoint // by claimed path: lower case, no trailing slash
	limits    Limits
	log       *zap.Logger
	observer  Observer

	gate         *admission.Gate // cryptography at work, and who waits for it
	transactions *transactions
	held         chan struct{} // PKIOperations between the first octet and the last
	sources      admission.Counts[netip.Prefix]
	underWay     admission.Counts[string] // by endpoint
	large        chan struct{}            // the ones with a large body
	failures     *failures
	quiet        quiet
}

// New returns a handler for the endpoints, or an error that names everything
// that is wrong with them. Observer may be nil.
func New(endpoints []Endpoint, limits Limits, log *zap.Logger, observer Observer) (*Handler, error) {
	h := &Handler{endpoints: map[string]*Endpoint{}, limits: limits.withDefaults(), log: log, observer: observer}
	var wrong []error
	names := map[string]bool{}
	for _, e := range endpoints {
		if err := e.check(); err != nil {
			wrong = append(wrong, err)
			continue
		}
		if names[e.Name] {
			wrong = append(wrong, fmt.Errorf("endpoint %q: another one has the same name", e.Name))
		}
		names[e.Name] = true
		path := claim(e.Path)
		if other, taken := h.endpoints[path]; taken {
			wrong = append(wrong, fmt.Errorf("endpoint %q: path %q is served by endpoint %q; give each a path of its own", e.Name, e.Path, other.Name))
			continue
		}
		if e.RetryAfter <= 0 {
			e.RetryAfter = time.Minute
		}
		if e.Clock == nil {
			e.Clock = time.Now
		}
		h.endpoints[path] = &e
	}
	if len(wrong) > 0 {
		return nil, errors.Join(wrong...)
	}
	h.gate = admission.New(admission.Config{Slots: h.limits.Concurrency, Queue: h.limits.Queue, Patience: h.limits.QueueTime})
	h.transactions = newTransactions(h.limits.ChallengeLife, h.limits.Transactions)
	h.held = make(chan struct{}, h.limits.Held)
	h.large = make(chan struct{}, h.limits.Large)
	h.failures = newFailures(h.limits)
	return h, nil
}

func (e *Endpoint) check() error {
	var wrong []error
	if e.Name == "" {
		wrong = append(wrong, fmt.Errorf("endpoint at %q: has no name", e.Path))
	}
	if !strings.HasPrefix(e.Path, "/") || strings.ContainsAny(e.Path, "?#%\\") || !clean(e.Path) {
		wrong = append(wrong, fmt.Errorf("endpoint %q: path %q is not an absolute URL path without escapes", e.Name, e.Path))
	}
	if e.Enroller == nil || e.RA == nil {
		wrong = append(wrong, fmt.Errorf("endpoint %q: needs an enroller and RA keys", e.Name))
	}
	return errors.Join(wrong...)
}

type sourceKey struct{}

// WithSource returns a context that says where a request came from.
func WithSource(ctx context.Context, source netip.Addr) context.Context {
	return context.WithValue(ctx, sourceKey{}, source)
}

// Source is the address of the device that an exchange is held with, as
// Limits.Source tells it; the zero Addr outside of an exchange.
func Source(ctx context.Context) netip.Addr {
	source, _ := ctx.Value(sourceKey{}).(netip.Addr)
	return source
}

// Serves tells whether an endpoint has the path.
func (h *Handler) Serves(path string) bool { return h.find(path) != nil }

// ServeHTTP answers one request. Whatever goes wrong inside costs this
// exchange only.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{Handler: h, w: w, r: r, endpoint: h.find(r.URL.Path), start: time.Now(), log: h.log}
	defer x.finish()
	x.serve()
}
