package agent

import (
	"context"
	"reflect"
	"slices"

	"github.com/certconnector/certconnector/agent/enroll"
	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/policymodule/onetime"
	"github.com/certconnector/certconnector/policymodule/token"
)

// inherit takes over from the Agent before what a new start would forget,
// although it does not hang on the configuration: who is waited for, who failed
// too often, who asked to be left alone. What is not here begins anew: breakers
// and tokens of neighbours, which may be others now; gates, so that for the
// life of the last request of the old Agent both let their number in.
// What is learnt until the switch is handed over there (switchTo), what workers
// know when they have ended (staff); RA certificates and passwords are handed over where they are built.
func (a *Agent) inherit() {
	from := a.options.from
	if from == nil {
		return
	}
	a.registration.Inherit(from.registration)
	for name, c := range a.cas {
		own, ok := c.Authority.(*embedded.CA)
		before, was := from.cas[name].Authority.(*embedded.CA)
		if ok && was {
			stop := own.Inherit(before)
			a.down.push("news of revocations", func(context.Context) error { stop(); return nil })
		}
	}
	a.handler.Inherit(from.handler)
	if a.registrationPoint != nil && from.registrationPoint != nil {
		a.registrationPoint.Inherit(from.registrationPoint)
	}
	for _, t := range a.cfg.Tenants {
		if before := from.points[t.Name]; before != nil && from.tenantID(t.Name) == t.TenantID {
			a.points[t.Name].Inherit(before)
		}
	}
	for _, e := range a.cfg.Endpoints {
		switch m := a.modules[e.Name].(type) {
		case *onetime.Module:
			if before, ok := from.modules[e.Name].(*onetime.Module); ok {
				m.Inherit(before)
			}
		case *token.Module:
			if before, ok := from.modules[e.Name].(*token.Module); ok {
				m.Inherit(before)
			}
		}
	}
}

// tenantID is the directory behind a tenant's name; "": there is none.
func (a *Agent) tenantID(name string) string {
	for _, t := range a.cfg.Tenants {
		if t.Name == name {
			return t.TenantID
		}
	}
	return ""
}

// sameTenant tells whether a tenant is reached as before.
func (c Config) sameTenant(before Config, name string) bool {
	return sameNamed(c.Tenants, before.Tenants, func(t Tenant) bool { return t.Name == name })
}

// sameCA tells whether a CA is reached as before.
func (c Config) sameCA(before Config, name string) bool {
	return sameNamed(c.CAs, before.CAs, func(x CA) bool { return x.Name == name })
}

func sameNamed[T any](now, before []T, is func(T) bool) bool {
	i, j := slices.IndexFunc(now, is), slices.IndexFunc(before, is)
	return i >= 0 && j >= 0 && reflect.DeepEqual(now[i], before[j])
}

// sameNeighbour tells whether who is at the end of a lane is reached as before.
func (a *Agent) sameNeighbour(from *Agent, lane journal.Lane) bool {
	if lane.Kind == journal.OweRevocation {
		return a.cfg.sameCA(from.cfg, lane.Neighbour)
	}
	policy, was := a.cfg.toldBy(lane.Neighbour), from.cfg.toldBy(lane.Neighbour)
	return reflect.DeepEqual(policy, was) && (policy.Intune == nil || a.cfg.sameTenant(from.cfg, policy.Intune.Tenant))
}

// toldBy is who hears of what an endpoint, or a front end, issued.
func (c Config) toldBy(name string) Policy {
	for _, e := range c.Endpoints {
		if e.Name == name {
			return e.Policy
		}
	}
	for _, f := range c.RegistrationPoint.FrontEnds {
		for _, tenant := range f.Tenants {
			if enroll.ReportedName(f.Name, tenant) == name {
				return Policy{Intune: &IntunePolicy{Tenant: tenant}}
			}
		}
	}
	return Policy{}
}
