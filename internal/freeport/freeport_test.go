package freeport

import (
	"net"
	"strings"
	"testing"
)

func TestPortsAreGivenOnce(t *testing.T) {
	seen := map[string]bool{}
	for range 200 {
		address := ForTest(t)
		if seen[address] {
			t.Fatalf("%s was given twice", address)
		}
		seen[address] = true
	}
	for address := range seen {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Errorf("it cannot be opened: %v", err)
			continue
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if !strings.HasPrefix(address, "127.0.0.1:") {
			t.Errorf("%s is not on loopback", address)
		}
	}
}

func TestReleasedPortsCanBeKeptAgain(t *testing.T) {
	address, release, err := Reserve()
	if err != nil {
		t.Fatal(err)
	}
	if other, err := net.ListenPacket("udp", address); err == nil {
		_ = other.Close()
		t.Error("others would not see that it is taken")
	}
	if err := release(); err != nil {
		t.Fatal(err)
	}
	if err := release(); err == nil {
		t.Error("it was not released the first time")
	}
}

// What is given lies beside what the system gives away.
func TestBeside(t *testing.T) {
	for _, row := range []struct {
		name                string
		from, to, low, high int
	}{
		{"as Linux has it", 32768, 60999, 10000, 32768},
		{"as Windows has it", 49152, 65535, 10000, 32768},
		{"most of them, from below", 1024, 60999, 61000, 65536},
		{"most of them, to the end", 15000, 65535, 10000, 15000},
		{"more is left above", 12000, 40000, 40001, 65536},
		{"all", 1024, 65535, 10000, 32768},
	} {
		if low, high := beside(row.from, row.to); low != row.low || high != row.high {
			t.Errorf("%s: from %d to %d, want from %d to %d", row.name, low, high-1, row.low, row.high-1)
		}
	}
}
