//go:build !windows

package sspi

import "context"

// Available says whether this system has SSPI.
func Available() bool { return false }

// Context is a sign-in; there are none here.
type Context struct{}

// New returns ErrNotWindows.
func New(Request) (*Context, error) { return nil, ErrNotWindows }

// Step returns ErrNotWindows.
func (*Context) Step(context.Context, []byte) (out []byte, done bool, err error) {
	return nil, false, ErrNotWindows
}

// SignatureSize is 0.
func (*Context) SignatureSize() int { return 0 }

// Seal returns ErrNotWindows.
func (*Context) Seal([]Part) (signature []byte, err error) { return nil, ErrNotWindows }

// Open returns ErrNotWindows.
func (*Context) Open([]Part, []byte) error { return ErrNotWindows }

// Close has nothing to do.
func (*Context) Close() {}
