package enroll

import (
	"sync"

	"github.com/certconnector/certconnector/agent/journal"
)

// hub tells waiting exchanges what became of their entry. A watcher gets the
// newest state only: whatever it missed in between it need not answer.
type hub struct {
	mu       sync.Mutex
	watchers map[int64]map[*watch]struct{}
}

// watch is one exchange that waits for one entry.
type watch struct {
	entry   int64
	changed chan journal.Entry // capacity 1, the newest state
}

func newHub() *hub { return &hub{watchers: make(map[int64]map[*watch]struct{})} }

// watch begins before the state is read, so that no change falls between.
func (h *hub) watch(entry int64) *watch {
	w := &watch{entry: entry, changed: make(chan journal.Entry, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.watchers[entry] == nil {
		h.watchers[entry] = make(map[*watch]struct{})
	}
	h.watchers[entry][w] = struct{}{}
	return w
}

// leave ends a watch.
func (h *hub) leave(w *watch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.watchers[w.entry], w)
	if len(h.watchers[w.entry]) == 0 {
		delete(h.watchers, w.entry)
	}
}

// watched tells whether an exchange waits for an entry.
func (h *hub) watched(entry int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.watchers[entry]) > 0
}

// publish hands a new state to everyone who waits for the entry.
func (h *hub) publish(e journal.Entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers[e.ID] {
		select {
		case <-w.changed: // older news, not read yet
		default:
		}
		w.changed <- e
	}
}
