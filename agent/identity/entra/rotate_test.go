package entra_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certconnector/certconnector/agent/identity/entra"
)

func TestRotationAtTwoThirdsOfLife(t *testing.T) {
	w := newWorld(t)
	w.created()
	w.pass(239*day, day)
	if s := w.states(); s != "1 working" {
		t.Fatalf("before two thirds of its life: %s", s)
	}
	w.pass(day, time.Hour)
	w.pass(10*time.Minute, time.Minute)
	if s := w.states(); s != "1 working, 2 working" {
		t.Fatalf("after two thirds: %s", s)
	}
	if c := w.store.Certificates(); len(c) != 2 || !c[0].Certificate.NotBefore.After(c[1].Certificate.NotBefore) {
		t.Error("the new certificate does not come first, or the old one has gone")
	}
	if len(w.cloud.keys) != 2 || !strings.HasSuffix(w.cloud.keys[1].DisplayName, " 0002 "+host) {
		t.Errorf("keys of the application: %+v", w.cloud.keys)
	}
	w.pass(6*day, day)
	if s := w.states(); s != "1 working, 2 working" {
		t.Fatalf("within the overlap: %s", s)
	}
	w.pass(2*day, day)
	if s := w.states(); s != "2 working" || len(w.cloud.keys) != 1 {
		t.Fatalf("after the overlap: %s, %d keys", s, len(w.cloud.keys))
	}
	if _, err := os.Stat(filepath.Join(w.cfg.Dir, "0001.key")); !os.IsNotExist(err) {
		t.Errorf("the key of the retired certificate: %v", err)
	}
}

func TestThreeYearsAlone(t *testing.T) {
	w := newWorld(t)
	w.created()
	w.cloud.replicate = 90 * time.Minute
	w.pass(3*365*day, 12*time.Hour)
	if w.cloud.added < 4 || w.cloud.removed != w.cloud.added || len(w.cloud.keys) != 1 {
		t.Errorf("%d keys added, %d removed, %d there", w.cloud.added, w.cloud.removed, len(w.cloud.keys))
	}
	for _, e := range w.logs.FilterMessageSnippet("ends soon").All() {
		t.Errorf("warned though every rotation worked: %v", e.ContextMap())
	}
}

// TestDeathAtEachPoint dies at each point of a whole rotation in turn. After a
// restart the rotation ends as if nothing had happened.
func TestDeathAtEachPoint(t *testing.T) {
	var points []string
	rotation(t, func(point string) { points = append(points, point) })
	if len(points) < 14 {
		t.Fatalf("only %d points: %q", len(points), points)
	}
	for i, name := range points {
		t.Run(fmt.Sprintf("%02d %s", i, name), func(t *testing.T) {
			hits := 0
			w := rotation(t, func(string) {
				if hits++; hits == i+1 {
					panic(death{})
				}
			})
			if w.cloud.added != 1 || w.cloud.removed != 1 {
				t.Errorf("%d keys added, %d removed; want 1 and 1", w.cloud.added, w.cloud.removed)
			}
		})
	}
}

type death struct{}

// rotation runs a whole rotation, and starts anew after a death.
func rotation(t *testing.T, at func(string)) *world {
	w := newWorld(t)
	w.created()
	w.clock = w.clock.Add(241 * day)
	w.store.DieAt(at)
	died := false
	for range 20 * 12 { // 20 days
		w.clock = w.clock.Add(2 * time.Hour)
		func() {
			defer func() {
				if p := recover(); p != nil {
					if _, ok := p.(death); !ok {
						panic(p)
					}
					died = true
					w.open()
				}
			}()
			if err := w.store.Tend(t.Context()); err != nil && !errors.Is(err, entra.ErrUnknownCertificate) {
				t.Fatalf("at %v: %v", w.clock, err)
			}
		}()
		w.signsIn()
	}
	states := w.states()
	if !strings.HasSuffix(states, " working") || strings.Contains(states, ",") || states == "1 working" || len(w.cloud.keys) != 1 {
		t.Fatalf("died %v; in the end %s with %d keys", died, states, len(w.cloud.keys))
	}
	if keys, _ := filepath.Glob(filepath.Join(w.cfg.Dir, "*.key")); len(keys) > 2 || len(keys) == 2 && !died {
		t.Errorf("private keys left: %d", len(keys))
	}
	return w
}

