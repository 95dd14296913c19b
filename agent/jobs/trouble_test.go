package jobs_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/jobs"
	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/intune"
)

// TestCADownForADay: nothing is lost, the other CA's work goes on, and the CA
// is not hammered.
func TestCADownForADay(t *testing.T) {
	long(t)
	for name, failure := range map[string]error{
		"refuses connections": ca.ErrUnavailable, "leaves the outcome open": ca.ErrOutcomeUnknown, "fails oddly": errors.New("odd"),
		"hangs": nil,
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				want, branch := map[string]string{}, map[string]string{}
				for i := range 40 {
					handle := fmt.Sprint("issuing ", i)
					w.cloud.ask(request(handle, w.issue(w.issuing, "issuing", tenant, int64(0x1000+i)), "issuing"))
					want[handle] = "None"
				}
				for i := range 40 {
					handle := fmt.Sprint("branch ", i)
					w.cloud.ask(request(handle, w.issue(w.branch, "branch", tenant, int64(0x2000+i)), "branch"))
					branch[handle] = "None"
				}
				w.issuing.fail = func(string) error { return failure }
				if failure == nil {
					w.issuing.hang = 24 * time.Hour
				}
				stop := w.start()
				time.Sleep(15 * time.Minute)
				w.answers(branch)
				down := time.Hour
				if errors.Is(failure, ca.ErrUnavailable) {
					down = 24 * time.Hour
				}
				time.Sleep(down - 15*time.Minute)
				if n := w.issuing.asked(); n > int(down.Hours())*4*4+40 {
					t.Errorf("the CA that is down was called %d times", n)
				}
				w.issuing.set(func() { w.issuing.fail, w.issuing.hang = nil, 0 })
				time.Sleep(time.Hour)
				stop()
				w.answers(want)
			})
		})
	}
}

// TestGivenUp: after give_up_after the cloud is told to offer the request
// again, and when it does the work goes on.
func TestGivenUp(t *testing.T) {
	long(t)
	for code, failure := range map[string]error{
		"ServiceUnavailableException": ca.ErrUnavailable, "AuthenticationException": fmt.Errorf("0x80094003: %w", ca.ErrForbidden),
	} {
		t.Run(code, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				serial := w.issue(w.issuing, "issuing", tenant, 0x4711)
				w.cloud.ask(request("r", serial, "issuing"))
				w.issuing.fail = func(string) error { return failure }
				w.tenant.GiveUpAfter = 6 * time.Hour
				stop := w.start()
				defer stop()
				time.Sleep(6*time.Hour - time.Second)
				w.answers(map[string]string{"r": ""})
				time.Sleep(2 * time.Hour)
				w.answers(map[string]string{"r": code})
				calls, told := w.issuing.asked(), w.cloud.times("r")
				time.Sleep(9 * time.Hour)
				if tried, n := w.issuing.asked()-calls, w.cloud.times("r")-told; n == 0 || tried < 4*n {
					t.Errorf("answered %d times more, after %d attempts: each offer must have some", n, tried)
				}
				w.issuing.set(func() { w.issuing.fail = nil })
				time.Sleep(3 * time.Hour)
				// The last word counts: one more refusal may have been on its way.
				w.cloud.set(func() { told := w.cloud.told["r"]; w.cloud.told["r"] = told[len(told)-1:] })
				w.answers(map[string]string{"r": "None"})
			})
		})
	}
}

// TestForbidden: a missing right is an alarm and a readiness problem, until it is given.
func TestForbidden(t *testing.T) {
	long(t)
	inWorld(t, func(t *testing.T, w *world) {
		serial := w.issue(w.issuing, "issuing", tenant, 0x4711)
		w.cloud.ask(request("r", serial, "issuing"))
		w.issuing.fail = func(string) error { return ca.ErrForbidden }
		stop := w.start()
		defer stop()
		time.Sleep(10 * time.Hour)
		if n := w.issuing.asked(); n < 8 || n > 11 {
			t.Errorf("%d attempts in ten hours", n)
		}
		if p := w.running.Problems(); len(p) != 1 || !strings.Contains(p[0], "Issue and Manage Certificates") {
			t.Errorf("problems %q", p)
		}
		w.issuing.set(func() { w.issuing.fail = nil })
		time.Sleep(2 * time.Hour)
		if p := w.running.Problems(); len(p) != 0 {
			t.Errorf("problems %q", p)
		}
		w.answers(map[string]string{"r": "None"})
	})
}

