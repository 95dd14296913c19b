package control_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/certconnector/certconnector/agent/control"
	"github.com/certconnector/certconnector/agent/identity"
	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/agent/reconcile"
	"github.com/certconnector/certconnector/ca"
)

// fakeService keeps requests in a map and answers as the agent promises.
type fakeService struct {
	requests map[string]control.Request
	asked    control.Filter
	revoked  string
	work     work
	err      error // answered instead, when set
}

func (f *fakeService) Requests(_ context.Context, q control.Filter) ([]control.Request, error) {
	f.asked = q
	var list []control.Request
	for _, r := range f.requests {
		list = append(list, r)
	}
	return list, f.err
}

func (f *fakeService) Approve(_ context.Context, id string) error {
	return f.decide(id, "released", "")
}

func (f *fakeService) Deny(_ context.Context, id, why string) error {
	return f.decide(id, "failed", why)
}

func (f *fakeService) decide(id, state, why string) error {
	r, ok := f.requests[id]
	if !ok {
		return fmt.Errorf("request %s: %w", id, journal.ErrNotFound)
	}
	if r.State != "parked" {
		return fmt.Errorf("request %s is %s: %w", id, r.State, ca.ErrForbidden)
	}
	r.State, r.Reason = state, why
	f.requests[id] = r
	return nil
}

// Jobs, sources, certificates and comparisons are tested in work_test.go.
func (f *fakeService) Jobs(_ context.Context, q control.JobFilter) ([]control.Job, error) {
	f.work.asked = q
	return f.work.jobs, f.err
}

func (f *fakeService) Sources(context.Context) ([]control.Source, error) {
	return f.work.sources, f.err
}

func (f *fakeService) ResumeSource(_ context.Context, source string) error {
	for i := range f.work.sources {
		if f.work.sources[i].Name == source {
			f.work.sources[i].PausedWhy = ""
			return nil
		}
	}
	return fmt.Errorf("source %q: %w", source, journal.ErrNotFound)
}

func (f *fakeService) ImportIssued(_ context.Context, i control.Import) (int, error) {
	f.work.imported = append(f.work.imported, i.Serials...)
	return len(i.Serials), f.err
}

func (f *fakeService) Certificates(context.Context) ([]identity.Item, error) {
	return f.work.items, f.err
}

func (f *fakeService) RenewCertificate(_ context.Context, name string) error {
	f.work.renewed = name
	return f.err
}

func (f *fakeService) Reconcile(_ context.Context, o reconcile.Options) (reconcile.Report, error) {
	f.work.compared = o
	return f.work.report, f.err
}

func (f *fakeService) Revoke(_ context.Context, caName, serial string, reason ca.Reason) error {
	f.revoked = caName + " " + serial + " " + reason.String()
	return f.err
}

func (f *fakeService) Status(context.Context) (control.Status, error) {
	return control.Status{Version: "v1", Ready: true}, f.err
}

func (f *fakeService) NewChallenge(_ context.Context, w control.Wish) (control.Challenge, error) {
	if w.Endpoint != "mdm" {
		return control.Challenge{}, fmt.Errorf("endpoint %q: %w", w.Endpoint, journal.ErrNotFound)
	}
	return control.Challenge{Challenge: "made for " + w.Subject, ID: "1"}, f.err
}

func (f *fakeService) Trace(_ context.Context, transaction string) ([]control.TraceEvent, error) {
	if transaction == "" {
		return nil, f.err
	}
	return []control.TraceEvent{{TransactionID: transaction, State: "refused", Rule: "key_size"}}, f.err
}

// socketPath is short: a socket's path has a hundred octets or so, and the name
// of a test would be in that of its folder.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "c")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(dir, "c.sock")
}

// serve runs the socket until the test ends.
func serve(t *testing.T, svc control.Service) (*control.Client, *observer.ObservedLogs) {
	t.Helper()
	path := socketPath(t)
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zapcore.InfoLevel)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Serve(ctx, svc, zap.New(core)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if _, err := os.Lstat(path); err == nil {
			t.Error("the socket file is left behind")
		}
	})
	c, err := control.Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	return c, logs
}

func TestRequestsAreListedAndDecided(t *testing.T) {
	svc := &fakeService{requests: map[string]control.Request{"7": {ID: "7", State: "parked", Subject: "CN=a"}}}
	c, logs := serve(t, svc)
	ctx := t.Context()

	list, err := c.Requests(ctx, control.Filter{States: []string{"parked", "unknown"}, Endpoint: "corp", Limit: 5})
	if err != nil || len(list) != 1 || list[0].Subject != "CN=a" {
		t.Fatalf("list = %v, %v", list, err)
	}
	if len(svc.asked.States) != 2 || svc.asked.Endpoint != "corp" || svc.asked.Limit != 5 {
		t.Errorf("filter arrived as %+v", svc.asked)
	}
	if err := c.Deny(ctx, "7", "not ours"); err != nil {
		t.Fatal(err)
	}
	if r := svc.requests["7"]; r.State != "failed" || r.Reason != "not ours" {
		t.Errorf("after the denial: %+v", r)
	}

	err = c.Approve(ctx, "7")
	e, ok := errors.AsType[*control.Error](err)
	if !ok || e.Code != control.CodeForbidden || !e.Refused() {
		t.Errorf("approving what was denied = %v, want forbidden", err)
	}
	err = c.Approve(ctx, "../status")
	if e, ok := errors.AsType[*control.Error](err); !ok || e.Code != control.CodeNotFound {
		t.Errorf("approving a strange ID = %v, want not found", err)
	}

	audit := logs.FilterLoggerName("audit").All()
	if len(audit) != 3 {
		t.Fatalf("%d audit lines, want one a decision", len(audit))
	}
	if by := audit[0].ContextMap()["by"]; by == "" || audit[0].Message != "request denied" {
		t.Errorf("audit line %v", audit[0])
	}
}

