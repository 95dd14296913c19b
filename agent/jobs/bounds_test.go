package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/jobs"
	"github.com/certconnector/certconnector/agent/journal"
)

// TestOpenJobsHaveABound: while a CA is down a source is not asked for ever
// more; once jobs are done it is.
func TestOpenJobsHaveABound(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.polled.Batch, w.polled.Interval = 5, 5*time.Minute
		w.change = func(c *jobs.Config) { c.MostOpen = 10 }
		for i := range 20 {
			w.cloud.ask(request(fmt.Sprint(i), w.issue(w.issuing, "issuing", tenant, int64(0x100+i)), "issuing"))
		}
		w.issuing.fail = func(string) error { return errors.New("down") }
		stop := w.start()
		defer stop()
		time.Sleep(time.Hour)
		if n := len(w.cloud.downloads()); n != 2 {
			t.Errorf("asked %d times, want 2", n)
		}
		p := w.running.Problems()
		if len(p) != 1 || !strings.Contains(p[0], "has 10 open jobs and is not asked for more") {
			t.Errorf("problems %q", p)
		}
		if n := logged(w.logs, "so many jobs of a source are open"); n != 1 {
			t.Errorf("%d lines", n)
		}
		w.issuing.set(func() { w.issuing.fail = nil })
		time.Sleep(90 * time.Minute)
		if n := w.cloud.answered(); n != 20 {
			t.Errorf("%d answered, want 20", n)
		}
		if p := w.running.Problems(); len(p) != 0 {
			t.Errorf("problems %q", p)
		}
	})
}

// TestOldJobsAreForgotten: after 90 days only what was revoked is known; what
// is offered again then is looked at afresh, and a revocation done already is
// told as before, without the CA.
func TestOldJobsAreForgotten(t *testing.T) {
	long(t)
	inWorld(t, func(t *testing.T, w *world) {
		w.polled.Interval = 24 * time.Hour
		ours := w.issue(w.issuing, "issuing", tenant, 0x4711)
		w.cloud.ask(request("revoked", ours, "issuing"), request("strange", "4712", "issuing"))
		w.run(time.Minute)
		w.answers(map[string]string{"revoked": "None", "strange": "CertificateNotFoundError"})
		w.jump(90*24*time.Hour - time.Hour)
		w.cloud.ask(request("newest", "4713", "issuing"))
		w.run(time.Minute)
		if n := len(w.list()); n != 3 {
			t.Fatalf("%d jobs before their time", n)
		}
		w.jump(2 * time.Hour)
		w.run(time.Minute)
		if list := w.list(); len(list) != 2 || list[0].Context != "newest" || list[1].Context != "revoked" || list[1].Result == nil || list[1].Content != nil {
			t.Fatalf("%+v", list)
		}
		asked := w.issuing.asked()
		w.issue(w.issuing, "issuing", tenant, 0x4712) // known by now
		w.cloud.ask(request("revoked", ours, "issuing"), request("strange", "4712", "issuing"))
		w.jump(24 * time.Hour)
		w.cloud.set(func() { clear(w.cloud.told) })
		w.run(2 * time.Hour)
		w.answers(map[string]string{"revoked": "None", "strange": "None"})
		if n := w.issuing.asked() - asked; n != 1 {
			t.Errorf("the CA was asked %d times, want once: for what was forgotten", n)
		}
	})
}

// list is every job, newest first.
func (w *world) list() []journal.Job {
	w.t.Helper()
	list, err := w.journal.ListJobs(context.Background(), journal.JobQuery{})
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}
