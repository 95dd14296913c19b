// Package freeport finds ports on loopback for programs that must be told one
// before they open it: those of tests and of the laboratory. A listener that
// can be opened on port 0 needs none of this.
//
// To ask the system for a port, close it and name it to a program is a race:
// until the program opens it, the system may give it to anybody who asks for
// any port, and to outgoing connections. So the ports here are none of those
// that the system gives away by itself, and whoever takes one keeps the UDP
// port of its number, which tells others who look for one here, in other
// processes too.
package freeport

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"testing"
)

// attempts are more than there can be tests that run at one time.
const attempts = 2000

// Reserve returns a loopback address, 127.0.0.1 with a port, that nobody
// listens at and nobody else is given before release is called.
func Reserve() (address string, release func() error, err error) {
	low, high := given()
	var last error
	for range attempts {
		address = net.JoinHostPort("127.0.0.1", strconv.Itoa(low+rand.IntN(high-low)))
		kept, err := net.ListenPacket("udp", address)
		if err != nil {
			last = err
			continue
		}
		l, err := net.Listen("tcp", address)
		if err == nil {
			err = l.Close()
		}
		if err == nil {
			return address, kept.Close, nil
		}
		last = errors.Join(err, kept.Close())
	}
	return "", nil, fmt.Errorf("looking for a free port on loopback from %d to %d: %w", low, high-1, last)
}

// ForTest is Reserve until a test ends.
func ForTest(t testing.TB) string {
	t.Helper()
	address, release, err := Reserve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := release(); err != nil {
			t.Errorf("giving a port back: %v", err)
		}
	})
	return address
}

// given is the range of ports [low, high) that are given here: above those
// that services of a machine have, and beside those that its system gives away
// by itself (on Linux from 32768, on Windows from 49152; it can be set).
func given() (low, high int) {
	const bottom, top = 10000, 32768
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return bottom, top // no Linux
	}
	var from, to int
	if _, err := fmt.Sscan(string(b), &from, &to); err != nil {
		return bottom, top
	}
	return beside(from, to)
}

// beside is the larger of the ranges below and above what the system gives
// away. Where it gives away all, it is the usual range: nothing is better.
func beside(from, to int) (low, high int) {
	const bottom, top, end, enough = 10000, 32768, 65536, 1000
	below, above := min(from, top)-bottom, end-(to+1)
	switch {
	case below >= enough && below >= above, below >= enough && above < enough:
		return bottom, bottom + below
	case above >= enough:
		return to + 1, end
	}
	return bottom, top
}
