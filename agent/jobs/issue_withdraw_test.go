package jobs_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/certconnector/certconnector/agent/jobs"
	"github.com/certconnector/certconnector/agent/jobs/jobqueue"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune"
)

const (
	nothingIsLeft = "no import is left of a certificate that is being revoked"
	mayBeImported = "a certificate that is being revoked may still be imported; delete it in Microsoft Graph (userPfxCertificates)"
)

// A result that the queue refuses for good: its certificate is revoked, and no
// device gets it from Intune any more. When Graph does not answer, it is
// revoked all the same, and a person is told what to delete.
func TestRefusedImportIsTakenBack(t *testing.T) {
	for _, row := range []struct {
		name    string
		graph   error
		renamed bool // the user, after the import
		kept    int
		level   zapcore.Level
		message string
	}{
		{"Graph deletes it", nil, false, 1, zapcore.InfoLevel, nothingIsLeft},
		{"Graph is down", errors.New("503"), false, 2, zapcore.ErrorLevel, mayBeImported},
		{"the user has another name by now", nil, true, 2, zapcore.ErrorLevel, mayBeImported},
	} {
		t.Run(row.name, func(t *testing.T) {
			inOffice(t, func(t *testing.T, o *office) {
				g := &fakeGraph{known: true, list: map[string]intune.UserPFX{}, deletes: row.graph}
				g.imported = func() { g.known = !row.renamed || len(g.list) < 2 }
				o.sinks = func() []jobs.Sink {
					s, err := jobs.NewImported(jobs.ImportConfig{Graph: g, PublicKey: &testkeys.RSA2048(7).PublicKey, KeyName: "PFXEncryptionKey"})
					if err != nil {
						t.Fatal(err)
					}
					return []jobs.Sink{s}
				}
				o.reopen()
				for _, context := range []string{"one", "two"} {
					j := o.job(context)
					j.Kind, j.Recipient, j.SANs = "importedPfx", "", []string{"upn:" + context + "@corp.example"}
					o.add(j)
				}
				o.queue.Refuse("one")
				o.later(settled)
				taken := o.queue.Results()["two"]
				if len(g.list) != row.kept || !taken.Succeeded || g.list[taken.Imported].UserPrincipalName != "two@corp.example" || o.revoked() != 1 {
					t.Errorf("%+v, %d imports are kept, %d certificates revoked", taken, len(g.list), o.revoked())
				}
				lines := o.logs.FilterMessage(row.message).All()
				if len(lines) != 1 || lines[0].Level != row.level || len(lines[0].ContextMap()["thumbprint"].(string)) != 40 {
					t.Errorf("log %+v", lines)
				}
			})
		})
	}
}

func TestWithdraw(t *testing.T) {
	cloud, sink := graph(t)
	withdrawer, ok := sink.(jobs.Withdrawer)
	if !ok {
		t.Fatal("imports cannot be taken back")
	}
	d := delivery(t, graphUser)
	out, err := sink.Deliver(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // what is gone is fine
		if err := withdrawer.Withdraw(t.Context(), d.Job, out.Imported); err != nil {
			t.Fatal(err)
		}
		if n := len(cloud.PFX()); n != 0 {
			t.Errorf("%d imports are left", n)
		}
	}
	d.Job.SANs = []string{"upn:" + nobodysName} // or one who has another name by now
	if err := withdrawer.Withdraw(t.Context(), d.Job, out.Imported); !errors.Is(err, intune.ErrNotFound) {
		t.Errorf("a user who is not found: %v", err)
	}
}

// takesBack is a sink of imports that answers Withdraw.
type takesBack struct {
	jobs.Sink
	asked *int
	err   error
}

func (s takesBack) Kind() string { return jobqueue.KindImportedPFX }

func (s takesBack) Withdraw(context.Context, jobqueue.Job, string) error {
	*s.asked++
	return s.err
}

func TestWithdrawing(t *testing.T) {
	down := errors.New("503")
	lost := jobs.Undelivered{Job: jobqueue.Job{Kind: jobqueue.KindImportedPFX}, Thumbprint: "ab"}
	sealed := lost
	sealed.Job.Kind = jobqueue.KindPFX
	here := lost
	here.Thumbprint = ""
	for _, row := range []struct {
		name    string
		lost    jobs.Undelivered
		revoke  error
		sink    error
		unknown bool // the configuration has no sink for it any more
		cut     bool // the service stops meanwhile
		asked   int
		again   bool
		log     string
	}{
		{name: "it is taken back", lost: lost, asked: 1, log: nothingIsLeft},
		{name: "the revocation is not recorded", lost: lost, revoke: down, again: true},
		{name: "it was sealed into the result", lost: sealed},
		{name: "it was surely not imported", lost: here},
		{name: "it cannot be taken back", lost: lost, sink: down, asked: 1, log: mayBeImported},
		{name: "nothing is imported any more", lost: lost, unknown: true, log: mayBeImported},
		{name: "it is cut off", lost: lost, sink: down, cut: true, asked: 1, again: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			asked := 0
			sinks := []jobs.Sink{takesBack{asked: &asked, err: row.sink}}
			if row.unknown {
				sinks = nil
			}
			core, logs := observer.New(zapcore.DebugLevel)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if row.cut {
				cancel()
			}
			err := jobs.Withdrawing(func(context.Context, jobs.Undelivered) error { return row.revoke }, sinks, zap.New(core))(ctx, row.lost)
			if (err != nil) != row.again || asked != row.asked {
				t.Errorf("error %v, asked %d times", err, asked)
			}
			var said []string
			for _, l := range logs.All() {
				said = append(said, l.Message)
			}
			if strings.Join(said, "\n") != row.log {
				t.Errorf("log %q, want %q", said, row.log)
			}
		})
	}
}
