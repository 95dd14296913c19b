package scephttp

import (
	"strconv"
	"testing"
	"time"

	"github.com/certconnector/certconnector/scep"
)

// The table of transactions stays bounded; one that somebody vouched for, and
// one that still comes, is not dropped for strangers.
func TestTransactionsAreBounded(t *testing.T) {
	table, now := newTransactions(time.Hour, 24), time.Unix(1e9, 0)
	message := func(id string) *scep.Unverified {
		return &scep.Unverified{TransactionID: id, Signer: &scep.Signer{RawSubjectPublicKeyInfo: []byte("key")}}
	}
	come := func(id string, granted bool) time.Time {
		u := message(id)
		v := table.visit("corp", u, now)
		table.remember(v, u.Signer, granted, now)
		return v.first
	}
	first := now
	come("granted", true)
	come("faithful", false)
	for i := range 500 {
		now = now.Add(time.Second)
		come(strconv.Itoa(i), false)
		if at := come("faithful", false); !at.Equal(first) {
			t.Fatalf("after %d strangers: came first at %v", i, at)
		}
	}
	if v := table.visit("corp", message("granted"), now); !v.known || !v.first.Equal(first) {
		t.Error("strangers made a granted one forgotten")
	}
	if n := len(table.seen); n > 24 {
		t.Errorf("%d are remembered", n)
	}
	other := message("granted")
	other.Signer = &scep.Signer{RawSubjectPublicKeyInfo: []byte("another key")}
	if table.visit("corp", other, now).known || table.visit("branch", message("granted"), now).known {
		t.Error("another key or endpoint is taken for the same transaction")
	}
	if v := table.visit("corp", message("granted"), first.Add(-time.Minute)); v.known {
		t.Error("a clock that was set back makes a challenge older than it is")
	}
}
