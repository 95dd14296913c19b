package agent

import (
	"context"

	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/policymodule/onetime"
	"github.com/certconnector/certconnector/policymodule/token"
)

// inherit takes over from the Agent before what a new start would forget,
// although it does not hang on the configuration: who is waited for, who failed
// too often, who asked to be left alone. What is not here begins anew: breakers
// and tokens of neighbours, which may be others now; gates, so that for the
// life of the last request of the old Agent both let their number in.
// RA certificates and passwords are handed over where they are built.
func (a *Agent) inherit() {
	from := a.options.from
	if from == nil {
		return
	}
	a.registration.Inherit(from.registration)
	a.outbox.Inherit(from.outbox)
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
