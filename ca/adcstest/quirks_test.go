package adcstest

import (
	"strings"
	"testing"

	"github.com/oiweiwei/go-msrpc/dcerpc"
	"github.com/oiweiwei/go-msrpc/msrpc/dcom/csra"
	admin "github.com/oiweiwei/go-msrpc/msrpc/dcom/csra/icertadmind/v0"
)

func TestViewQuirks(t *testing.T) {
	for _, c := range []struct {
		name        string
		quirks      Quirks
		from, count uint32
		fetched     uint32
		code        int32
		closing     bool
		fault       bool
	}{
		{"all rows end with S_FALSE and a closing row", Quirks{}, 0, 100, 4, SFalse, true, false},
		{"a page in the midst", Quirks{}, 1, 2, 2, 0, false, false},
		{"past the end", Quirks{}, 9, 2, 0, SFalse, true, false},
		{"first row is 1", Quirks{FirstRow: 1}, 1, 100, 4, SFalse, true, false},
		{"first row is 1, number 0 refused", Quirks{FirstRow: 1}, 0, 100, 0, InvalidArgument, false, false},
		{"first row is 1, number 0 empty", Quirks{FirstRow: 1, EmptyRowZero: true}, 0, 100, 0, 0, false, false},
		{"no S_FALSE", Quirks{NoSFalse: true}, 0, 100, 4, 0, true, false},
		{"no closing row", Quirks{NoClosingRow: true}, 0, 100, 4, SFalse, false, false},
		{"short pages", Quirks{PageLimit: 3}, 0, 100, 3, 0, false, false},
		{"damaged rows point outside", Quirks{}, 0, 100, 4, SFalse, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			ca := newCA(t, Options{Quirks: c.quirks})
			for range 4 {
				mustIssue(t, ca)
			}
			if c.fault {
				ca.Fail(DamagedRows, 1)
			}
			ca.mu.Lock()
			defer ca.mu.Unlock()
			v, hr := ca.openView([]uint32{firstRequestColumn, 0x1009}, nil)
			wantCode(t, hr, 0)
			fetched, b, code := ca.page(v, c.from, c.count)
			wantCode(t, code, c.code)
			if fetched != c.fetched {
				t.Errorf("%d rows, want %d", fetched, c.fetched)
			}
			damaged := false
			for range fetched {
				size := le.Uint32(b[8:])
				if end := le.Uint32(b[12+8:]) + le.Uint32(b[12+12:]); end > size {
					damaged = true
				}
				b = b[size:]
			}
			if damaged != c.fault || (len(b) == 12 && le.Uint32(b) == 4 && le.Uint32(b[4:]) == ^uint32(4)) != c.closing || len(b) > 12 {
				t.Errorf("damaged %t, want %t; after the rows %x", damaged, c.fault, b)
			}
		})
	}
}

func TestRestrictions(t *testing.T) {
	ca := newCA(t, Options{})
	for range 3 {
		mustIssue(t, ca)
	}
	raw := ca.Rows()[1].Request
	one := func(column uint32, operator, sort int32, value []byte) []*csra.CertViewRestriction {
		return []*csra.CertViewRestriction{{ColumnIndex: column, SeekOperator: operator, SortOrder: sort, Value: value, ValueLength: uint32(len(value))}}
	}
	for _, c := range []struct {
		name  string
		asked []*csra.CertViewRestriction
		hr    int32
		ids   []uint32
	}{
		{"greater or equal", one(0x1000, seekGreaterOrEqual, 0, le32(2)), 0, []uint32{2, 3}},
		{"less, downwards", one(0x1000, seekLess, 2, le32(3)), 0, []uint32{2, 1}},
		{"two are joined by and", append(one(0x1000, seekGreater, 0, le32(1)), one(0x1000, seekLessOrEqual, 0, le32(2))...), 0, []uint32{2}},
		{"binary equal", one(0x1001, seekEqual, 0, raw), 0, []uint32{2}},
		{"binary less is refused", one(0x1001, seekLess, 0, raw), InvalidArgument, nil},
		{"text without case", one(0x1011, seekEqual, 0, wireString(`corp\SVC`)), 0, []uint32{1, 2, 3}},
		{"two that sort are refused", append(one(0x1000, seekGreater, 1, le32(0)), one(0x1009, seekGreater, 1, le32(0))...), InvalidArgument, nil},
		{"unknown column", one(0x1999, seekEqual, 0, le32(0)), InvalidArgument, nil},
		{"unknown operator", one(0x1000, 3, 0, le32(0)), InvalidArgument, nil},
		{"value of the wrong size", one(0x1000, seekEqual, 0, []byte{1}), InvalidArgument, nil},
		{"date", one(0x100b, seekLess, 0, filetime(ca.Now().AddDate(1, 0, 0))), 0, []uint32{1, 2, 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ca.mu.Lock()
			defer ca.mu.Unlock()
			v, hr := ca.openView([]uint32{0x1000}, c.asked)
			wantCode(t, hr, c.hr)
			if hr != 0 {
				return
			}
			if len(v.rows) != len(c.ids) {
				t.Fatalf("%d rows, want %v", len(v.rows), c.ids)
			}
			for i, r := range v.rows {
				if r.id != c.ids[i] {
					t.Errorf("row %d is request %d, want %d", i, r.id, c.ids[i])
				}
			}
		})
	}
}

func TestSerialNumberQuirks(t *testing.T) {
	ca := newCA(t, Options{Quirks: Quirks{UpperCaseSerials: true, UnknownSerialEmpty: true}})
	_, cert := mustIssue(t, ca)
	for !strings.ContainsAny(serialText(cert.SerialNumber), "abcdef") {
		_, cert = mustIssue(t, ca)
	}
	rows := ca.Rows()
	wantCode(t, ca.Revoke("officer", serialText(cert.SerialNumber), 4, ca.Now()), PropertyEmpty)
	wantCode(t, ca.Revoke("officer", rows[len(rows)-1].Serial, 4, ca.Now()), 0)
}

func TestViewWithoutAnOpenOne(t *testing.T) {
	ca := newCA(t, Options{})
	c := newClient(t, serveRPC(t, ca, RPCOptions{}), "reader", dcerpc.WithSeal())
	ctx := c.context()
	d2, err := c.admin(ctx)
	if err != nil {
		t.Fatalf("activating: %v", err)
	}
	if got, _ := d2.CertAdminD().EnumView(ctx, &admin.EnumViewRequest{This: c.this, Authority: ca.Name(), Count: 1}); got == nil || got.Return != InvalidHandle {
		t.Errorf("EnumView: %v", got)
	}
	if got, _ := d2.CertAdminD().CloseView(ctx, &admin.CloseViewRequest{This: c.this, Authority: ca.Name()}); got == nil || got.Return != InvalidHandle {
		t.Errorf("CloseView: %v", got)
	}
}
