package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/agent/status"
	"github.com/certconnector/certconnector/internal/proxy"
	"github.com/certconnector/certconnector/intune"
)

// buildStatus puts together what operators and their monitoring ask.
func (a *Agent) buildStatus() {
	a.owed.read = a.journal.DebtStats
	a.sources.read = func(ctx context.Context) ([]journal.Source, error) { return a.journal.Sources(ctx) }
	a.status = status.New(status.Config{
		Checks: []status.Check{{Name: "journal", Check: a.journal.Err}, {Name: "certificates", Check: a.expired}},
		Neighbours: []status.Check{
			{Name: "validate", Check: a.cannotValidate}, {Name: "issue", Check: a.cannotIssue}, {Name: "notify", Check: a.cannotNotify},
			{Name: "inspection", Check: a.inspected},
			{Name: "jobs", Check: a.jobProblems}, // devices enrol all the same
		},
		Notes: []status.Check{{Name: "configuration", Check: a.record.problem}},
		Last:  a.lastHeard, Metrics: a.meter.Handler(),
	})
	a.sampleState()
}

// cannotValidate names the tenants that could not be asked the last time, and
// those who do not listen to us. Nobody is asked now.
func (a *Agent) cannotValidate() error {
	errs := []error{a.cloudTroubles(intune.ValidateCalls)}
	for _, e := range a.cfg.Endpoints {
		if m, ok := a.modules[e.Name].(interface{ Ready() error }); ok && e.Policy.Intune == nil && m.Ready() != nil {
			errs = append(errs, fmt.Errorf("endpoint %s: the registration point refuses us", e.Name))
		}
	}
	return errors.Join(errs...)
}

func (a *Agent) cannotNotify() error { return a.cloudTroubles(intune.NotifyCalls) }

func (a *Agent) cloudTroubles(calls []string) error {
	var errs []error
	for _, t := range a.cfg.Tenants {
		for _, call := range calls {
			errs = append(errs, trouble("tenant "+t.Name, call, a.meter.cloud.of(t.Name, call)))
		}
	}
	return errors.Join(errs...)
}

// inspected names who opens TLS on the way to Microsoft, where that was trusted:
// it works, and shows tokens and challenges to somebody else.
func (a *Agent) inspected() error {
	var errs []error
	for _, t := range a.cfg.Tenants {
		for _, i := range a.tenants[t.Name].Inspections() {
			errs = append(errs, fmt.Errorf("tenant %s: TLS to %s is opened on the way, by %q; exempt the host", t.Name, i.Host, i.Issuer))
		}
	}
	return errors.Join(errs...)
}

// cannotIssue names the CAs that did not do what they were asked the last time.
func (a *Agent) cannotIssue() error {
	var errs []error
	for _, c := range a.cfg.CAs {
		errs = append(errs, trouble("CA "+c.Name, callIssue, a.meter.ca.of(c.Name, callIssue)))
	}
	return errors.Join(errs...)
}

// trouble says how the last call went; nil: well, or there was none.
func trouble(who, call string, c contact) error {
	if c.trouble == "" {
		return nil
	}
	return fmt.Errorf("%s: %s: %s on %s", who, call, c.trouble, stamp(c.failed))
}

// cloudTrouble is a failure in words of ours: what the cloud says may quote a
// device. What stands in the way to the cloud is told in full.
func cloudTrouble(class intune.Class, err error) string {
	if e, ok := errors.AsType[*proxy.Error](err); ok {
		return fmt.Sprintf("%s (%v)", class, e)
	}
	if e, ok := errors.AsType[*intune.InspectionError](err); ok {
		return fmt.Sprintf("%s (%v)", class, e)
	}
	if e, ok := errors.AsType[*intune.HTTPError](err); ok {
		return fmt.Sprintf("%s (HTTP %d)", class, e.Status)
	}
	if e, ok := errors.AsType[*intune.AuthError](err); ok && e.AADSTS != 0 {
		return fmt.Sprintf("%s (AADSTS%d)", class, e.AADSTS)
	}
	return string(class)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// lastHeard is when neighbours last did what they were asked, by name. What
// every tenant and CA is asked is always there.
func (a *Agent) lastHeard() []status.Last {
	at := map[string]time.Time{}
	for _, t := range a.cfg.Tenants {
		for _, call := range slices.Concat(intune.ValidateCalls, intune.NotifyCalls) {
			at["tenant "+t.Name+" "+call] = time.Time{}
		}
	}
	a.meter.cloud.answers(func(who, call string, t time.Time) { at["tenant "+who+" "+call] = t })
	for _, c := range a.cfg.CAs {
		at["CA "+c.Name+" "+callIssue] = time.Time{}
	}
	a.meter.ca.answers(func(who, call string, t time.Time) { at["CA "+who+" "+call] = t })
	polls := map[string]time.Time{}
	if list, err := a.sources.get(); err == nil {
		for _, s := range list {
			polls[s.Name] = s.LastPoll
		}
	}
	for _, name := range namesOf(a.cfg).polled {
		at["source "+name+" poll"] = polls[name]
	}
	all := make([]status.Last, 0, len(at))
	for name, t := range at {
		all = append(all, status.Last{Name: name, At: t})
	}
	slices.SortFunc(all, func(x, y status.Last) int { return strings.Compare(x.Name, y.Name) })
	return all
}