// issuer is a CA that cannot revoke.
type issuer struct{ ca.Authority }

// TestCACannotRevoke: said once, and finally; and what the CA does not know
// although it issued it is an alarm.
func TestCACannotRevoke(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.revoker = func(c *jobs.RevokerConfig) { c.CAs[1].Authority = issuer{w.branch} }
		lost := w.issue(w.issuing, "issuing", tenant, 0x4711)
		w.issuing.issued = map[string]bool{}
		w.cloud.ask(request("no revoker", w.issue(w.branch, "branch", tenant, 0x4712), "branch"), request("lost", lost, "issuing"))
		w.run(time.Minute)
		w.answers(map[string]string{"no revoker": "NotSupportedError", "lost": "CertificateNotFoundError"})
		if logged(w.logs, "a CA does not know a certificate that it issued") != 1 {
			t.Error("no alarm")
		}
	})
}

// TestBreaker: a tenant that wants too much within an hour is paused, over
// restarts, until somebody resumes it; the rest stays accepted.
func TestBreaker(t *testing.T) {
	long(t)
	inWorld(t, func(t *testing.T, w *world) {
		w.polled.AtMostPerHour, w.polled.Batch = 20, 500
		want := map[string]string{}
		for i := range 60 {
			handle := fmt.Sprint(i)
			w.cloud.ask(request(handle, w.issue(w.issuing, "issuing", tenant, int64(0x1000+i)), "issuing"))
			want[handle] = "None"
		}
		w.run(10 * time.Minute)
		n := len(w.issuing.revoked)
		if n < 20 || n > 28 {
			t.Fatalf("%d certificates were revoked, 20 and what is under way are allowed", n)
		}
		if s := w.source(); s.PausedAt.IsZero() || s.Open != 60-n || s.Owed != 0 {
			t.Errorf("%+v", s)
		}
		if p := w.running.Problems(); len(p) != 1 || !strings.Contains(p[0], "paused") {
			t.Errorf("problems %q", p)
		}
		if logged(w.audit, "source paused") == 0 {
			t.Error("no audit line")
		}
		w.cloud.ask(request("later", w.issue(w.issuing, "issuing", tenant, 0x5000), "issuing"))
		w.run(24 * time.Hour) // pauses are no matter of time
		if len(w.issuing.revoked) != n || w.source().Open != 61-n {
			t.Errorf("%d revoked while paused, %d open", len(w.issuing.revoked)-n, w.source().Open)
		}
		if p := w.running.Problems(); len(p) != 1 {
			t.Errorf("problems %q", p)
		}
		for range 3 { // each time as many as are allowed
			if err := w.journal.ResumeSource(context.Background(), jobs.RevocationSource(tenant), w.now()); err != nil {
				t.Fatal(err)
			}
			w.run(5 * time.Minute)
		}
		w.answers(want)
	})
}

