package agent_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/agent/control"
	"github.com/certconnector/certconnector/installer/firstrun"
)

// meanwhile has something happen whenever the file is read; nil: nothing.
func (r *reloadable) meanwhile(happens func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.then = happens
}

// interrupted wants the answer of a reload that changed nothing, and that
// nobody takes the file for refused.
func (r *reloadable) interrupted(done control.Reload, err error) {
	r.t.Helper()
	if e, ok := errors.AsType[*control.Error](err); !ok || e.Code != control.CodeUnavailable || !strings.Contains(e.Text, "interrupted") {
		r.t.Errorf("got %+v, %v", done, err)
	}
	if loud := r.logs.Filter(func(l observer.LoggedEntry) bool { return l.Level > zapcore.WarnLevel }).All(); len(loud) > 0 {
		r.t.Errorf("the log says %q", loud[0].Message)
	}
}

// Nobody waits any more for a reload: what is known of the file is what the
// last reload found that came to its end.
func TestInterruptedReloadIsNoRefusal(t *testing.T) {
	for _, row := range []struct {
		name string
		when func(r *reloadable, interrupt func())
	}{
		{"before its turn comes", func(_ *reloadable, interrupt func()) { interrupt() }},
		{"while it is built", (*reloadable).meanwhile},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := startReloadable(t, install(t, firstrun.Options{Policy: firstrun.PolicyStatic}))
			r.edit(func(c *agent.Config) { c.Limits.FailuresPerMinute++ })
			r.reload()
			ctx, interrupt := context.WithCancel(t.Context())
			row.when(r, interrupt)
			r.edit(func(c *agent.Config) { c.Limits.FailuresPerMinute++ })
			r.interrupted(r.svc.Reload(ctx))
			r.meanwhile(nil)
			st, err := r.svc.Agent().Status(t.Context())
			if err != nil || st.Reload == nil || !st.Reload.Applied || strings.Contains(strings.Join(st.Warnings, "\n"), "configuration:") {
				t.Errorf("status %+v, %v", st, err)
			}
			if done := r.reload(); len(done.Changed) != 1 {
				t.Errorf("the next one changed %q, want what the interrupted one did not", done.Changed)
			}
			r.mustStop()
		})
	}
}

// A stop in the middle of a reload is no fault of the file either.
func TestStopInterruptsAReload(t *testing.T) {
	r := startReloadable(t, install(t, firstrun.Options{Policy: firstrun.PolicyStatic}))
	stopped := make(chan error, 1)
	r.meanwhile(func() {
		go func() { stopped <- r.stop() }()
		for r.logs.FilterMessage("stopping").Len() == 0 {
			time.Sleep(time.Millisecond)
		}
	})
	r.interrupted(r.svc.Reload(context.Background()))
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// A mistake that was found is told, whoever still waits for it.
func TestMistakesAreToldThoughNobodyWaits(t *testing.T) {
	r := startReloadable(t, install(t, firstrun.Options{Policy: firstrun.PolicyStatic}))
	ctx, interrupt := context.WithCancel(t.Context())
	r.meanwhile(interrupt)
	r.edit(func(c *agent.Config) { c.ShutdownGrace = -1 })
	done, err := r.svc.Reload(ctx)
	if err != nil || done.Applied || !strings.Contains(strings.Join(done.Mistakes, "\n"), "shutdown_grace") {
		t.Errorf("%+v, %v", done, err)
	}
	st, err := r.svc.Agent().Status(t.Context())
	if err != nil || st.Reload == nil || st.Reload.Applied {
		t.Errorf("status %+v, %v", st, err)
	}
	r.mustStop()
}
