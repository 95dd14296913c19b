package adcstest

import (
	"os"
	"testing"

	"github.com/oiweiwei/gokrb5.fork/v9/credentials"
	"github.com/oiweiwei/gokrb5.fork/v9/keytab"
)

func TestKDCGivesTickets(t *testing.T) {
	k := StartKDC(t, "CORP.TEST", map[string]string{"svc": DefaultPassword, "host/ca01.corp.test": "another one"})
	if _, err := keytab.Load(k.KeytabFile); err != nil {
		t.Fatalf("the keytab does not read: %v", err)
	}
	file := k.TicketCache("svc")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Fatalf("credential cache: %v", err)
	}
	cache, err := credentials.LoadCCache(file)
	if err != nil || cache.GetClientRealm() != "CORP.TEST" {
		t.Fatalf("credential cache of realm %q: %v", cache.GetClientRealm(), err)
	}
}
