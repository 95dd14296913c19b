package control

import "testing"

func TestPermitted(t *testing.T) {
	for _, row := range []struct {
		name string
		peer uint32
		own  int
		want bool
	}{
		{"root may", 0, 997, true},
		{"the service's own account may", 997, 997, true},
		{"another account may not", 1000, 997, false},
		{"another account may not use a service of root", 1000, 0, false},
		{"no account is -1", 1<<32 - 1, -1, false},
	} {
		if got := permitted(row.peer, row.own); got != row.want {
			t.Errorf("%s: %v", row.name, got)
		}
	}
}
