package jobs_test

import (
	"errors"
	"testing"

	"go.uber.org/zap/zapcore"

	"github.com/certconnector/certconnector/agent/jobs"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune"
)

// A result that the queue refuses for good: its certificate is revoked, and no
// device gets it from Intune any more. When Graph does not answer, it is
// revoked all the same, and a person is told what to delete.
func TestRefusedImportIsTakenBack(t *testing.T) {
	for _, row := range []struct {
		name    string
		graph   error
		kept    int
		level   zapcore.Level
		message string
	}{
		{"Graph deletes it", nil, 1, zapcore.InfoLevel, "a certificate that is being revoked was taken back"},
		{
			"Graph is down", errors.New("503"), 2, zapcore.ErrorLevel,
			"a certificate that is being revoked could not be taken back; delete it in Microsoft Graph (userPfxCertificates)",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			inOffice(t, func(t *testing.T, o *office) {
				g := &fakeGraph{known: true, list: map[string]intune.UserPFX{}, deletes: row.graph}
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
	d.Job.SANs = []string{"upn:" + nobodysName}
	if err := withdrawer.Withdraw(t.Context(), d.Job, out.Imported); err != nil {
		t.Errorf("a user who is gone: %v", err)
	}
}
