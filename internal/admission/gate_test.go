package admission_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certconnector/certconnector/internal/admission"
)

// visitor is one ticket's way through a gate.
type visitor struct {
	name string
	admission.Ticket
}

// visit lets visitors queue up behind a taken gate, in order, and returns the
// order in which they came in. Each stays a second.
func visit(t *testing.T, cfg admission.Config, visitors ...visitor) (order []string, shed map[string]admission.Reason) {
	t.Helper()
	g := admission.New(cfg)
	leave := fill(t, g, max(cfg.Slots, 1))
	var mu sync.Mutex
	var all sync.WaitGroup
	shed = map[string]admission.Reason{}
	for _, v := range visitors {
		all.Go(func() {
			leave, err := g.Enter(t.Context(), v.Ticket)
			mu.Lock()
			if s, ok := errors.AsType[*admission.Shed](err); ok {
				shed[v.name] = s.Reason
			} else {
				order = append(order, v.name)
			}
			mu.Unlock()
			if err == nil {
				time.Sleep(time.Second)
				leave()
			}
		})
		synctest.Wait() // the order of arrival is that of the table
	}
	leave()
	all.Wait()
	if s := g.Stats(); s.InUse != 0 || s.Devices+s.Jobs+s.Answers != 0 {
		t.Errorf("left behind: %+v", s)
	}
	return order, shed
}

// fill takes all slots as answers, which count for nothing else.
func fill(t *testing.T, g *admission.Gate, slots int) (leave func()) {
	t.Helper()
	var leaves []func()
	for range slots {
		l, err := g.Enter(t.Context(), admission.Ticket{Class: admission.Answer})
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, l)
	}
	return func() {
		for _, l := range leaves {
			l()
		}
	}
}

func TestOrder(t *testing.T) {
	in := func(d time.Duration) admission.Ticket {
		return admission.Ticket{Deadline: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(d)} // a bubble's clock begins there
	}
	job := admission.Ticket{Class: admission.Job}
	urgentJob := admission.Ticket{Class: admission.Job, Deadline: in(time.Minute).Deadline}
	for _, row := range []struct {
		name     string
		visitors []visitor
		want     []string
	}{
		{"least time left first", []visitor{{"c", in(3 * time.Hour)}, {"a", in(time.Hour)}, {"b", in(2 * time.Hour)}}, []string{"a", "b", "c"}},
		{"as they came when all have the same time", []visitor{{"a", in(time.Hour)}, {"b", in(time.Hour)}, {"c", in(time.Hour)}}, []string{"a", "b", "c"}},
		{"no deadline is the latest", []visitor{{"d", admission.Ticket{}}, {"a", in(time.Hour)}, {"e", admission.Ticket{}}}, []string{"a", "d", "e"}},
		{"devices before jobs that came first", []visitor{{"job", job}, {"urgent job", urgentJob}, {"device", admission.Ticket{}}}, []string{"device", "urgent job", "job"}},
		{"answers before all", []visitor{{"job", job}, {"device", in(time.Minute)}, {"answer", admission.Ticket{Class: admission.Answer}}}, []string{"answer", "device", "job"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				order, shed := visit(t, admission.Config{Queue: 10}, row.visitors...)
				if !slices.Equal(order, row.want) || len(shed) > 0 {
					t.Errorf("came in as %v, want %v; shed %v", order, row.want, shed)
				}
			})
		})
	}
}