// TestUploads: a result is uploaded until it is taken, and one that the cloud
// refuses does not hold up the others.
func TestUploads(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		want := map[string]string{}
		for i := range 10 {
			handle := fmt.Sprint(i)
			w.cloud.ask(request(handle, w.issue(w.issuing, "issuing", tenant, int64(0x1000+i)), "issuing"))
			want[handle] = "None"
		}
		want["7"] = ""
		var failure error = &intune.ProtocolError{Call: "uploadRevocationResults", Detail: "its value is not true"}
		bad := &intune.HTTPError{Call: "uploadRevocationResults", Status: 400}
		w.cloud.refuse = func(list []intune.RevocationResult) error {
			if failure != nil {
				return failure
			}
			if slices.ContainsFunc(list, func(r intune.RevocationResult) bool { return r.Context == "7" }) {
				return bad
			}
			return nil
		}
		stop := w.start()
		time.Sleep(30 * time.Minute)
		if n := len(w.cloud.sent()); n < 3 || n > 6 {
			t.Errorf("%d uploads in half an hour while none is taken", n)
		}
		w.cloud.set(func() {
			failure = &intune.HTTPError{Call: "uploadRevocationResults", Status: 429, After: 10 * time.Minute}
			w.cloud.uploads = nil
		})
		time.Sleep(50 * time.Minute)
		if n := len(w.cloud.sent()); n < 1 || n > 5 {
			t.Errorf("%d uploads in fifty minutes, each of which asked for ten of rest", n)
		}
		w.cloud.set(func() { failure = nil })
		time.Sleep(70 * time.Minute)
		stop()
		w.answers(want)
		if s := w.source(); s.Owed != 0 {
			t.Errorf("%d owed", s.Owed)
		}
		if logged(w.audit, "report refused for good") != 1 {
			t.Error("nobody was told of the report that was refused")
		}
		// Offered again, it is reported again: with what it came to.
		w.cloud.set(func() { w.cloud.refuse = nil })
		w.cloud.ask(request("7", serialOf(0x1007), "issuing"), request("3", serialOf(0x1003), "issuing"))
		w.run(2 * time.Hour)
		want["7"] = "None"
		w.answers(want)
		if w.issuing.revoked[serialOf(0x1003)] != 1 {
			t.Error("revoked again although it was only to be reported again")
		}
	})
}

// TestOneReportThatCannotBeTaken: it holds up no other for long.
func TestOneReportThatCannotBeTaken(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		want := map[string]string{}
		for i := range int64(6) {
			name := string(rune('a' + i))
			w.cloud.ask(request(name, w.issue(w.issuing, "issuing", tenant, 0x2000+i), "issuing"))
			if name != "b" {
				want[name] = "None"
			}
		}
		w.cloud.refuse = func(results []intune.RevocationResult) error {
			if slices.ContainsFunc(results, func(r intune.RevocationResult) bool { return r.Context == "b" }) {
				return &intune.HTTPError{Call: "uploadRevocationResults", Status: 500}
			}
			return nil
		}
		w.run(3 * time.Hour)
		w.answers(want)
		w.cloud.set(func() { w.cloud.refuse = nil })
		w.run(2 * time.Hour)
		want["b"] = "None"
		w.answers(want)
	})
}

// TestRetryAfter: a cloud that asks for rest has it.
func TestRetryAfter(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.cloud.ask(request("r", w.issue(w.issuing, "issuing", tenant, 0x1000), "issuing"))
		w.cloud.refuse = func([]intune.RevocationResult) error {
			return &intune.HTTPError{Call: "uploadRevocationResults", Status: 429, After: 10 * time.Minute}
		}
		w.run(9 * time.Minute)
		if n := len(w.cloud.sent()); n != 1 {
			t.Errorf("%d uploads within ten minutes", n)
		}
	})
}

// TestReportsBeforeQuestions: what is owed is uploaded before more is asked for.
func TestReportsBeforeQuestions(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.cloud.ask(request("r", w.issue(w.issuing, "issuing", tenant, 0x1000), "issuing"))
		w.cloud.refuse = func([]intune.RevocationResult) error { return errors.New("HTTP 503") }
		w.run(50 * time.Minute)
		w.cloud.set(func() { w.cloud.refuse = nil })
		w.cloud.down = func() error { // under the cloud's lock
			if len(w.cloud.told["r"]) == 0 {
				t.Error("asked before what was owed was uploaded")
			}
			return nil
		}
		w.run(30 * time.Minute)
		if n := len(w.cloud.downloads()); n != 2 {
			t.Errorf("asked %d times", n)
		}
	})
}

// TestConflict: the first content under a handle counts.
func TestConflict(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		first, second := w.issue(w.issuing, "issuing", tenant, 0x1000), w.issue(w.issuing, "issuing", tenant, 0x2000)
		w.cloud.ask(request("r", first, "issuing"), request("r", second, "issuing"))
		w.run(time.Minute)
		w.answers(map[string]string{"r": "None"})
		if !w.issuing.isRevoked(first) || w.issuing.isRevoked(second) {
			t.Errorf("revoked %v", w.issuing.revoked)
		}
		if logged(w.logs, "jobs came under a known handle with another content") != 1 {
			t.Error("nobody was told")
		}
	})
}

