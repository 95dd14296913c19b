package sspi

import "testing"

// A context that is closed during a call, because somebody would not wait any
// longer, is given back when that call returns, and once.
func TestHandlesAreGivenBackWhenNoCallUsesThem(t *testing.T) {
	given := 0
	l := &lease{giveBack: func() { given++ }}
	if !l.begin() {
		t.Fatal("nobody uses them, and they cannot be had")
	}
	if l.begin() {
		t.Error("two calls use them at once")
	}
	l.close()
	if given != 0 {
		t.Error("they were given back under a call that uses them")
	}
	l.end()
	l.close()
	if given != 1 {
		t.Errorf("given back %d times", given)
	}
	if l.begin() {
		t.Error("a call begins with handles that are gone")
	}
}

func TestHandlesAreGivenBackByClose(t *testing.T) {
	given := 0
	l := &lease{giveBack: func() { given++ }}
	l.begin()
	l.end()
	if given != 0 {
		t.Error("they were given back between two calls")
	}
	l.close()
	if given != 1 {
		t.Errorf("given back %d times", given)
	}
}
