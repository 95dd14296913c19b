package sspi

import "sync"

// lease says when handles may be given back to Windows: once, and not while a
// call uses them. A call cannot be told to stop; the one that outlives its
// caller gives them back when it returns.
type lease struct {
	giveBack func()

	mu    sync.Mutex
	busy  bool // a call uses them
	over  bool // nobody wants them any more
	given bool
}

// begin takes the handles for a call, unless they are in use or not wanted any
// more.
func (l *lease) begin() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.busy || l.over {
		return false
	}
	l.busy = true
	return true
}

// end is called when a call that began has returned.
func (l *lease) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.busy = false
	l.settle()
}

// close says that nobody wants them any more.
func (l *lease) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	l.settle()
}

func (l *lease) settle() {
	if l.over && !l.busy && !l.given {
		l.given = true
		l.giveBack()
	}
}