// TestImportedMeanwhile: a request that was left alone is looked at again when
// it is offered again.
func TestImportedMeanwhile(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.issuing.issued["0AFF"] = true
		w.cloud.ask(request("r", "0AFF", ""))
		w.run(time.Minute)
		w.answers(map[string]string{"r": ""})
		w.imports("0AFF", tenant)
		w.cloud.ask(request("r", "0AFF", ""))
		w.run(2 * time.Hour)
		w.answers(map[string]string{"r": "None"})
	})
}

// handlers that misbehave.
type handler func(context.Context, journal.Job) jobs.Ending

func (h handler) Do(ctx context.Context, j journal.Job) jobs.Ending { return h(ctx, j) }

// TestHandlers: a panic costs one attempt, work that was saved is found again,
// and a handler that never ends a job is put off.
func TestHandlers(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		seen := map[string][]string{}
		done := func() jobs.Ending { return jobs.Done(journal.JobResult{Succeeded: true}) }
		w.change = func(c *jobs.Config) {
			c.Work = map[journal.JobKind]jobs.Work{journal.RevokeJob: {AtOnce: 1, Handler: handler(func(ctx context.Context, j journal.Job) jobs.Ending {
				if _, ok := ctx.Deadline(); !ok {
					t.Error("a call without an end")
				}
				seen[j.Context] = append(seen[j.Context], string(j.Work))
				switch {
				case j.Context == "panics" && j.Attempts == 0:
					panic("a bug")
				case j.Context == "saves" && j.Work == nil:
					return jobs.Continue([]byte("key"))
				case j.Context == "saves" && j.Attempts == 0:
					return jobs.TryLater(errors.New("not yet"), time.Minute)
				case j.Context == "never" && j.Attempts == 0:
					return jobs.Continue([]byte("more"))
				case j.Context == "nothing" && j.Attempts == 0:
					return jobs.Ending{}
				}
				return done()
			})}}
		}
		w.cloud.ask(request("panics", "1", ""), request("saves", "1", ""), request("never", "1", ""), request("nothing", "1", ""))
		w.run(5 * time.Minute)
		w.answers(map[string]string{"panics": "None", "saves": "None", "never": "None", "nothing": "None"})
		if !slices.Equal(seen["saves"], []string{"", "key", "key"}) || len(seen["panics"]) != 2 || len(seen["never"]) != 17 {
			t.Errorf("calls: %q, %d, %d", seen["saves"], len(seen["panics"]), len(seen["never"]))
		}
	})
}

func serialOf(n int64) string { return fmt.Sprintf("%X", n) }

// TestUnreadableCA: a CA whose certificates cannot be read holds up nobody
// else, and what may be meant for it is not called foreign.
func TestUnreadableCA(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		var up atomic.Bool
		w.revoker = func(c *jobs.RevokerConfig) {
			c.CAs[1].Certificates = func(ctx context.Context) ([]*x509.Certificate, error) {
				if up.Load() {
					return w.branch.chain, nil
				}
				<-ctx.Done()
				return nil, ctx.Err()
			}
		}
		w.cloud.ask(request("foreign", "1", "Fabrikam CA"), request("hers", w.issue(w.branch, "branch", tenant, 0x2000), "Contoso Branch CA"))
		want := map[string]string{}
		for i := range 20 {
			serial := w.issue(w.issuing, "issuing", tenant, int64(0x1000+i))
			w.cloud.ask(request(fmt.Sprint(i), serial, "issuing"), request(fmt.Sprint("by its name ", i), serial, "Contoso Issuing CA"))
			want[fmt.Sprint(i)], want[fmt.Sprint("by its name ", i)] = "None", "None"
		}
		stop := w.start()
		defer stop()
		time.Sleep(time.Minute)
		w.answers(want)
		if s := w.source(); s.Open != 2 {
			t.Errorf("%d open, want both that may mean the CA which cannot be read", s.Open)
		}
		up.Store(true)
		time.Sleep(20 * time.Minute)
		w.answers(map[string]string{"hers": "None", "foreign": ""})
		if s := w.source(); s.Open != 0 {
			t.Errorf("%d open", s.Open)
		}
	})
}
