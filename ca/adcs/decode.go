package adcs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Column types, the low byte of the type field ([MS-CSRA], section 2.2.1.7).
const (
	columnLong   = 1
	columnDate   = 2
	columnBinary = 3
	columnString = 4
)

const (
	columnHead = 20 // CERTTRANSDBCOLUMN
	rowHead    = 12 // CERTTRANSDBRESULTROW
	cellHead   = 16 // CERTTRANSDBRESULTCOLUMN
)

// errLayout is a reply that does not keep to the documented layout.
var errLayout = errors.New("the CA's reply does not have the documented layout")

type column struct {
	id   uint32
	kind byte
	name string
}

// row is one of a view. Its cells point into the reply; a NULL is absent.
type row struct {
	id    uint32
	cells map[uint32][]byte // by column ID
}

func at(b []byte, offset int) uint32 { return binary.LittleEndian.Uint32(b[offset:]) }

// wideString reads a NUL-terminated string at an offset from the blob's start.
func wideString(b []byte, offset uint32) (string, error) {
	if offset%4 != 0 || uint64(offset)+2 > uint64(len(b)) {
		return "", fmt.Errorf("%w: string at %d of %d bytes", errLayout, offset, len(b))
	}
	rest := b[offset:]
	for i := 0; i+2 <= len(rest); i += 2 {
		if rest[i] == 0 && rest[i+1] == 0 {
			return utf16Text(rest[:i]), nil
		}
	}
	return "", fmt.Errorf("%w: string without an end", errLayout)
}

// decodeColumns reads n descriptions of columns.
func decodeColumns(b []byte, n uint32) ([]column, error) {
	if uint64(n)*columnHead > uint64(len(b)) {
		return nil, fmt.Errorf("%w: %d columns in %d bytes", errLayout, n, len(b))
	}
	list := make([]column, 0, n)
	for i := range int(n) {
		head := b[i*columnHead:]
		name, err := wideString(b, at(head, 12))
		if err != nil {
			return nil, err
		}
		list = append(list, column{id: at(head, 4), kind: byte(at(head, 0)), name: name})
	}
	return list, nil
}

// decodeRows reads n rows of at most width columns, and the uncounted header
// that a server appends at the end of the view: total rows, and its inverse.
// total is -1 without one.
func decodeRows(b []byte, n uint32, width int) (rows []row, total int64, err error) {
	if uint64(n)*rowHead > uint64(len(b)) {
		return nil, -1, fmt.Errorf("%w: %d rows in %d bytes", errLayout, n, len(b))
	}
	for range n {
		r, size, err := decodeRow(b, width)
		if err != nil {
			return nil, -1, err
		}
		rows, b = append(rows, r), b[size:]
	}
	if len(b) >= 8 && at(b, 4) == ^at(b, 0) {
		return rows, int64(at(b, 0)), nil
	}
	return rows, -1, nil
}

func decodeRow(b []byte, width int) (r row, size uint32, err error) {
	if len(b) < rowHead {
		return r, 0, fmt.Errorf("%w: row beyond the end", errLayout)
	}
	r = row{id: at(b, 0), cells: map[uint32][]byte{}}
	count, size := at(b, 4), at(b, 8)
	if uint64(count) > uint64(width) || uint64(size) > uint64(len(b)) || size%4 != 0 || size < rowHead+cellHead*count {
		return r, 0, fmt.Errorf("%w: row %d of %d bytes with %d columns", errLayout, r.id, size, count)
	}
	for i := range int(count) {
		head := b[rowHead+cellHead*i:]
		kind, id, offset, length := byte(at(head, 0)), at(head, 4), at(head, 8), at(head, 12)
		if offset == 0 || length == 0 {
			continue // NULL
		}
		if offset%4 != 0 || offset < rowHead+cellHead*count || uint64(offset)+uint64(length) > uint64(size) || !fits(kind, length) {
			return r, 0, fmt.Errorf("%w: row %d, column %#x: %d bytes at %d", errLayout, r.id, id, length, offset)
		}
		if _, twice := r.cells[id]; twice {
			return r, 0, fmt.Errorf("%w: row %d, column %#x twice", errLayout, r.id, id)
		}
		r.cells[id] = b[offset : offset+length : offset+length]
	}
	return r, size, nil
}

func fits(kind byte, length uint32) bool {
	switch kind {
	case columnLong:
		return length == 4
	case columnDate:
		return length == 8
	case columnString:
		return length%2 == 0
	}
	return true
}

func (r row) long(id uint32) (uint32, bool) {
	v, ok := r.cells[id]
	if !ok || len(v) != 4 {
		return 0, false
	}
	return at(v, 0), true
}

func (r row) text(id uint32) string { return utf16Text(r.cells[id]) }

func (r row) date(id uint32) time.Time {
	v, ok := r.cells[id]
	if !ok || len(v) != 8 {
		return time.Time{}
	}
	t := binary.LittleEndian.Uint64(v)
	return time.Unix(int64(t/1e7)-filetimeEpoch, int64(t%1e7)*100).UTC()
}

// Values of restrictions, as rows have them.
func longValue(v uint32) []byte    { return binary.LittleEndian.AppendUint32(nil, v) }
func dateValue(t time.Time) []byte { return binary.LittleEndian.AppendUint64(nil, ticks(t)) }
func stringValue(s string) []byte  { return utf16Bytes(s) }
