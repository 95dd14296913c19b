package jobs

import (
	"context"
	"fmt"
	"time"
)

// nameBook remembers what CAs are called: to read a chain may mean to ask a CA
// that is down, and jobs of other CAs would wait for it.
type nameBook struct {
	now  func() time.Time
	turn chan struct{} // holds one: whose turn it is with read
	read map[string]reading
}

func newNameBook(now func() time.Time) *nameBook {
	return &nameBook{now: now, turn: make(chan struct{}, 1), read: map[string]reading{}}
}

type reading struct {
	names caNames
	at    time.Time
	err   error
}

const (
	readWithin = 10 * time.Second
	goodFor    = time.Hour
	badFor     = time.Minute
)

// of returns the names of a CA: its own at the least, and with an error what
// was known before.
func (b *nameBook) of(ctx context.Context, c RevocationCA) (caNames, error) {
	select {
	case b.turn <- struct{}{}:
		defer func() { <-b.turn }()
	case <-ctx.Done():
		return namesOf(c.Name, nil), fmt.Errorf("reading the names of CA %q: %w", c.Name, ctx.Err())
	}
	now := b.now()
	last, ok := b.read[c.Name]
	age := goodFor
	if last.err != nil {
		age = badFor
	}
	if spent := now.Sub(last.at); ok && spent >= 0 && spent < age {
		return last.names, last.err
	}
	certificates := c.Certificates
	if certificates == nil {
		certificates = c.Authority.Chain
	}
	call, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	chain, err := certificates(call)
	switch {
	case err == nil:
		last = reading{names: namesOf(c.Name, chain)}
	case ok:
		last.err = fmt.Errorf("reading the names of CA %q: %w", c.Name, err)
	default:
		last = reading{names: namesOf(c.Name, nil), err: fmt.Errorf("reading the names of CA %q: %w", c.Name, err)}
	}
	last.at = b.now()
	b.read[c.Name] = last
	return last.names, last.err
}
