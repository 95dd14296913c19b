package adcs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oiweiwei/go-msrpc/msrpc/dcom/csra"
	admin1 "github.com/oiweiwei/go-msrpc/msrpc/dcom/csra/icertadmind/v0"
)

// Operators of a restriction ([MS-CSRA], section 2.2.1.3).
const (
	equal          = 1
	lessOrEqual    = 4
	greaterOrEqual = 8
)

// Bounds of one search.
const (
	pageRows    = 100
	maxRows     = 20_000
	maxBytes    = 256 << 20
	maxColumns  = 1024
	columnsPage = 64
	closeWithin = 10 * time.Second
)

var (
	// errIncomplete says that the rows seen are not those of the view, so that
	// nothing follows from a miss.
	errIncomplete = errors.New("the view was not read to its end")
	errLimit      = errors.New("the search met its limits (20,000 rows, 256 MiB)")
)

type restriction struct {
	column   uint32
	operator int32
	value    []byte
}

// Names of columns. Their IDs moved between versions of Windows.
const (
	colRequestID   = "Request.RequestID"
	colRaw         = "Request.RawRequest"
	colAttributes  = "Request.RequestAttributes"
	colStatus      = "Request.StatusCode"
	colDisposition = "Request.Disposition"
	colSubmitted   = "Request.SubmittedWhen"
	colRevokedWhen = "Request.RevokedWhen"
	colEffective   = "Request.RevokedEffectiveWhen"
	colCertificate = "RawCertificate"
	colSerial      = "SerialNumber"
)

// schema returns the columns of the request table by name, read once and again
// after a code that may mean that they moved.
func (c *CA) schema(ctx context.Context, a *admin) (map[string]column, error) {
	c.mu.Lock()
	known := c.columns
	c.mu.Unlock()
	if known != nil {
		return known, nil
	}
	columns := map[string]column{}
	for next := uint32(0); next < maxColumns; {
		out, err := a.one.EnumViewColumn(ctx, &admin1.EnumViewColumnRequest{
			This: a.this(), Authority: a.authority, Column: next, ColumnCount: columnsPage,
		})
		if out == nil {
			return nil, err
		}
		if out.Return < 0 {
			if next > 0 {
				break // past the last
			}
			return nil, c.codeOf("reading the database's columns", out.Return)
		}
		if out.ColumnOutCount == 0 || out.ColumnInfo == nil {
			break
		}
		list, err := decodeColumns(out.ColumnInfo.Buffer, out.ColumnOutCount)
		if err != nil {
			return nil, err
		}
		for _, col := range list {
			columns[col.name] = col
		}
		next += out.ColumnOutCount
		if uint32(out.Return) == codeFalse || out.ColumnOutCount < columnsPage {
			break
		}
	}
	for _, name := range []string{colRequestID, colRaw, colDisposition, colSubmitted, colCertificate} {
		if _, ok := columns[name]; !ok {
			return nil, fmt.Errorf("the CA's database has no column %s", name)
		}
	}
	c.mu.Lock()
	c.columns = columns
	c.mu.Unlock()
	return columns, nil
}

// forgetSchema has the next search read the columns again.
func (c *CA) forgetSchema() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.columns = nil
}

// page is one answer of OpenView or EnumView.
type page struct {
	rows  []row
	total int64
	last  bool // S_FALSE: nothing comes after it
	size  int
}

// view reads one query row by row. fn returns true to stop early; then nothing
// follows from the rest.
type view struct {
	c     *CA
	a     *admin
	where []restriction
	cols  []uint32

	first, next int // number of the first row, of the next one
	seen        map[uint32]bool
	total       int64
	bytes       int
}

func (c *CA) readView(ctx context.Context, a *admin, where []restriction, cols []uint32, fn func(row) (stop bool)) error {
	v := &view{c: c, a: a, where: where, cols: cols, seen: map[uint32]bool{}, total: -1}
	p, err := v.open(ctx)
	if err != nil {
		return err
	}
	defer v.close(ctx)
	for {
		fresh := 0
		for _, r := range p.rows {
			if v.seen[r.id] {
				continue
			}
			v.seen[r.id] = true
			fresh++
			if fn(r) {
				return nil
			}
		}
		done, err := v.advance(p, fresh)
		if done || err != nil {
			return err
		}
		if p, err = v.enum(ctx); err != nil {
			return err
		}
	}
}

