package adcstest

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/oiweiwei/go-msrpc/msrpc/dcom/csra"
	admin "github.com/oiweiwei/go-msrpc/msrpc/dcom/csra/icertadmind/v0"
)

// view is an open view: its rows are fixed when it is opened.
type view struct {
	rows    []*row
	columns []viewColumn
}

// OpenViews counts the views that nobody has closed.
func (r *RPC) OpenViews() int {
	r.e.mu.Lock()
	defer r.e.mu.Unlock()
	return len(r.e.views)
}

func align4(b []byte) []byte {
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func (f adminFace) EnumViewColumn(ctx context.Context, in *admin.EnumViewColumnRequest) (*admin.EnumViewColumnResponse, error) {
	r := &admin.EnumViewColumnResponse{That: that(), ColumnInfo: adminBlob(nil), Return: f.may(ctx, in.Authority, everyRole)}
	if r.Return != 0 {
		return r, nil
	}
	columns := schema(f.quirks().OldSchema)
	switch {
	case in.ColumnCount == 0:
		r.Return = InvalidArgument
	case int(in.Column) >= len(columns):
		r.Return = SFalse
	default:
		columns = columns[in.Column:]
		columns = columns[:min(len(columns), int(in.ColumnCount))]
		r.ColumnOutCount, r.ColumnInfo = uint32(len(columns)), adminBlob(encodeColumns(columns))
	}
	return r, nil
}

func (f adminFace) quirks() Quirks {
	f.ca.mu.Lock()
	defer f.ca.mu.Unlock()
	return f.ca.quirks
}

// encodeColumns is an array of CERTTRANSDBCOLUMN ([MS-CSRA], section 2.2.1.7).
func encodeColumns(columns []viewColumn) []byte {
	const size = 20
	var head, data []byte
	put := func(s string) uint32 {
		at := size*len(columns) + len(data)
		data = align4(append(data, wireString(s)...))
		return uint32(at)
	}
	for _, c := range columns {
		for _, v := range []uint32{c.kind, c.id, c.size, put(c.name), put(strings.TrimPrefix(c.name, "Request."))} {
			head = le.AppendUint32(head, v)
		}
	}
	return append(head, data...)
}

func (f adminFace) EnumAttributesOrExtensions(ctx context.Context, in *admin.EnumAttributesOrExtensionsRequest) (*admin.EnumAttributesOrExtensionsResponse, error) {
	r := &admin.EnumAttributesOrExtensionsResponse{That: that(), Out: adminBlob(nil), Return: f.may(ctx, in.Authority, everyRole)}
	if r.Return != 0 {
		return r, nil
	}
	const extensions = 1
	if in.RowID == 0 || in.Flags > extensions {
		r.Return = InvalidArgument
		return r, nil
	}
	f.ca.mu.Lock()
	defer f.ca.mu.Unlock()
	q := f.ca.row(in.RowID)
	switch {
	case q == nil:
		r.Return = PropertyEmpty
		return r, nil
	case in.Flags == extensions: // this CA keeps no extension rows
		r.Return = SFalse
		return r, nil
	}
	list := attributeLines(q.attributes)
	slices.SortStableFunc(list, func(a, b attribute) int { return strings.Compare(a.name, b.name) })
	if in.Last != "" {
		i := slices.IndexFunc(list, func(a attribute) bool { return strings.EqualFold(a.name, in.Last) })
		if i < 0 {
			r.Return = PropertyEmpty
			return r, nil
		}
		list = list[i+1:]
	}
	n := min(len(list), int(in.Count))
	if n == len(list) && n < int(in.Count) && !f.ca.quirks.NoSFalse {
		r.Return = SFalse
	}
	r.Fetched, r.Out = uint32(n), adminBlob(encodeAttributes(list[:n]))
	return r, nil
}

// encodeAttributes is an array of CERTTRANSDBATTRIBUTE ([MS-CSRA], section 2.2.1.9).
func encodeAttributes(list []attribute) []byte {
	const size = 8
	var head, data []byte
	for _, a := range list {
		for _, s := range []string{a.name, a.value} {
			head = le.AppendUint32(head, uint32(size*len(list)+len(data)))
			data = align4(append(data, wireString(s)...))
		}
	}
	return append(head, data...)
}

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

func (f adminFace) OpenView(ctx context.Context, in *admin.OpenViewRequest) (*admin.OpenViewResponse, error) {
	r := &admin.OpenViewResponse{That: that(), ResultRows: adminBlob(nil), Return: f.may(ctx, in.Authority, everyRole)}
	if r.Return != 0 {
		return r, nil
	}
	object := callOf(ctx).object
	f.e.mu.Lock()
	open := f.e.views[object] != nil
	f.e.mu.Unlock()
	if open {
		r.Return = Unexpected
		return r, nil
	}
	f.ca.mu.Lock()
	defer f.ca.mu.Unlock()
	v, hr := f.ca.openView(in.ColumnsOut, in.CertViewRestrictions)
	if hr != 0 {
		r.Return = hr
		return r, nil
	}
	f.e.mu.Lock()
	f.e.views[object] = v
	f.e.mu.Unlock()
	var page []byte
	r.Fetched, page, r.Return = f.ca.page(v, in.ID, in.Count)
	r.ResultRows = adminBlob(page)
	return r, nil
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

func (f adminFace) EnumView(ctx context.Context, in *admin.EnumViewRequest) (*admin.EnumViewResponse, error) {
	r := &admin.EnumViewResponse{That: that(), ResultRows: adminBlob(nil), Return: f.may(ctx, in.Authority, everyRole)}
	if r.Return != 0 {
		return r, nil
	}
	f.e.mu.Lock()
	v := f.e.views[callOf(ctx).object]
	f.e.mu.Unlock()
	if v == nil {
		r.Return = InvalidHandle
		return r, nil
	}
	f.ca.mu.Lock()
	defer f.ca.mu.Unlock()
	var page []byte
	r.Fetched, page, r.Return = f.ca.page(v, in.ID, in.Count)
	r.ResultRows = adminBlob(page)
	return r, nil
}

func (f adminFace) CloseView(ctx context.Context, in *admin.CloseViewRequest) (*admin.CloseViewResponse, error) {
	r := &admin.CloseViewResponse{That: that(), Return: f.may(ctx, in.Authority, 0)}
	if r.Return != 0 {
		return r, nil
	}
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	object := callOf(ctx).object
	if f.e.views[object] == nil {
		r.Return = InvalidHandle
	}
	delete(f.e.views, object)
	return r, nil
}
