package journaltest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/certconnector/certconnector/agent/journal"
)

// testIssued: a certificate is found by CA and serial number.
func testIssued(t *testing.T, open func(*testing.T) *fixture) {
	f := open(t)
	e, _ := f.bring("corp", journal.Issued)
	f.bring("other", journal.Verified)
	compare(t, "issued entry", must(f.Journal.Issued(t.Context(), e.CA, e.Serial))(t), e)
	for _, row := range []struct{ name, ca, serial string }{
		{"another CA", "other", e.Serial}, {"another serial number", e.CA, "00FF"}, {"no serial number", e.CA, ""},
	} {
		_, err := f.Journal.Issued(t.Context(), row.ca, row.serial)
		wantError(t, row.name, err, journal.ErrNotFound)
	}
}

func testLists(t *testing.T, open func(*testing.T) *fixture) {
	f := open(t)
	for i, state := range []journal.State{journal.Verified, journal.Released, journal.Failed, journal.Released} {
		f.bring(fmt.Sprint("corp-", i), state) // entries 1 to 4 in the tables below
	}
	in := f.intent("branch")
	in.Endpoint, in.Tenant = "branch", "fabrikam"
	f.begin(in)
	all := must(f.Journal.List(t.Context(), journal.Query{}))(t)
	if len(all) != 5 {
		t.Fatalf("list has %d entries, want 5", len(all))
	}
	id := func(n int) int64 { return all[5-n].ID } // the n-th entry begun
	rows := []struct {
		name string
		q    journal.Query
		want []int
	}{
		{"newest first", journal.Query{}, []int{5, 4, 3, 2, 1}},
		{"the limit holds", journal.Query{Limit: 2}, []int{5, 4}},
		{"before an entry", journal.Query{Before: id(3)}, []int{2, 1}},
		{"of one endpoint", journal.Query{Endpoint: "branch"}, []int{5}},
		{"of one tenant", journal.Query{Tenant: "contoso", Limit: 2}, []int{4, 3}},
		{"of another tenant", journal.Query{Tenant: "fabrikam"}, []int{5}},
		{"of some states", journal.Query{States: []journal.State{journal.Released, journal.Failed}}, []int{4, 3, 2}},
		{"of all conditions", journal.Query{States: []journal.State{journal.Released}, Endpoint: "corp", Before: id(4), Limit: 9}, []int{2}},
		{"of nothing", journal.Query{Endpoint: "nowhere"}, nil},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			var got, want []int64
			for _, e := range must(f.Journal.List(t.Context(), row.q))(t) {
				got = append(got, e.ID)
				compare(t, "listed entry", e, f.entry(e.ID))
			}
			for _, n := range row.want {
				want = append(want, id(n))
			}
			if !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	t.Run("a hundred where there is no limit", func(t *testing.T) {
		for i := range 100 {
			in := f.intent(fmt.Sprint("more-", i))
			in.Lazy = true
			f.begin(in)
		}
		if n := len(must(f.Journal.List(t.Context(), journal.Query{}))(t)); n != 100 {
			t.Errorf("list has %d entries, want 100", n)
		}
	})
}
