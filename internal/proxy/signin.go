package proxy

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"sync"
	"time"
)

const (
	// holdFor is how long a proxy is not asked again that refused user and
	// password: such accounts are often those of a directory, which locks them
	// after a few wrong passwords.
	holdFor = 5 * time.Minute

	// trustFor is how long after a sign-in that succeeded others need not wait
	// for each other.
	trustFor = time.Minute

	mostAccounts = 128
)

// accounts is what this process knows of users at proxies. It is one for all
// tunnellers: tenants often share a proxy and its user, a reload makes new
// ones, and a directory counts what comes from any of them.
var accounts = struct {
	mu  sync.Mutex
	all map[[sha256.Size]byte]*account
}{all: map[[sha256.Size]byte]*account{}}

// account is one user with one password at one proxy.
type account struct {
	turn chan struct{} // of one place: held by who signs in while nobody knows whether the password is right

	mu    sync.Mutex
	held  *Error // what is answered without asking, nil: nothing
	until time.Time
	good  time.Time // the last sign-in that succeeded
	used  time.Time
}

// accountOf finds what is known of the configured user. A changed password is
// another account. Of too many, the one that was used the longest ago is
// forgotten.
func (t *tunneller) accountOf() *account {
	key := sha256.Sum256([]byte(t.address + "\x00" + t.config.User + "\x00" + t.config.Password.Reveal()))
	accounts.mu.Lock()
	defer accounts.mu.Unlock()
	a := accounts.all[key]
	if a == nil {
		for len(accounts.all) >= mostAccounts {
			forgetOldest()
		}
		a = &account{turn: make(chan struct{}, 1)}
		accounts.all[key] = a
	}
	a.used = time.Now()
	return a
}

func forgetOldest() {
	var oldest [sha256.Size]byte
	var at time.Time
	for key, a := range accounts.all {
		if at.IsZero() || a.used.Before(at) {
			oldest, at = key, a.used
		}
	}
	delete(accounts.all, oldest)
}

// signIn waits until user and password may be sent: at once when they were
// right lately, otherwise one at a time, so that a wrong password is sent once
// however many dial. What is returned takes the outcome.
func (t *tunneller) signIn(ctx context.Context, target string) (done func(error), err error) {
	if t.config.User == "" {
		return func(error) {}, nil
	}
	a := t.accountOf()
	if trusted, err := a.known(target); trusted || err != nil {
		return a.learn, err
	}
	select {
	case a.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, t.failed(target, "leaves another sign-in unanswered", ctx.Err())
	}
	trusted, err := a.known(target)
	if trusted || err != nil {
		<-a.turn
		return a.learn, err
	}
	return func(err error) { a.learn(err); <-a.turn }, nil
}

// known reports whether the password was right lately, or the refusal that
// rests.
func (a *account) known(target string) (trusted bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if a.held != nil && now.Before(a.until) {
		refusal := *a.held
		refusal.Target = target
		return false, &refusal
	}
	return now.Sub(a.good) < trustFor, nil
}

// learn remembers what the proxy said of user and password. One that answers
// for the target, well or not, took them.
func (a *account) learn(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e, refused := errors.AsType[*Error](err)
	switch {
	case err == nil, refused && (e.Status == http.StatusBadGateway || e.Status == http.StatusGatewayTimeout):
		a.held, a.good = nil, time.Now()
	case refused && e.SignsIn && e.WantsPerson():
		a.held, a.until, a.good = e, time.Now().Add(holdFor), time.Time{}
	}
}
