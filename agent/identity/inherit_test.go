package identity_test

import (
	"testing"

	"github.com/certconnector/certconnector/agent/identity"
)

// The configuration is replaced while the keeper before it renews: the new one
// has opened the folder already, and must serve what was made since.
func TestWhatTheKeeperBeforeRenewedIsServed(t *testing.T) {
	w := newWorld(t)
	old := w.open(w.config())
	next := w.open(w.config())
	if err := next.Inherit(old); err != nil {
		t.Fatal(err)
	}
	if err := old.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	device := newDevice(t, w.serve(old), 4) // knows what the old one renewed
	keeper := identity.NewKeeper(identity.Config{Clock: w.clock.Now, Log: w.logger})
	keeper.Add(next)
	if err := keeper.Reread(); err != nil {
		t.Fatal(err)
	}
	if renewed, now := w.live(old), w.live(next); !now.Encryption.Certificate.Equal(renewed.Encryption.Certificate) {
		t.Error("the new configuration serves an older certificate")
	}
	device.client.URL = w.serve(next)
	if err := device.enrol(t.Context()); err != nil {
		t.Errorf("a device that was told of the renewed certificate: %v", err)
	}
}

// Files that were replaced while the process ran are remembered by it alone.
func TestKeysOfReplacedFilesAreInherited(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.Renew = nil
	first := w.open(cfg)
	device := newDevice(t, w.serve(first), 4)
	cfg.Signing, cfg.Encryption = w.operatorPair("signing", 2), w.operatorPair("encryption", 3)
	last := first
	for range 3 { // reload after reload
		next := w.open(cfg)
		if err := next.Inherit(last); err != nil {
			t.Fatal(err)
		}
		last = next
	}
	if n := len(w.live(last).Previous); n != 1 {
		t.Errorf("%d older pairs open messages, want the first one", n)
	}
	device.client.URL = w.serve(last)
	if err := device.enrol(t.Context()); err != nil {
		t.Errorf("a device that knows the certificates before: %v", err)
	}
}
