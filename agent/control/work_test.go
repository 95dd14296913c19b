package control_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/control"
	"github.com/certconnector/certconnector/agent/identity"
	"github.com/certconnector/certconnector/agent/reconcile"
)

// work is what the fake service knows of jobs and of its own certificates.
type work struct {
	jobs     []control.Job
	sources  []control.Source
	imported []string
	items    []identity.Item
	renewed  string
	report   reconcile.Report
	asked    control.JobFilter
	compared reconcile.Options
}

func TestJobsAreListedAndSourcesResumed(t *testing.T) {
	svc := &fakeService{work: work{
		jobs:    []control.Job{{ID: "3", Kind: "revoke", Summary: "serial 1D of corp"}},
		sources: []control.Source{{Name: "revocations/contoso", PausedWhy: "501 revocations within an hour", Open: 7}},
	}}
	c, logs := serve(t, svc)
	ctx := t.Context()
	list, err := c.Jobs(ctx, control.JobFilter{Source: "revocations/contoso", States: []string{"open"}, Limit: 5})
	if err != nil || len(list) != 1 || list[0].Summary != "serial 1D of corp" {
		t.Fatalf("jobs = %v, %v", list, err)
	}
	if a := svc.work.asked; a.Source != "revocations/contoso" || !slices.Equal(a.States, []string{"open"}) || a.Limit != 5 {
		t.Errorf("the filter arrived as %+v", a)
	}
	sources, err := c.Sources(ctx)
	if err != nil || len(sources) != 1 || sources[0].Open != 7 || sources[0].PausedWhy == "" || !sources[0].LastPoll.IsZero() {
		t.Fatalf("sources = %+v, %v", sources, err)
	}
	if err := c.ResumeSource(ctx, "revocations/contoso"); err != nil || svc.work.sources[0].PausedWhy != "" {
		t.Errorf("resuming = %v, %+v", err, svc.work.sources)
	}
	err = c.ResumeSource(ctx, "revocations/fabrikam")
	if e, ok := errors.AsType[*control.Error](err); !ok || e.Code != control.CodeNotFound {
		t.Errorf("resuming a strange source = %v, want not found", err)
	}
	if n := logs.FilterLoggerName("audit").FilterMessage("source of jobs resumed").Len(); n != 2 {
		t.Errorf("%d audit lines of two attempts", n)
	}
}

func TestImportTakesHexadecimalOnly(t *testing.T) {
	svc := &fakeService{}
	c, logs := serve(t, svc)
	n, err := c.ImportIssued(t.Context(), control.Import{Tenant: "contoso", CA: "corp", Serials: []string{"1d00", "FF"}})
	if err != nil || n != 2 || len(svc.work.imported) != 2 {
		t.Fatalf("imported %d, %v", n, err)
	}
	for _, bad := range []string{"", "1d 00", "0x1d", strings.Repeat("f", 65), "\u202e1d"} {
		if _, err := c.ImportIssued(t.Context(), control.Import{Tenant: "contoso", CA: "corp", Serials: []string{bad}}); err == nil {
			t.Errorf("the serial number %q was taken", bad)
		}
	}
	if len(svc.work.imported) != 2 {
		t.Errorf("imported %v", svc.work.imported)
	}
	if n := logs.FilterLoggerName("audit").FilterMessage("certificates of another system imported").Len(); n != 1 {
		t.Errorf("%d audit lines", n)
	}
}

func TestCertificatesAndComparison(t *testing.T) {
	ends := time.Date(2028, 1, 2, 0, 0, 0, 0, time.UTC)
	svc := &fakeService{work: work{
		items:  []identity.Item{{Name: "endpoint corp", Kind: identity.KindRASigning, NotAfter: ends, Next: "renewed"}, {Name: "tenant contoso", Kind: identity.KindEntraSecret}},
		report: reconcile.Report{Entries: 12, Incomplete: []string{"CA corp"}},
	}}
	c, _ := serve(t, svc)
	items, err := c.Certificates(t.Context())
	if err != nil || len(items) != 2 || !items[0].NotAfter.Equal(ends) || !items[1].NotAfter.IsZero() {
		t.Fatalf("certificates = %+v, %v", items, err)
	}
	if err := c.RenewCertificate(t.Context(), "endpoint corp"); err != nil || svc.work.renewed != "endpoint corp" {
		t.Errorf("renewed %q, %v", svc.work.renewed, err)
	}
	want := reconcile.Options{Since: time.Hour, Limit: 3, Checks: -1, CheckBefore: 9, Fix: true}
	report, code, err := c.Reconcile(t.Context(), want)
	if err != nil || report.Entries != 12 || code != 2 || svc.work.compared != want {
		t.Errorf("report %+v, exit code %d, %v; asked %+v", report, code, err, svc.work.compared)
	}
}
