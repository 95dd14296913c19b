package admission

import "sync"

// Counts bounds how many of one key are under way at one time. A key of which
// nothing is under way costs no memory. It is safe for concurrent use; the zero
// value is ready.
type Counts[K comparable] struct {
	mu sync.Mutex
	in map[K]int
}

// Enter counts one more of a key, unless as many as may be are under way. Who
// entered must Leave.
func (c *Counts[K]) Enter(key K, most int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.in[key]
	if n >= most {
		return false
	}
	if c.in == nil {
		c.in = map[K]int{}
	}
	c.in[key] = n + 1
	return true
}

// Leave counts one less of a key.
func (c *Counts[K]) Leave(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.in[key]--; c.in[key] <= 0 {
		delete(c.in, key)
	}
}
