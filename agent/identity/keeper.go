package identity

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/retry"
)

// Config is what a Keeper needs.
type Config struct {
	Clock func() time.Time // nil: time.Now
	// Wait returns after a time, or when ctx ends with its error. nil: by the
	// machine's clock. A test lets years pass here.
	Wait func(ctx context.Context, d time.Duration) error

	LookEvery time.Duration // at files; 0: a minute
	TendEvery time.Duration // 0: an hour
	Patience  time.Duration // for one Own in one round, by the machine's clock; 0: 5 min

	Log *zap.Logger // nil: nothing is logged
}

// Keeper looks after everything of our own. It is safe for concurrent use.
type Keeper struct {
	cfg Config

	mu     sync.Mutex // guards owns
	owns   []Own
	failed map[Own]failure // of the loop and Tend alone, which hold tending
	said   map[string]string

	tending sync.Mutex // one round at a time
}

// failure is what was logged of an Own last.
type failure struct {
	text    string
	at      time.Time
	looking bool
}

// NewKeeper returns a Keeper of nothing.
func NewKeeper(cfg Config) *Keeper {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Wait == nil {
		cfg.Wait = retry.Wait
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	cfg.LookEvery = cmp.Or(cfg.LookEvery, time.Minute)
	cfg.TendEvery = cmp.Or(cfg.TendEvery, time.Hour)
	cfg.Patience = cmp.Or(cfg.Patience, 5*time.Minute)
	return &Keeper{cfg: cfg, failed: map[Own]failure{}, said: map[string]string{}}
}

// Add puts something under the Keeper's care.
func (k *Keeper) Add(owns ...Own) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.owns = append(k.owns, owns...)
}

func (k *Keeper) all() []Own {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.owns)
}

// Run tends everything at once and then every hour, and looks at files every
// minute, until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	var tended time.Time
	for {
		if now := k.cfg.Clock(); tended.IsZero() || now.Sub(tended) >= k.cfg.TendEvery || now.Before(tended) {
			tended = now
			k.Tend(ctx)
		} else {
			k.look()
		}
		if err := k.cfg.Wait(ctx, k.cfg.LookEvery); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("waiting for the next look at our own certificates: %w", err)
		}
	}
}

// Tend is one round: everything that is due, all at the same time, so that a
// CA which does not answer keeps nothing else waiting. Then it warns.
func (k *Keeper) Tend(ctx context.Context) {
	k.tending.Lock()
	defer k.tending.Unlock()
	owns := k.all()
	errs := make([]error, len(owns))
	var wg sync.WaitGroup
	for i, own := range owns {
		wg.Go(func() {
			limited, cancel := context.WithTimeout(ctx, k.cfg.Patience)
			defer cancel()
			errs[i] = own.Tend(limited)
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return // cut off: nothing that failed is news
	}
	for i, own := range owns {
		k.report(own, errs[i], false)
	}
	k.warn(k.Inventory())
}

// look has files looked at.
func (k *Keeper) look() {
	k.tending.Lock()
	defer k.tending.Unlock()
	for _, own := range k.all() {
		if l, ok := own.(Looker); ok {
			k.report(own, l.Look(), true)
		}
	}
}

// report logs a failure once, again when it is another one, and once a day.
// A look that finds nothing wrong does not end what tending failed at.
func (k *Keeper) report(own Own, err error, looking bool) {
	last, known := k.failed[own]
	if err == nil {
		if last.looking == looking || !looking {
			delete(k.failed, own)
		}
		return
	}
	now := k.cfg.Clock()
	if known && last.text == err.Error() && now.Sub(last.at) < day {
		return
	}
	k.failed[own] = failure{err.Error(), now, looking}
	k.cfg.Log.Warn("own certificate needs attention", zap.Error(err))
}

// ErrUnknown says that nothing of ours has a name, or that it is not ours to
// renew.
var ErrUnknown = errors.New("nothing of that name is renewed by the service")

// Renew renews what has a name of the inventory now, due or not. The error is
// ErrUnknown for a name that we do not renew.
func (k *Keeper) Renew(ctx context.Context, name string) error {
	err := fmt.Errorf("%w: %q", ErrUnknown, name)
	for _, own := range k.all() {
		if r, ok := own.(Renewer); ok && r.Named(name) {
			if err = r.Renew(ctx); err != nil {
				return err
			}
		}
	}
	return err
}

// Inventory lists everything, what ends first at the top and what has no known
// end at the bottom.
func (k *Keeper) Inventory() []Item {
	now := k.cfg.Clock()
	var items []Item
	for _, own := range k.all() {
		for _, i := range own.Items() {
			if i.ended(now) && i.Kind != KindRAPrevious {
				i.Problem = strings.TrimSpace("expired on " + date(i.NotAfter) + ". " + i.Problem)
			}
			items = append(items, i)
		}
	}
	shared(items)
	slices.SortStableFunc(items, func(a, b Item) int {
		if a.NotAfter.IsZero() != b.NotAfter.IsZero() {
			if a.NotAfter.IsZero() {
				return 1
			}
			return -1
		}
		return cmp.Or(a.NotAfter.Compare(b.NotAfter), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
	})
	return items
}

// Problems are the rows that a person should look at.
func (k *Keeper) Problems() []Item {
	return slices.DeleteFunc(k.Inventory(), func(i Item) bool { return i.Problem == "" })
}

func (i Item) ended(now time.Time) bool { return !i.NotAfter.IsZero() && !now.Before(i.NotAfter) }
