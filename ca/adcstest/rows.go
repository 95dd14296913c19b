package adcstest

import (
	"bytes"
	"cmp"
	"slices"
	"strings"

	"github.com/oiweiwei/go-msrpc/msrpc/dcom/csra"
)

// Operators of a restriction ([MS-CSRA], section 2.2.1.5).
const (
	seekEqual          int32 = 1
	seekLess           int32 = 2
	seekLessOrEqual    int32 = 4
	seekGreaterOrEqual int32 = 8
	seekGreater        int32 = 16
)

// restriction is one of a view, with its column.
type restriction struct {
	column   viewColumn
	operator int32
	value    []byte
	sort     int32 // 0 none, 1 ascending, 2 descending
}

// openView selects rows. The caller holds mu.
func (c *CA) openView(ids []uint32, asked []*csra.CertViewRestriction) (*view, int32) {
	known := map[uint32]viewColumn{}
	for _, col := range schema(c.quirks.OldSchema) {
		known[col.id] = col
	}
	v := &view{}
	for _, id := range ids {
		col, ok := known[id]
		if !ok {
			return nil, InvalidArgument
		}
		v.columns = append(v.columns, col)
	}
	var order *restriction
	var restrictions []restriction
	for _, a := range asked {
		col, ok := known[a.ColumnIndex]
		r := restriction{column: col, operator: a.SeekOperator, value: a.Value, sort: a.SortOrder}
		if !ok || !c.allows(r) || uint32(len(a.Value)) != a.ValueLength || r.sort != 0 && order != nil {
			return nil, InvalidArgument
		}
		restrictions = append(restrictions, r)
		if r.sort != 0 {
			order = &r
		}
	}
	for _, q := range c.rows {
		if !slices.ContainsFunc(restrictions, func(r restriction) bool { return !r.keeps(c.value(q, r.column.name)) }) {
			v.rows = append(v.rows, q)
		}
	}
	if order != nil {
		slices.SortStableFunc(v.rows, func(a, b *row) int {
			d := compareValues(order.column.kind, c.value(a, order.column.name), c.value(b, order.column.name))
			if order.sort == 2 {
				return -d
			}
			return d
		})
	}
	return v, 0
}

// allows checks a restriction: binary columns can be compared for equality only.
func (c *CA) allows(r restriction) bool {
	switch r.operator {
	case seekEqual, seekLess, seekLessOrEqual, seekGreaterOrEqual, seekGreater:
	default:
		return false
	}
	switch r.column.kind &^ indexedColumn {
	case typeLong:
		return len(r.value) == 4
	case typeDate:
		return len(r.value) == 8
	case typeBinary:
		return r.operator == seekEqual && !c.quirks.NoBinaryEqual
	}
	return true
}

func (r restriction) keeps(value []byte) bool {
	if value == nil {
		return false
	}
	switch d := compareValues(r.column.kind, value, r.value); {
	case d < 0:
		return r.operator&(seekLess|seekLessOrEqual) != 0
	case d > 0:
		return r.operator&(seekGreater|seekGreaterOrEqual) != 0
	}
	return r.operator&(seekEqual|seekLessOrEqual|seekGreaterOrEqual) != 0
}

// compareValues compares two values of a column; NULL comes first.
func compareValues(kind uint32, a, b []byte) int {
	switch {
	case a == nil || b == nil:
		return cmp.Compare(len(a), len(b))
	case kind&^indexedColumn == typeLong:
		return cmp.Compare(int32(le.Uint32(a)), int32(le.Uint32(b)))
	case kind&^indexedColumn == typeDate:
		return cmp.Compare(le.Uint64(a), le.Uint64(b))
	case kind&^indexedColumn == typeString:
		return strings.Compare(strings.ToLower(decodeUTF16(a, false)), strings.ToLower(decodeUTF16(b, false)))
	}
	return bytes.Compare(a, b)
}

// page encodes rows from a number on, as many as asked for or fewer. The
// caller holds mu.
func (c *CA) page(v *view, from, count uint32) (fetched uint32, b []byte, hr int32) {
	q := c.quirks
	if from < q.FirstRow {
		if q.EmptyRowZero {
			return 0, nil, 0
		}
		return 0, nil, InvalidArgument
	}
	rows := v.rows[min(uint64(from-q.FirstRow), uint64(len(v.rows))):]
	limit := uint64(count)
	if q.PageLimit > 0 {
		limit = min(limit, uint64(q.PageLimit))
	}
	end := limit >= uint64(len(rows))
	if !end {
		rows = rows[:limit]
	}
	damaged := len(rows) > 0 && c.takeLocked(DamagedRows)
	for _, r := range rows {
		b = append(b, c.encodeRow(v, r, damaged)...)
	}
	if end {
		if !q.NoClosingRow { // a header that counts all rows of the view
			total := uint32(len(v.rows))
			for _, n := range []uint32{total, ^total, 12} {
				b = le.AppendUint32(b, n)
			}
		}
		if !q.NoSFalse {
			hr = SFalse
		}
	}
	return uint32(len(rows)), b, hr
}

// encodeRow is CERTTRANSDBRESULTROW with its columns ([MS-CSRA], section 2.2.3).
func (c *CA) encodeRow(v *view, r *row, damaged bool) []byte {
	const header, column = 12, 16
	b := make([]byte, header+column*len(v.columns))
	for i, col := range v.columns {
		at := header + column*i
		le.PutUint32(b[at:], col.kind)
		le.PutUint32(b[at+4:], col.id)
		value := c.value(r, col.name)
		if value == nil {
			continue
		}
		le.PutUint32(b[at+8:], uint32(len(b)))
		le.PutUint32(b[at+12:], uint32(len(value)))
		b = align4(append(b, value...))
	}
	le.PutUint32(b, r.id)
	le.PutUint32(b[4:], uint32(len(v.columns)))
	le.PutUint32(b[8:], uint32(len(b)))
	if damaged && len(v.columns) > 0 {
		le.PutUint32(b[header+8:], uint32(len(b)))
		le.PutUint32(b[header+12:], 64)
	}
	return b
}
