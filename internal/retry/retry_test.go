package retry_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certconnector/certconnector/internal/retry"
)

func TestDelaysGrowToTheCeilingAndDiffer(t *testing.T) {
	s := retry.Schedule{First: time.Second, Most: time.Minute}
	for failed, middle := range map[int]time.Duration{
		1: time.Second, 2: 2 * time.Second, 4: 8 * time.Second, 6: 32 * time.Second, 7: time.Minute, 1000: time.Minute,
	} {
		seen := map[time.Duration]bool{}
		for range 50 {
			d := s.Delay(failed)
			seen[d] = true
			if d < middle*8/10 || d > middle*12/10 {
				t.Fatalf("after %d failures %v, want %v ± 20 %%", failed, d, middle)
			}
		}
		if len(seen) < 2 {
			t.Errorf("after %d failures every caller waits as long", failed)
		}
	}
}

func TestWaitEndsWithTimeOrContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := retry.Wait(t.Context(), time.Hour); err != nil || time.Since(began) != time.Hour {
			t.Errorf("waited %v, %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began = time.Now()
		if err := retry.Wait(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
			t.Errorf("waited %v, %v", time.Since(began), err)
		}
	})
}