// advance decides what comes after a page.
func (v *view) advance(p page, fresh int) (done bool, err error) {
	if p.total >= 0 {
		v.total = p.total
	}
	v.bytes += p.size
	switch {
	case v.total >= 0 && int64(len(v.seen)) >= v.total:
		return true, v.settle()
	case len(v.seen) >= maxRows || v.bytes >= maxBytes:
		return false, errLimit
	case len(v.seen) == 0 && v.first == 0:
		// Nothing at 0 and no total that says so: the first row may be number
		// 1. Believing the empty page would call an issued request absent.
		v.first, v.next = 1, 1
		return false, nil
	case fresh == 0, p.last && v.total < 0:
		return true, v.settle()
	}
	// A short page is no end: only the closing header, S_FALSE or an empty
	// page is.
	v.next += len(p.rows)
	return false, nil
}

// settle compares with the closing total, and keeps the number of the first row.
func (v *view) settle() error {
	if v.total >= 0 && int64(len(v.seen)) != v.total {
		return fmt.Errorf("%w: %d of %d rows", errIncomplete, len(v.seen), v.total)
	}
	if len(v.seen) > 0 {
		v.c.mu.Lock()
		v.c.first = v.first
		v.c.mu.Unlock()
	}
	return nil
}

// open opens the view. Whether its first row has number 0 or 1 is not settled
// by the documents.
func (v *view) open(ctx context.Context) (page, error) {
	v.c.mu.Lock()
	known := v.c.first
	v.c.mu.Unlock()
	v.first = max(known, 0)
	p, ret, err := v.openAt(ctx, v.first)
	if err == nil && uint32(ret) == codeInvalid && known < 0 {
		v.close(ctx) // some keep the view although they refuse the number
		v.first = 1
		p, ret, err = v.openAt(ctx, 1)
	}
	if err != nil {
		return page{}, err
	}
	v.next = v.first
	return p, v.c.codeOf("opening a view of the database", ret)
}

func (v *view) openAt(ctx context.Context, number int) (page, int32, error) {
	list := make([]*csra.CertViewRestriction, 0, len(v.where))
	for _, w := range v.where {
		list = append(list, &csra.CertViewRestriction{
			ColumnIndex: w.column, SeekOperator: w.operator, Value: w.value, ValueLength: uint32(len(w.value)),
		})
	}
	out, err := v.a.one.OpenView(ctx, &admin1.OpenViewRequest{
		This: v.a.this(), Authority: v.a.authority, CertViewRestrictionCount: uint32(len(list)), CertViewRestrictions: list,
		ColumnsCountOut: uint32(len(v.cols)), ColumnsOut: v.cols, ID: uint32(number), Count: pageRows,
	})
	if out == nil {
		return page{}, 0, err
	}
	p, err := v.page(out.Return, out.Fetched, out.ResultRows)
	if err != nil {
		v.close(ctx)
	}
	return p, out.Return, err
}

func (v *view) enum(ctx context.Context) (page, error) {
	out, err := v.a.one.EnumView(ctx, &admin1.EnumViewRequest{This: v.a.this(), Authority: v.a.authority, ID: uint32(v.next), Count: pageRows})
	if out == nil {
		return page{}, err
	}
	if err := v.c.codeOf("reading a view of the database", out.Return); err != nil {
		return page{}, err
	}
	return v.page(out.Return, out.Fetched, out.ResultRows)
}

func (v *view) page(ret int32, fetched uint32, blob *csra.CertTransportBlob) (page, error) {
	if ret < 0 {
		return page{}, nil
	}
	var b []byte
	if blob != nil {
		b = blob.Buffer
	}
	rows, total, err := decodeRows(b, fetched, len(v.cols))
	return page{rows: rows, total: total, last: uint32(ret) == codeFalse, size: len(b)}, err
}

// close frees the view, also after a cancellation: it holds one of the CA's
// few database sessions.
func (v *view) close(ctx context.Context) {
	if !v.a.wire().alive() {
		return // DCOM frees it with the object
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
	defer cancel()
	v.a.one.CloseView(ctx, &admin1.CloseViewRequest{This: v.a.this(), Authority: v.a.authority})
}