func TestRevoke(t *testing.T) {
	svc := &fakeService{}
	c, _ := serve(t, svc)
	if err := c.Revoke(t.Context(), "lab", "0Aff", ca.KeyCompromise); err != nil {
		t.Fatal(err)
	}
	if svc.revoked != "lab 0Aff keyCompromise" {
		t.Errorf("arrived as %q", svc.revoked)
	}
	err := c.Revoke(t.Context(), "lab", "12:34", ca.KeyCompromise)
	if e, ok := errors.AsType[*control.Error](err); !ok || e.Code != control.CodeInvalid {
		t.Errorf("serial number with colons = %v, want invalid", err)
	}
}

func TestErrorsKeepTheirMeaning(t *testing.T) {
	for _, row := range []struct {
		name string
		err  error
		want string
	}{
		{"CA away", ca.ErrUnavailable, control.CodeUnavailable},
		{"outcome unknown", ca.ErrOutcomeUnknown, control.CodeUnknown},
		{"entry held by another worker", journal.ErrLost, control.CodeUnavailable},
		{"no right at the CA", ca.ErrForbidden, control.CodeForbidden},
		{"anything else", errors.New("disk on fire"), control.CodeInternal},
	} {
		t.Run(row.name, func(t *testing.T) {
			c, _ := serve(t, &fakeService{err: fmt.Errorf("doing it: %w", row.err)})
			_, err := c.Status(t.Context())
			e, ok := errors.AsType[*control.Error](err)
			if !ok || e.Code != row.want || !strings.Contains(e.Text, "doing it") {
				t.Errorf("got %v, want code %s", err, row.want)
			}
		})
	}
}

func TestListen(t *testing.T) {
	t.Run("a socket left by a dead process is replaced", func(t *testing.T) {
		path := socketPath(t)
		dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
		if err != nil {
			t.Fatal(err)
		}
		dead.SetUnlinkOnClose(false)
		if err := dead.Close(); err != nil {
			t.Fatal(err)
		}
		l, err := control.Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v, want 0600", info.Mode(), err)
		}
		if _, err := control.Listen(path); err == nil || !strings.Contains(err.Error(), "another instance runs") {
			t.Errorf("second instance = %v", err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("another kind of file stays", func(t *testing.T) {
		path := socketPath(t)
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := control.Listen(path); err == nil {
			t.Error("a file was taken for a socket")
		}
		if b, _ := os.ReadFile(path); string(b) != "precious" {
			t.Error("the file was changed")
		}
	})
	t.Run("a path that is too long says what to do", func(t *testing.T) {
		_, err := control.Listen(filepath.Join(t.TempDir(), strings.Repeat("x", 100)))
		if err == nil || !strings.Contains(err.Error(), "control.socket") {
			t.Errorf("got %v", err)
		}
	})
}

func TestDialWithoutService(t *testing.T) {
	_, err := control.Dial(socketPath(t))
	if err == nil || !strings.Contains(err.Error(), "is it running") {
		t.Errorf("got %v", err)
	}
}

func TestChallengesAreMadeAndNotLogged(t *testing.T) {
	c, logs := serve(t, &fakeService{})
	made, err := c.NewChallenge(t.Context(), control.Wish{Endpoint: "mdm", Subject: "CN=phone", SANs: []string{"dns:a.example"}})
	if err != nil || made.Challenge != "made for CN=phone" {
		t.Fatalf("made %+v, %v", made, err)
	}
	_, err = c.NewChallenge(t.Context(), control.Wish{Endpoint: "nowhere"})
	if e, ok := errors.AsType[*control.Error](err); !ok || e.Code != control.CodeNotFound {
		t.Errorf("an unknown endpoint: %v", err)
	}
	lines := logs.FilterMessage("challenge made").All()
	if len(lines) != 2 || lines[0].ContextMap()["id"] != "1" || lines[0].ContextMap()["done"] != true || lines[1].ContextMap()["done"] != false {
		t.Errorf("audit lines: %v", lines)
	}
	for _, l := range logs.All() {
		if strings.Contains(fmt.Sprint(l.ContextMap()), "made for") {
			t.Error("a challenge was logged")
		}
	}
}

func TestTraceIsAListWhateverIsKnown(t *testing.T) {
	c, _ := serve(t, &fakeService{})
	events, err := c.Trace(t.Context(), "T&1 =")
	if err != nil || len(events) != 1 || events[0].TransactionID != "T&1 =" || events[0].Rule != "key_size" {
		t.Errorf("events %v, %v", events, err)
	}
	if events, err = c.Trace(t.Context(), ""); err != nil || events == nil || len(events) != 0 {
		t.Errorf("nothing known: %v, %v", events, err)
	}
}