func TestLostAnswersAreFoundAgain(t *testing.T) {
	w := newWorld(t)
	w.created()
	w.cloud.loseAdd, w.cloud.loseDel = 1, 1
	w.clock = w.clock.Add(241 * day)
	w.pass(20*day, time.Hour)
	if w.cloud.added != 1 || w.cloud.removed != 1 || w.states() != "2 working" {
		t.Errorf("%d added, %d removed, %s", w.cloud.added, w.cloud.removed, w.states())
	}
}

func TestWithoutPermissionAPersonUploads(t *testing.T) {
	w := newWorld(t)
	w.created()
	w.cloud.forbidden = true
	w.clock = w.clock.Add(241 * day)
	w.pass(20*time.Minute, time.Minute)
	item := w.store.Items()[0]
	if item.State != entra.Made || !item.ByHand || !strings.Contains(item.Problem, "0002.cer") || !strings.Contains(item.Next, "upload") {
		t.Fatalf("the item does not send a person to the portal: %+v", item)
	}
	up, err := w.store.Rotate(t.Context())
	if !errors.Is(err, entra.ErrByHand) || up.Generation != 2 {
		t.Fatalf("Rotate: %+v, %v", up, err)
	}
	w.cloud.upload(w.store.Certificates()[1].Certificate, "by hand")
	w.pass(2*time.Hour, 5*time.Minute)
	if s := w.states(); s != "1 working, 2 working" {
		t.Fatalf("after the upload: %s", s)
	}
	w.pass(10*day, day)
	if item := w.store.Items()[1]; !item.ByHand || !strings.Contains(item.Problem, "by hand") {
		t.Errorf("the old one, which may not be removed: %+v", item)
	}
	w.pass(120*day, day)
	if s := w.states(); s != "2 working" {
		t.Errorf("after the old one has expired: %s", s)
	}
}

func TestByHandChangesNothingInTheRegistration(t *testing.T) {
	w := newWorld(t, func(c *entra.Config) { c.ByHand = true })
	w.created()
	w.clock = w.clock.Add(241 * day)
	w.pass(2*time.Hour, time.Minute)
	if items := w.store.Items(); w.states() != "1 working, 2 made" || !items[0].ByHand || w.cloud.added != 0 {
		t.Fatalf("%s, %d added: %+v", w.states(), w.cloud.added, items[0])
	}
	w.cloud.upload(w.store.Certificates()[1].Certificate, "by hand")
	w.pass(10*day, time.Hour)
	if items := w.store.Items(); w.states() != "1 working, 2 working" || !items[1].ByHand || w.cloud.removed != 0 {
		t.Fatalf("%s, %d removed: %+v", w.states(), w.cloud.removed, items[1])
	}
	w.cloud.mu.Lock()
	w.cloud.keys = w.cloud.keys[1:] // and a person removes the old one
	w.cloud.mu.Unlock()
	w.pass(3*time.Hour, time.Hour)
	if s := w.states(); s != "2 working" {
		t.Errorf("after the removal: %s", s)
	}
}

func TestWarningsBeforeTheEnd(t *testing.T) {
	w := newWorld(t)
	w.created()
	w.cloud.forbidden = true
	w.pass(358*day, day)
	var days []int64
	for _, e := range w.logs.FilterMessageSnippet("ends soon").All() {
		days = append(days, e.ContextMap()["days"].(int64))
	}
	if fmt.Sprint(days) != "[59 29 13 6]" && fmt.Sprint(days) != "[60 30 14 7]" {
		t.Errorf("warned at %v days, want once each at 60, 30, 14 and 7", days)
	}
}

func TestLastThatWorksIsKept(t *testing.T) {
	w := newWorld(t)
	w.created()
	w.clock = w.clock.Add(241 * day)
	w.pass(time.Hour, time.Minute)
	w.cloud.mu.Lock()
	w.cloud.keys = w.cloud.keys[:1] // somebody removes the new one
	w.cloud.mu.Unlock()
	w.pass(30*day, day)
	if w.cloud.removed != 0 || len(w.cloud.keys) != 1 {
		t.Fatalf("the last certificate that works was removed: %d keys", len(w.cloud.keys))
	}
	if item := w.store.Items()[1]; !strings.Contains(item.Problem, "kept") {
		t.Errorf("nobody is told: %+v", item)
	}
}

