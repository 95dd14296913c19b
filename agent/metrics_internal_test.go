package agent

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/admission"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scephttp"
)

// clerk is a CA that can do little.
type clerk struct{ err error }

func (c clerk) Issue(context.Context, ca.Request) (*ca.Issued, error) { return &ca.Issued{}, c.err }
func (c clerk) Chain(context.Context) ([]*x509.Certificate, error)    { return nil, c.err }

// officer can revoke, and nothing more.
type officer struct{ clerk }

func (o officer) Revoke(context.Context, *big.Int, ca.Reason) error { return o.err }

// archivist can do everything but revoke.
type archivist struct{ clerk }

func (a archivist) Collect(context.Context, string) (*ca.Issued, error) { return nil, a.err }
func (a archivist) Find(context.Context, ca.Query) (*ca.Issued, error)  { return nil, a.err }
func (a archivist) Check(context.Context, *big.Int) (ca.Status, error)  { return ca.Status{}, a.err }
func (a archivist) CRL(context.Context) ([]byte, error)                 { return nil, a.err }
func (a archivist) Approve(context.Context, string) error               { return a.err }
func (a archivist) Deny(context.Context, string, string) error          { return a.err }
func (a archivist) Turn(ctx context.Context) (leave func(), err error)  { return func() {}, a.err }

// abilities tells what is found in a CA.
func abilities(a ca.Authority) (found string) {
	if _, ok := ca.Ability[ca.Revoker](a); ok {
		found += "revoke "
	}
	if _, ok := ca.Ability[ca.Collector](a); ok {
		found += "collect "
	}
	if _, ok := ca.Ability[ca.Finder](a); ok {
		found += "find "
	}
	if _, ok := ca.Ability[ca.Checker](a); ok {
		found += "check "
	}
	if _, ok := ca.Ability[ca.Publisher](a); ok {
		found += "publish "
	}
	if _, ok := ca.Ability[ca.Approver](a); ok {
		found += "approve "
	}
	return found
}

func TestMeasuredCACanWhatTheCACan(t *testing.T) {
	m := newMeter(Config{CAs: []CA{{Name: "lab"}}}, Options{Clock: time.Now})
	for _, one := range []ca.Authority{clerk{}, officer{}, archivist{}} {
		got, want := abilities(m.measured("lab", one)), abilities(one)
		if got != want {
			t.Errorf("%T can %q, measured %q", one, want, got)
		}
	}
	away := errors.New("away")
	measured := m.measured("lab", archivist{clerk{away}})
	if _, err := ca.Turn(t.Context(), measured); !errors.Is(err, away) {
		t.Errorf("the CA's turns are not asked for: %v", err)
	}
	finder, _ := ca.Ability[ca.Finder](measured)
	if _, err := finder.Find(t.Context(), ca.Query{}); !errors.Is(err, away) || m.ca.of("lab", callFind).trouble != caUnknown {
		t.Errorf("find: %v, noted as %+v", err, m.ca.of("lab", callFind))
	}
}

// An answer of any kind is a sign of life; that it was not asked says nothing.
func TestWhatACallSaysOfTheCA(t *testing.T) {
	for _, row := range []struct {
		name            string
		err             error
		result, trouble string
	}{
		{"a certificate", nil, "ok", ""},
		{"parked", &ca.Pending{RequestID: "1"}, "parked", ""},
		{"denied", &ca.Denied{}, "denied", ""},
		{"not found", fmt.Errorf("x: %w", ca.ErrNotFound), "not_found", ""},
		{"no right", ca.ErrForbidden, "forbidden", "forbidden"},
		{"not reached", ca.ErrUnavailable, "unavailable", "unavailable"},
		{"the answer got lost", ca.ErrOutcomeUnknown, "unknown", "unknown"},
		{"no turn", fmt.Errorf("%w: %w", ca.ErrUnavailable, &admission.Shed{Reason: admission.TooSlow}), "busy", ""},
		{"we gave up", fmt.Errorf("%w: %w", ca.ErrUnavailable, context.Canceled), "cancelled", ""},
	} {
		m := newMeter(Config{CAs: []CA{{Name: "lab"}}}, Options{Clock: time.Now})
		_, _ = m.measured("lab", clerk{row.err}).Issue(t.Context(), ca.Request{})
		if got := m.ca.of("lab", callIssue); caResult(row.err) != row.result || got.trouble != row.trouble {
			t.Errorf("%s: %s, trouble %q, want %s, %q", row.name, caResult(row.err), got.trouble, row.result, row.trouble)
		}
	}
}

// BenchmarkObserve is what counting adds to one exchange with a device.
func BenchmarkObserve(b *testing.B) {
	m := newMeter(Config{Endpoints: []Endpoint{{Name: "corp"}, {Name: "lab"}}}, Options{Clock: time.Now})
	e := scephttp.Event{
		Endpoint: "corp", Operation: "PKIOperation", HTTPStatus: http.StatusOK, MessageType: scep.PKCSReq,
		Replied: true, Status: scep.Success, Duration: 12 * time.Millisecond,
	}
	b.ReportAllocs()
	for b.Loop() {
		m.Observe(e)
	}
}
