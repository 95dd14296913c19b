package agent_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/agent/journal/sqlite"
	"github.com/certconnector/certconnector/installer/firstrun"
	"github.com/certconnector/certconnector/internal/retry"
)

// hanging is a store of which one claim does not return until it is let go.
type hanging struct {
	agent.Store
	hang    atomic.Bool
	hung    chan struct{}
	letGo   chan struct{}
	claimed chan struct{}
}

func (h *hanging) Claim(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]journal.Claimed, error) {
	if h.hang.CompareAndSwap(true, false) {
		close(h.hung)
		<-h.letGo
	}
	select {
	case h.claimed <- struct{}{}:
	default:
	}
	return h.Store.Claim(ctx, now, lease, limit)
}

// A worker that hangs must not keep the next Agent from caring for its own
// certificates and lists, and from its work only for a while.
func TestReloadDoesNotWaitForWorkThatHangs(t *testing.T) {
	s := install(t, firstrun.Options{Policy: firstrun.PolicyStatic})
	store, err := sqlite.Open(s.cfg.Journal.SQLite.Path, sqlite.Options{Witness: s.cfg.Journal.SQLite.Witness})
	if err != nil {
		t.Fatal(err)
	}
	h := &hanging{Store: store, hung: make(chan struct{}), letGo: make(chan struct{}), claimed: make(chan struct{})}
	cared := make(chan struct{}, 10)
	const retirement = 4 * time.Second
	r := startReloadableWith(t, s, agent.Options{Store: h, Wait: func(ctx context.Context, d time.Duration) error {
		cared <- struct{}{}
		return retry.Wait(ctx, d)
	}}, retirement)
	<-cared
	h.hang.Store(true)
	<-h.hung
	began := time.Now()
	r.reload()
	select {
	case <-cared:
		if waited := time.Since(began); waited > retirement {
			t.Errorf("own certificates had to wait for %v", waited)
		}
	case <-time.After(retirement):
		t.Error("nobody cares for own certificates")
	}
	select {
	case <-h.claimed:
		if waited := time.Since(began); waited < retirement {
			t.Errorf("the new workers began after %v", waited)
		}
	case <-time.After(3 * retirement):
		t.Error("the new workers do not begin")
	}
	if r.logs.FilterMessageSnippet("work of the configuration before has not ended").Len() != 1 {
		t.Error("the log does not say so")
	}
	close(h.letGo)
	r.mustStop()
}