func TestClockThatJumpsAheadAndBack(t *testing.T) {
	w := newWorld(t)
	w.created()
	real := w.clock
	w.clock = real.Add(300 * day)
	w.cloud.now = func() time.Time { return real }
	if err := w.store.Tend(t.Context()); err == nil {
		t.Fatal("a certificate of the future was taken")
	}
	w.clock = real.Add(time.Minute)
	w.cloud.now = w.cfg.Clock
	w.clock = real.Add(241 * day)
	w.pass(2*time.Hour, time.Minute)
	if s := w.states(); s != "1 working, 3 working" && s != "1 working, 2 registered, 3 working" {
		t.Fatalf("after the clock came back: %s", s)
	}
	w.pass(10*day, time.Hour)
	if s := w.states(); s != "3 working" || len(w.cloud.keys) != 1 {
		t.Fatalf("in the end: %s, %d keys", s, len(w.cloud.keys))
	}
}

func TestAttemptsThatAWrongClockPutOffAreMade(t *testing.T) {
	w := newWorld(t)
	if _, err := w.store.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.clock = w.clock.Add(300 * day)
	if err := w.store.Tend(t.Context()); !errors.Is(err, entra.ErrByHand) {
		t.Fatal(err)
	}
	w.clock = w.clock.Add(-300 * day)
	w.cloud.upload(w.store.Certificates()[0].Certificate, "by hand")
	w.clock = w.clock.Add(w.cloud.replicate)
	w.pass(10*time.Minute, time.Minute)
	if s := w.states(); s != "1 working" {
		t.Errorf("after the clock came back: %s", s)
	}
}

func TestRotateWaitsForTheReplicas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *entra.Config) { c.Clock = time.Now })
		w.cloud.replicate = 2 * time.Hour
		if _, err := w.store.Rotate(t.Context()); !errors.Is(err, entra.ErrByHand) {
			t.Fatalf("without a certificate that works: %v", err)
		}
		if _, err := w.store.Create(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.cloud.upload(w.store.Certificates()[0].Certificate, "by hand")
		time.Sleep(3 * time.Hour)
		if err := w.store.Tend(t.Context()); err != nil {
			t.Fatal(err)
		}
		short, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := w.store.Rotate(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("cut off: %v", err)
		}
		began := time.Now()
		up, err := w.store.Rotate(t.Context())
		if err != nil || up.Generation != 2 || time.Since(began) > 2*time.Hour {
			t.Fatalf("generation %d after %v: %v", up.Generation, time.Since(began), err)
		}
	})
}

func TestTwoProcessesMakeOneSuccessor(t *testing.T) {
	var made atomic.Int64
	w := newWorld(t, func(c *entra.Config) {
		c.NewKey = func(path string, _ int) (crypto.Signer, error) {
			time.Sleep(20 * time.Millisecond) // both are at it
			return stored(path, int(made.Add(1)))
		}
	})
	w.created()
	w.clock = w.clock.Add(241 * day)
	first := w.store
	w.open()
	second := w.store
	var wait sync.WaitGroup
	for range 3 {
		for _, s := range []*entra.Store{first, second} {
			wait.Go(func() {
				if err := s.Tend(t.Context()); err != nil && !errors.Is(err, entra.ErrUnknownCertificate) {
					t.Error(err)
				}
				s.Items()
			})
		}
	}
	wait.Wait()
	if w.cloud.added != 1 || len(w.cloud.keys) != 2 || made.Load() != 2 {
		t.Errorf("%d keys were made and %d added, want one of each beside the first", made.Load(), w.cloud.added)
	}
}

func TestRunTendsUntilItIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(c *entra.Config) { c.Clock = time.Now })
		if _, err := w.store.Create(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.store.Run(ctx) }()
		time.Sleep(10 * time.Minute)
		if n := w.logs.FilterMessage("the Entra certificate needs something").Len(); n != 1 {
			t.Errorf("warned %d times that it waits to be uploaded", n)
		}
		w.cloud.upload(w.store.Certificates()[0].Certificate, "by hand")
		time.Sleep(20 * time.Minute)
		if s := w.states(); s != "1 working" {
			t.Errorf("after the upload: %s", s)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