// When the line is full, the one with the most time left can come again.
func TestFullLine(t *testing.T) {
	in := func(d time.Duration) admission.Ticket {
		return admission.Ticket{Deadline: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(d)}
	}
	job := admission.Ticket{Class: admission.Job}
	for _, row := range []struct {
		name     string
		visitors []visitor
		shed     string
	}{
		{"the newcomer has the most", []visitor{{"a", in(time.Hour)}, {"b", in(time.Hour)}, {"c", in(2 * time.Hour)}}, "c"},
		{"the newcomer came later", []visitor{{"a", in(time.Hour)}, {"b", in(time.Hour)}, {"c", in(time.Hour)}}, "c"},
		{"one that waits has the most", []visitor{{"a", in(time.Hour)}, {"b", in(3 * time.Hour)}, {"c", in(2 * time.Hour)}}, "b"},
		{"a job goes for a device", []visitor{{"a", in(time.Hour)}, {"j", job}, {"c", admission.Ticket{}}}, "j"},
		{"a job never displaces a device", []visitor{{"a", in(time.Hour)}, {"b", admission.Ticket{}}, {"j", job}}, "j"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, shed := visit(t, admission.Config{Queue: 2}, row.visitors...)
				if len(shed) != 1 || shed[row.shed] != admission.QueueFull {
					t.Errorf("shed %v, want %s", shed, row.shed)
				}
			})
		})
	}
	t.Run("nobody may wait", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			_, shed := visit(t, admission.Config{}, visitor{name: "a"}, visitor{name: "answer", Ticket: admission.Ticket{Class: admission.Answer}})
			if len(shed) != 1 || shed["a"] != admission.QueueFull {
				t.Errorf("shed %v", shed)
			}
		})
	})
}

// Jobs leave a slot to devices, and the last slot of one is theirs only while
// nobody waits.
func TestJobsLeaveRoom(t *testing.T) {
	for slots, want := range map[int]int{1: 1, 2: 1, 4: 3} {
		synctest.Test(t, func(t *testing.T) {
			g := admission.New(admission.Config{Slots: slots, Queue: 10})
			enter := func(ticket admission.Ticket) error {
				brief, stop := context.WithTimeout(t.Context(), time.Second)
				defer stop()
				_, err := g.Enter(brief, ticket)
				return err
			}
			in := 0
			for range slots {
				if enter(admission.Ticket{Class: admission.Job}) == nil {
					in++
				}
			}
			if in != want {
				t.Errorf("%d slots: %d jobs came in, want %d", slots, in, want)
			}
			if slots > 1 {
				if err := enter(admission.Ticket{}); err != nil {
					t.Errorf("%d slots: a device found no room: %v", slots, err)
				}
			}
		})
	}
}

// However many jobs there are, a device waits for one of them at most; and jobs
// go on when the devices have gone.
func TestJobsStarveNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := admission.New(admission.Config{Slots: 2, Queue: 100})
		var all sync.WaitGroup
		var jobs atomic.Int32
		for range 50 {
			all.Go(func() {
				leave, err := g.Enter(t.Context(), admission.Ticket{Class: admission.Job})
				if err != nil {
					t.Error(err)
					return
				}
				jobs.Add(1)
				time.Sleep(10 * time.Second)
				leave()
			})
		}
		synctest.Wait()
		for range 20 {
			start := time.Now()
			leave, err := g.Enter(t.Context(), admission.Ticket{})
			if err != nil || time.Since(start) != 0 {
				t.Fatalf("a device waited %v, %v", time.Since(start), err)
			}
			time.Sleep(time.Second)
			leave()
		}
		all.Wait()
		if jobs.Load() != 50 {
			t.Errorf("%d jobs were done", jobs.Load())
		}
	})
}

