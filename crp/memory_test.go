package crp

import (
	"strconv"
	"testing"
	"time"

	"github.com/certconnector/certconnector/policymodule"
)

// A flood of refused requests must not fill the host's memory.
func TestMemoryIsBounded(t *testing.T) {
	m := newMemory(func() time.Time { return time.Unix(0, 0) })
	name := func(i int) key { return key{transaction: strconv.Itoa(i)} }
	for i := range 3 * memorySize {
		m.keep(name(i), policymodule.Decision{Rule: "x"}, time.Minute)
	}
	if len(m.verdicts) > memorySize || len(m.order) > memorySize {
		t.Errorf("%d verdicts, %d names", len(m.verdicts), len(m.order))
	}
	if _, ok := m.recall(name(0)); ok {
		t.Error("the oldest verdict is kept")
	}
	if _, ok := m.recall(name(3*memorySize - 1)); !ok {
		t.Error("the newest verdict is lost")
	}
}
