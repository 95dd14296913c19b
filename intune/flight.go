package intune

import (
	"context"
	"sync"
)

// flight lets one of many concurrent callers do a piece of work and gives its
// result to all who wait. The work runs in the goroutine and the context of
// the one who does it; when that one is cancelled, another takes over.
type flight[T any] struct {
	mu      sync.Mutex
	current *landing[T]
}

type landing[T any] struct {
	done   chan struct{}
	value  T
	err    error
	gaveUp bool // the worker's own context ended: the error is not everyone's
}

func (f *flight[T]) do(ctx context.Context, work func(context.Context) (T, error)) (T, error) {
	for {
		f.mu.Lock()
		l := f.current
		if l == nil {
			l = &landing[T]{done: make(chan struct{})}
			f.current = l
			f.mu.Unlock()
			f.land(ctx, l, work)
			return l.value, l.err
		}
		f.mu.Unlock()
		select {
		case <-l.done:
			if !l.gaveUp {
				return l.value, l.err
			}
		case <-ctx.Done():
			var none T
			return none, ctx.Err()
		}
	}
}

// land does the work; those who wait are released even if it panics.
func (f *flight[T]) land(ctx context.Context, l *landing[T], work func(context.Context) (T, error)) {
	l.gaveUp = true
	defer func() {
		f.mu.Lock()
		f.current = nil
		f.mu.Unlock()
		close(l.done)
	}()
	l.value, l.err = work(ctx)
	l.gaveUp = l.err != nil && ctx.Err() != nil
}