// Who could not be served in time hears so at once; who is first in line may
// stay, so that a gate learns that things have become better.
func TestTooSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := admission.New(admission.Config{Queue: 100, Patience: 25 * time.Second})
		serve := func(ctx context.Context, d time.Duration) (time.Duration, error) {
			start := time.Now()
			leave, err := g.Enter(ctx, admission.Ticket{})
			waited := time.Since(start)
			if err == nil {
				time.Sleep(d)
				leave()
			}
			return waited, err
		}
		if _, err := serve(t.Context(), 10*time.Second); err != nil { // measured
			t.Fatal(err)
		}
		var mu sync.Mutex
		refused := map[time.Duration]int{}
		served := 0
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				waited, err := serve(t.Context(), 10*time.Second)
				mu.Lock()
				defer mu.Unlock()
				if s, ok := errors.AsType[*admission.Shed](err); ok && s.Reason == admission.TooSlow {
					refused[waited]++
				} else if err == nil {
					served++
				}
			})
			synctest.Wait()
		}
		// One inside; three wait, since 20 s of work ahead is less than 25 s; six
		// go at once, and the last of the three loses patience.
		all.Wait()
		if served != 3 || refused[0] != 6 || refused[25*time.Second] != 1 {
			t.Errorf("served %d, refused after %v", served, refused)
		}

		// What a context has left counts as patience does.
		leave := fill(t, g, 1)
		go serve(t.Context(), time.Second)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if waited, err := serve(ctx, 0); waited != 0 || reason(err) != admission.TooSlow {
			t.Errorf("with 5 s left: waited %v, %v", waited, err)
		}
		leave()
		time.Sleep(time.Minute)
		if waited, err := serve(ctx, 0); waited != 0 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with nothing left: waited %v, %v", waited, err)
		}
		if s := g.Stats(); s.Shed[admission.TooSlow] != 8 || s.InUse != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// The estimate is of those ahead: where a newcomer would wait too long, one with
// less time left need not.
func TestEstimateIsByPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := admission.New(admission.Config{Slots: 2, Queue: 100, Patience: 20 * time.Second})
		enter := func(ticket admission.Ticket) error {
			leave, err := g.Enter(t.Context(), ticket)
			if err == nil {
				time.Sleep(10 * time.Second)
				leave()
			}
			return err
		}
		if err := enter(admission.Ticket{}); err != nil { // measured
			t.Fatal(err)
		}
		leave := fill(t, g, 2)
		newcomer := admission.Ticket{Deadline: time.Now().Add(time.Hour)}
		for range 5 { // 5 ahead × 10 s / 2 slots is more than 20 s
			go enter(newcomer)
			synctest.Wait()
		}
		if err := enter(newcomer); reason(err) != admission.TooSlow {
			t.Errorf("the sixth: %v", err)
		}
		early := make(chan error)
		go func() { early <- enter(admission.Ticket{Deadline: time.Now().Add(30 * time.Minute)}) }()
		synctest.Wait()
		if s := g.Stats(); s.Devices != 6 || s.Mean != 10*time.Second {
			t.Errorf("%+v", s)
		}
		leave()
		if err := <-early; err != nil {
			t.Errorf("who has less time left: %v", err)
		}
		time.Sleep(time.Minute)

		// A share is slower than the whole.
		leave = fill(t, g, 2)
		share := admission.Ticket{Key: "one", Most: 1}
		for range 3 {
			go enter(share)
			synctest.Wait()
		}
		start := time.Now()
		if err := enter(share); reason(err) != admission.TooSlow || time.Since(start) != 0 {
			t.Errorf("the fourth of a share of one: %v after %v", err, time.Since(start))
		}
		leave()
		time.Sleep(time.Minute)
	})
}

func reason(err error) admission.Reason {
	if s, ok := errors.AsType[*admission.Shed](err); ok {
		return s.Reason
	}
	return ""
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := admission.New(admission.Config{Queue: 10, Patience: time.Minute})
		_, err := g.Enter(t.Context(), admission.Ticket{Deadline: time.Now()})
		if reason(err) != admission.DeadlinePassed {
			t.Errorf("a free gate, and no time left: %v", err)
		}
		leave := fill(t, g, 1)
		start := time.Now()
		_, err = g.Enter(t.Context(), admission.Ticket{Deadline: start.Add(10 * time.Second)})
		if reason(err) != admission.DeadlinePassed || time.Since(start) != 10*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		leave()
		past := admission.Ticket{Class: admission.Answer, Deadline: start}
		if leave, err := g.Enter(t.Context(), past); err != nil {
			t.Errorf("an answer is never refused: %v", err)
		} else {
			leave()
		}
	})
}

