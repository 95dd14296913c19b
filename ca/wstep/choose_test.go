package wstep

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"
	"time"
)

func TestCAIsChosenByName(t *testing.T) {
	entry := func(name string, reference int, years int) policyCA {
		return policyCA{reference: reference, certificate: &x509.Certificate{
			Subject: pkix.Name{CommonName: name}, NotAfter: time.Date(2026+years, 1, 1, 0, 0, 0, 0, time.UTC),
		}}
	}
	for _, c := range []struct {
		name   string
		wanted string
		cas    []policyCA
		want   int // reference; -1: an error
	}{
		{"only one needs no name", "", []policyCA{entry("Issuing", 3, 1)}, 3},
		{"one of several by its name", "Devices", []policyCA{entry("Issuing", 0, 9), entry("Devices", 1, 1), entry("Users", 2, 5)}, 1},
		{"several and no name", "", []policyCA{entry("Issuing", 0, 1), entry("Devices", 1, 1)}, -1},
		{"name that is not there", "Devices", []policyCA{entry("Issuing", 0, 1)}, -1},
		{"no CA at all", "", nil, -1},
		{"renewed CA by its later certificate", "", []policyCA{entry("Issuing", 0, 1), entry("Issuing", 1, 5), entry("Issuing", 2, 3)}, 1},
	} {
		got, err := (&CA{config: Config{CA: c.wanted}}).choose(&policy{cas: c.cas})
		if (err != nil) != (c.want < 0) || err == nil && got.reference != c.want {
			t.Errorf("%s: got %d, %v, want %d", c.name, got.reference, err, c.want)
		}
	}
}
