package ca

import "context"

// Turner is an Authority in front of a CA that takes so many calls at one time.
// Issue takes a turn by itself; the optional interfaces of its roads, as Ability
// finds them, are called past it, and whoever calls one takes a turn before.
//
// The marks of package admission in the context say who goes first. The error
// wraps ErrUnavailable: the CA was not asked. Whoever holds a turn calls neither
// Issue nor Turn.
type Turner interface {
	Turn(ctx context.Context) (leave func(), err error)
}

// Turn takes a turn at an Authority, if it knows turns; leave ends it and is
// never nil without an error.
func Turn(ctx context.Context, a Authority) (leave func(), err error) {
	if t, ok := a.(Turner); ok {
		return t.Turn(ctx)
	}
	return func() {}, nil
}