// Those who give up leave nothing behind, and the next one takes their place.
func TestCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := admission.New(admission.Config{Queue: 1})
		leave := fill(t, g, 1)
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() {
			_, err := g.Enter(ctx, admission.Ticket{})
			gone <- err
		}()
		synctest.Wait()
		time.Sleep(3 * time.Second)
		if s := g.Stats(); s.Devices != 1 || s.Oldest != 3*time.Second || s.InUse != 1 {
			t.Errorf("while one waits: %+v", s)
		}
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if s := g.Stats(); s.Devices != 0 || s.Oldest != 0 {
			t.Errorf("after it gave up: %+v", s)
		}
		if _, err := g.Enter(ctx, admission.Ticket{}); !errors.Is(err, context.Canceled) {
			t.Errorf("nobody is there any more: %v", err)
		}
		next := make(chan error)
		go func() {
			leave, err := g.Enter(t.Context(), admission.Ticket{})
			if err == nil {
				leave()
			}
			next <- err
		}()
		synctest.Wait()
		leave()
		if err := <-next; err != nil {
			t.Errorf("the next: %v", err)
		}
	})
}

// A share that is used up holds up its own only.
func TestShares(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := admission.New(admission.Config{Slots: 3, Queue: 10, Patience: time.Minute})
		loud := admission.Ticket{Key: "loud", Most: 2}
		var leaves []func()
		for range 2 {
			leave, err := g.Enter(t.Context(), loud)
			if err != nil {
				t.Fatal(err)
			}
			leaves = append(leaves, leave)
		}
		start := time.Now()
		if _, err := g.Enter(t.Context(), loud); reason(err) != admission.EndpointLimit || time.Since(start) != time.Minute {
			t.Errorf("a third one: %v after %v", err, time.Since(start))
		}
		third := make(chan error)
		go func() {
			leave, err := g.Enter(t.Context(), loud)
			if err == nil {
				leave()
			}
			third <- err
		}()
		synctest.Wait()
		leave, err := g.Enter(t.Context(), admission.Ticket{Key: "quiet", Most: 2})
		if err != nil {
			t.Errorf("another key waits for this one: %v", err)
		}
		leaves[0]()
		if err := <-third; err != nil {
			t.Errorf("the third one, after one had left: %v", err)
		}
		leave()
		leaves[1]()
		if s := g.Stats(); s.InUse != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// Those who are sent away do not come back together, and the longer the line is
// the later.
func TestRetryAfterIsSpread(t *testing.T) {
	g := admission.New(admission.Config{})
	seen := map[time.Duration]bool{}
	for range 100 {
		s := g.Refuse(admission.SourceLimit)
		if s.RetryAfter() < 5*time.Second || s.RetryAfter() > 10*time.Second {
			t.Fatalf("come again in %v", s.RetryAfter())
		}
		seen[s.RetryAfter()] = true
	}
	if len(seen) < 50 {
		t.Errorf("%d of 100 differ", len(seen))
	}
	if n := g.Stats().Shed[admission.SourceLimit]; n != 100 {
		t.Errorf("counted %d", n)
	}
	synctest.Test(t, func(t *testing.T) {
		g := admission.New(admission.Config{Queue: 100})
		leave, err := g.Enter(t.Context(), admission.Ticket{})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		leave()
		leave = fill(t, g, 1)
		for range 30 {
			go func() {
				if leave, err := g.Enter(t.Context(), admission.Ticket{}); err == nil {
					leave()
				}
			}()
		}
		synctest.Wait()
		if s := g.Refuse(admission.QueueFull); s.After < time.Minute || s.After > 2*time.Minute {
			t.Errorf("30 s of work ahead: come again in %v", s.After)
		}
		leave()
	})
}
