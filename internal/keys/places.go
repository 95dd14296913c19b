package keys

import (
	"os"
	"sync"
)

// maxPlaces bounds how many files' places are remembered: more than an
// installation has keys.
const maxPlaces = 256

// places remembers what PlaceOfFile has found: the inventory asks for each row,
// each time that somebody looks at it.
var places placeCache

type placeCache struct {
	mu    sync.Mutex
	known map[string]knownPlace
}

// knownPlace is what a file told when it was this one.
type knownPlace struct {
	file  os.FileInfo
	place Place
}

// of returns the place of a file that is still the same: not replaced, and
// neither its size nor its time of change another.
func (c *placeCache) of(path string, now os.FileInfo) (Place, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.known[path]
	if !ok || k.file.Size() != now.Size() || !k.file.ModTime().Equal(now.ModTime()) || !os.SameFile(k.file, now) {
		return "", false
	}
	return k.place, true
}

// remember notes what a file told that was looked at before it was read: one
// that was replaced meanwhile is not the same any more.
func (c *placeCache) remember(path string, before os.FileInfo, place Place) {
	_ = os.SameFile(before, before) // Windows asks which file it is only now
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= maxPlaces {
		c.known = map[string]knownPlace{}
	}
	c.known[path] = knownPlace{before, place}
}
