package osservice

import "sync"

// Host is whoever runs the function: systemd, the service manager of Windows
// or a person at a console. Its methods may be called at any time and from
// several goroutines.
type Host struct {
	notify  *notifier
	once    sync.Once
	ready   chan struct{} // closed when the function serves
	reloads chan struct{} // holds one: wishes that come together are one
	windows bool          // the service manager of Windows started it
}

func newHost(n *notifier) *Host {
	return &Host{notify: n, ready: make(chan struct{}), reloads: make(chan struct{}, 1)}
}

// Ready reports that the function serves: once every listener is open, and
// after each reload, whether it was applied or refused.
func (h *Host) Ready() {
	h.once.Do(func() { close(h.ready) })
	h.notify.send("READY=1")
}

// Reloading reports that the configuration is being read again. Ready must
// follow: systemd waits for it.
func (h *Host) Reloading() {
	h.notify.send(reloading())
}

// Reloads yields a value when somebody asks for the configuration to be read
// again: SIGHUP, or the parameter-change control of Windows ("sc control NAME
// paramchange"). Several before the first is taken are one.
func (h *Host) Reloads() <-chan struct{} { return h.reloads }

// WindowsService reports whether the service manager of Windows started the
// process: it then has no console, and nobody reads its standard error.
func (h *Host) WindowsService() bool { return h.windows }

// wishReload never blocks.
func (h *Host) wishReload() {
	select {
	case h.reloads <- struct{}{}:
	default: // one is waiting already
	}
}
