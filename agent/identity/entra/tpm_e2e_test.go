//go:build e2ekeys

package entra_test

import (
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/identity/entra"
	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/internal/keys/keystest"
)

// TestRotationInTPM has the keys of a managed certificate made in a TPM: what
// was made in files goes on there, its successor is in the TPM, and so is what
// is adopted from it.
func TestRotationInTPM(t *testing.T) {
	devices := keys.New(keys.Config{TPM: keystest.NewTPM(t).Socket})
	defer devices.Close() //nolint:errcheck // the test is over
	inTPM := func(c *entra.Config) { c.Keys, c.Where, c.NewKey, c.KeyBits = devices, keys.TPM, nil, 2048 }
	w := newWorld(t, inTPM)
	w.created()
	w.clock = w.clock.Add(241 * day)
	w.pass(10*day, time.Hour)
	if s := w.states(); s != "2 working" {
		t.Fatalf("rotated: %s", s)
	}
	w.open()
	for _, i := range w.store.Items() {
		if i.Key != keys.TPM {
			t.Errorf("%s has its key in %q", i.Name, i.Key)
		}
	}
	current := w.store.Certificates()[0]
	if keys.PlaceOf(current.Signer) != keys.TPM {
		t.Error("the key was read into memory")
	}
	if err := keys.CheckSigns(current.Signer); err != nil {
		t.Error(err)
	}
	other := newWorld(t, inTPM)
	if err := other.store.Adopt(t.Context(), current); err != nil {
		t.Fatal(err)
	}
	if i := other.store.Items(); len(i) != 1 || i[0].Key != keys.TPM {
		t.Errorf("adopted: %+v", i)
	}
}
