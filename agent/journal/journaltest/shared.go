package journaltest

import (
	"sync/atomic"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/policymodule"
)

// Whole is all that an agent asks of the store it keeps its journal in.
type Whole interface {
	journal.Journal
	ca.Register
	policymodule.Ledger
	policymodule.Verdicts

	Err() error
	RestoredAt() time.Time
}

// SharedStore is one store for several agents of one process, as a database
// server is for several machines.
type SharedStore struct{ store Whole }

// Shared shares a store. Whoever opened it closes it, after every agent.
func Shared(store Whole) *SharedStore { return &SharedStore{store} }

// View returns a store of an agent's own: what it records every view shows,
// and its Close leaves the store open. As with a machine that goes away, its
// claims and leads stay until they end.
func (s *SharedStore) View() *View { return &View{Whole: s.store} }

// View is one agent's view of a shared store.
type View struct {
	Whole
	closed atomic.Bool
}

// Close leaves the store open.
func (v *View) Close() error {
	v.closed.Store(true)
	return nil
}

// Closed reports whether the agent has closed its view.
func (v *View) Closed() bool { return v.closed.Load() }
