package adcstest

import (
	"context"
	"slices"
	"strings"

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
