package crp

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/certconnector/certconnector/policymodule"
)

const (
	// refusalLife is how long a refused request is refused without asking
	// again: Windows repeats one three times within a minute.
	refusalLife = 2 * time.Minute

	// grantLife is how long a grant is good for the repetition of a request
	// that went wrong on our side, before its outcome is told. Whether Intune
	// grants the same request twice is not documented.
	grantLife = time.Minute

	memorySize = 4096 // verdicts; the oldest goes first
)

// key names a verdict: it holds for one transaction and one request, never for
// a transaction alone.
type key struct {
	transaction string
	csr         [32]byte
}

// memory is a bounded memory of verdicts. It does not outlive the process.
type memory struct {
	clock func() time.Time

	mu       sync.Mutex
	verdicts map[key]remembered
	order    []key // oldest first; may name keys that are gone
}

type remembered struct {
	decision policymodule.Decision
	until    time.Time
}

func newMemory(clock func() time.Time) *memory {
	return &memory{clock: clock, verdicts: map[key]remembered{}}
}

func (m *memory) recall(k key) (policymodule.Decision, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.verdicts[k]
	if !ok || !m.clock().Before(r.until) {
		return policymodule.Decision{}, false
	}
	return r.decision, true
}

func (m *memory) keep(k key, d policymodule.Decision, life time.Duration) {
	now := m.clock()
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.order) > 0 {
		oldest := m.order[0]
		r, ok := m.verdicts[oldest]
		if ok && now.Before(r.until) && len(m.order) < memorySize {
			break
		}
		delete(m.verdicts, oldest)
		m.order = m.order[1:]
	}
	m.verdicts[k] = remembered{d, now.Add(life)}
	m.order = append(m.order, k)
}

func (m *memory) forget(transaction string, csr []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.verdicts, key{transaction, sha256.Sum256(csr)})
}
