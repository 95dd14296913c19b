package sqlite

import (
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

// TestNothingUnsyncedIsShown: a read that shares a transaction with a durable
// change, and so may have seen it, is answered after the sync. Otherwise a
// second exchange could hand out a certificate whose release a power failure
// then takes back.
func TestNothingUnsyncedIsShown(t *testing.T) {
	c, err := openConn(newJournalFile(t), "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	w := &writer{c: c, j: &Journal{clock: time.Now}}
	write := func(m mode, name string) *op {
		in := request(name, m == lazy)
		return &op{mode: m, answer: make(chan error, 1), run: func(c *conn) (bool, error) {
			_, err := insert(c, &in)
			return true, err
		}}
	}
	missing := func() *op {
		return &op{mode: lazy, answer: make(chan error, 1), run: func(c *conn) (bool, error) {
			return false, journal.ErrNotFound
		}}
	}
	read := func() *op {
		return &op{mode: lazy, answer: make(chan error, 1), run: func(c *conn) (bool, error) {
			_, err := load(c, 1)
			return false, err
		}}
	}
	answered := func(o *op) bool {
		select {
		case err := <-o.answer:
			if err != nil && err != journal.ErrNotFound {
				t.Error(err)
			}
			return true
		default:
			return false
		}
	}
	early, before, change, after, late := write(lazy, "early"), read(), write(durable, "change"), read(), write(lazy, "late")
	blind, none := write(own, "blind"), missing()
	for _, o := range []*op{early, before, change, after, late, blind, none} {
		w.run(o)
	}
	if !answered(early) || !answered(before) {
		t.Error("operations before the durable one were made to wait for it")
	}
	if answered(change) || answered(after) || answered(late) {
		t.Fatal("an operation was answered before the sync that it stands on")
	}
	if !answered(blind) || !answered(none) {
		t.Error("an operation that shows nothing of the change was made to wait for it")
	}
	w.commit()
	if !answered(change) || !answered(after) || !answered(late) {
		t.Error("an operation was not answered after the sync")
	}
}
