package pace_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/pace"
)

func TestTokensComeBackOverAMinute(t *testing.T) {
	b, now := pace.New[string](0), time.Unix(1e9, 0)
	for range 6 {
		if wait := b.TryTake("a", 6, now); wait != 0 {
			t.Fatalf("must wait %v", wait)
		}
	}
	if wait := b.TryTake("a", 6, now); wait != 10*time.Second {
		t.Errorf("waits %v, want 10s", wait)
	}
	if wait := b.Wait("b", 6, now); wait != 0 {
		t.Errorf("another waits %v", wait)
	}
	now = now.Add(10 * time.Second)
	if wait := b.TryTake("a", 6, now); wait != 0 {
		t.Errorf("after ten seconds: waits %v", wait)
	}
	if wait := b.TryTake("a", 6, now.Add(-time.Hour)); wait == 0 {
		t.Error("a clock that was set back gave a token")
	}
	if left, used := b.Left("a", 6, now.Add(time.Hour)); left != 6 || used {
		t.Errorf("an hour later: %v tokens, used %v", left, used)
	}
}

func TestTakeNeverOwes(t *testing.T) {
	b, now := pace.New[string](0), time.Unix(1e9, 0)
	for range 100 {
		b.Take("a", 10, now)
	}
	if wait := b.Wait("a", 10, now.Add(6*time.Second)); wait != 0 {
		t.Errorf("after six seconds: waits %v", wait)
	}
}

// The table stays bounded, and whoever failed most is remembered longest.
func TestRoomIsMade(t *testing.T) {
	b, now := pace.New[int](16), time.Unix(1e9, 0)
	for range 10 {
		b.Take(-1, 10, now)
	}
	for i := range 1000 {
		b.Take(i, 10, now)
	}
	if wait := b.Wait(-1, 10, now); wait == 0 {
		t.Error("the worst was forgotten to make room")
	}
	remembered := 0
	for i := range 1000 {
		if _, used := b.Left(i, 10, now); used {
			remembered++
		}
	}
	if remembered > 15 {
		t.Errorf("%d others are remembered, want at most 15", remembered)
	}
}

func TestSource(t *testing.T) {
	for _, row := range []struct{ a, b string }{
		{"2001:db8::1", "2001:db8::ffff"}, {"192.0.2.1", "192.0.2.1"},
	} {
		if pace.Source(netip.MustParseAddr(row.a)) != pace.Source(netip.MustParseAddr(row.b)) {
			t.Errorf("%s and %s are two sources", row.a, row.b)
		}
	}
	if pace.Source(netip.MustParseAddr("192.0.2.1")) == pace.Source(netip.MustParseAddr("192.0.2.2")) {
		t.Error("two hosts are one source")
	}
	if pace.Source(netip.Addr{}) != (netip.Prefix{}) {
		t.Error("an address that cannot be read is a source of its own")
	}
}
