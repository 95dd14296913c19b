package admission_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certconnector/certconnector/internal/admission"
)

// Whatever happens at once, slots are never exceeded and all come back.
func TestStress(t *testing.T) {
	const slots = 3
	g := admission.New(admission.Config{Slots: slots, Queue: 20, Patience: 20 * time.Millisecond})
	var inside, jobs, most, served, refused atomic.Int32
	var all sync.WaitGroup
	for i := range 32 {
		all.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 1))
			for range 200 {
				ctx, cancel := context.WithCancel(t.Context())
				ticket := admission.Ticket{Class: admission.Class(random.IntN(3)), Deadline: time.Now().Add(time.Duration(1+random.IntN(50)) * time.Millisecond)}
				if random.IntN(2) == 0 {
					ticket.Key, ticket.Most = "half", 2
				}
				if random.IntN(4) == 0 {
					time.AfterFunc(time.Duration(random.IntN(500))*time.Microsecond, cancel)
				}
				leave, err := g.Enter(ctx, ticket)
				if err == nil {
					n := inside.Add(1)
					for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
					}
					if ticket.Class == admission.Job && jobs.Add(1) > slots-1 {
						t.Error("jobs took the last slot")
					}
					if random.IntN(8) == 0 {
						time.Sleep(100 * time.Microsecond)
					}
					if ticket.Class == admission.Job {
						jobs.Add(-1)
					}
					inside.Add(-1)
					served.Add(1)
					leave()
				} else {
					refused.Add(1)
				}
				cancel()
			}
		})
	}
	all.Wait()
	if s := g.Stats(); s.InUse != 0 || s.Devices+s.Jobs+s.Answers != 0 || s.Oldest != 0 {
		t.Errorf("left behind: %+v", s)
	}
	if most.Load() > slots || served.Load() == 0 {
		t.Errorf("%d inside at once, %d served, %d refused", most.Load(), served.Load(), refused.Load())
	}
}

func TestQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := admission.New(admission.Config{Slots: 1, Queue: 1})
		time.Sleep(time.Minute)
		if q := g.Stats().Quiet; q != time.Minute {
			t.Errorf("quiet for %v before the first device", q)
		}
		for _, class := range []admission.Class{admission.Device, admission.Job, admission.Answer} {
			leave, err := g.Enter(t.Context(), admission.Ticket{Class: class})
			if err != nil {
				t.Fatal(err)
			}
			leave()
			time.Sleep(time.Second)
		}
		if q := g.Stats().Quiet; q != 3*time.Second {
			t.Errorf("quiet for %v, want 3s since the device: jobs and answers do not count", q)
		}
	})
}
