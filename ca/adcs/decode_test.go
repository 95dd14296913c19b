package adcs

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"
)

// cell is a value of a row under test.
type cell struct {
	id    uint32
	kind  uint32
	value []byte
}

// rowBytes encodes a row as [MS-CSRA], section 2.2.3 has it.
func rowBytes(id uint32, cells ...cell) []byte {
	head := make([]byte, rowHead+cellHead*len(cells))
	binary.LittleEndian.PutUint32(head, id)
	binary.LittleEndian.PutUint32(head[4:], uint32(len(cells)))
	b := head
	for i, c := range cells {
		h := b[rowHead+cellHead*i:]
		binary.LittleEndian.PutUint32(h, c.kind)
		binary.LittleEndian.PutUint32(h[4:], c.id)
		if c.value != nil {
			binary.LittleEndian.PutUint32(h[8:], uint32(len(b)))
			binary.LittleEndian.PutUint32(h[12:], uint32(len(c.value)))
			b = append(b, c.value...)
			for len(b)%4 != 0 {
				b = append(b, 0)
			}
		}
	}
	binary.LittleEndian.PutUint32(b[8:], uint32(len(b)))
	return b
}

func closing(total uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, total)
	return append(binary.LittleEndian.AppendUint32(b, ^total), 0, 0, 0, 0)
}

func TestRows(t *testing.T) {
	when := time.Date(2026, 3, 4, 5, 6, 7, 800, time.UTC)
	b := append(rowBytes(7, cell{0x1000, columnLong, longValue(7)}, cell{0x100b, columnDate, dateValue(when)}, cell{0x2001, columnBinary, nil}),
		rowBytes(8, cell{0x1000, columnLong, longValue(8)}, cell{0x2007, columnString, stringValue("0a1b")})...)
	rows, total, err := decodeRows(append(b, closing(2)...), 2, 3)
	if err != nil || total != 2 || len(rows) != 2 {
		t.Fatalf("%d rows of %d, %v; want 2 of 2", len(rows), total, err)
	}
	if id, ok := rows[0].long(0x1000); !ok || id != 7 {
		t.Errorf("request ID %d, %t", id, ok)
	}
	if got := rows[0].date(0x100b); !got.Equal(when.Truncate(100)) {
		t.Errorf("date %v, want %v", got, when)
	}
	if _, there := rows[0].cells[0x2001]; there {
		t.Error("a NULL column has a value")
	}
	if got := rows[1].text(0x2007); got != "0a1b" {
		t.Errorf("string %q", got)
	}
}

func TestDamagedRowsAreRefused(t *testing.T) {
	good := func() []byte {
		return rowBytes(7, cell{0x1000, columnLong, longValue(7)}, cell{0x1001, columnBinary, []byte("request")})
	}
	put := func(offset int, v uint32) []byte {
		b := good()
		binary.LittleEndian.PutUint32(b[offset:], v)
		return b
	}
	for _, c := range []struct {
		name string
		b    []byte
		n    uint32
	}{
		{"more rows than bytes", good(), 1 << 30},
		{"second row is missing", good(), 2},
		{"row longer than the blob", put(8, 4000), 1},
		{"row shorter than its heads", put(8, 16), 1},
		{"more columns than asked for", put(4, 3), 1},
		{"value beyond the row", put(12+8, 0xFFFFFFF0), 1},
		{"value inside the heads", put(12+8, 4), 1},
		{"value not aligned", put(12+8, 45), 1},
		{"long of 8 bytes", put(12+12, 8), 1},
		{"same column twice", put(28+4, 0x1000), 1},
	} {
		if _, _, err := decodeRows(c.b, c.n, 2); !errors.Is(err, errLayout) {
			t.Errorf("%s: error %v, want errLayout", c.name, err)
		}
	}
}

func TestTotalIsBelievedWithItsInverseOnly(t *testing.T) {
	end := closing(9)
	end[4]++
	if _, total, err := decodeRows(end, 0, 1); err != nil || total != -1 {
		t.Errorf("total %d, %v; want none", total, err)
	}
}

// columnBytes encodes descriptions of columns.
func columnBytes(columns ...column) []byte {
	b := make([]byte, columnHead*len(columns))
	for i, c := range columns {
		h := b[i*columnHead:]
		binary.LittleEndian.PutUint32(h, uint32(c.kind)|0x10000)
		binary.LittleEndian.PutUint32(h[4:], c.id)
		binary.LittleEndian.PutUint32(h[12:], uint32(len(b)))
		b = append(b, utf16Bytes(c.name)...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
	}
	return b
}

func TestColumns(t *testing.T) {
	list, err := decodeColumns(columnBytes(column{0x2007, columnString, "SerialNumber"}, column{0x1000, columnLong, "Request.RequestID"}), 2)
	if err != nil || len(list) != 2 || list[0] != (column{0x2007, columnString, "SerialNumber"}) || list[1].name != "Request.RequestID" {
		t.Errorf("columns %v, %v", list, err)
	}
	b := columnBytes(column{0x2007, columnString, "SerialNumber"})
	if _, err := decodeColumns(b[:len(b)-4], 1); !errors.Is(err, errLayout) {
		t.Errorf("name without an end: error %v, want errLayout", err)
	}
}

func FuzzRows(f *testing.F) {
	f.Add(append(rowBytes(7, cell{0x1000, columnLong, longValue(7)}), closing(1)...), uint32(1))
	f.Add(closing(0), uint32(0))
	f.Fuzz(func(t *testing.T, b []byte, n uint32) {
		rows, total, err := decodeRows(b, n, 6)
		if err != nil {
			return
		}
		if uint32(len(rows)) != n || total < -1 {
			t.Errorf("%d rows for %d, total %d", len(rows), n, total)
		}
		for _, r := range rows {
			for id := range r.cells {
				r.text(id)
				r.date(id)
				r.long(id)
			}
		}
	})
}

func FuzzColumns(f *testing.F) {
	f.Add(columnBytes(column{0x2007, columnString, "SerialNumber"}), uint32(1))
	f.Fuzz(func(t *testing.T, b []byte, n uint32) {
		if list, err := decodeColumns(b, n); err == nil && uint32(len(list)) != n {
			t.Errorf("%d columns for %d", len(list), n)
		}
	})
}

func FuzzChain(f *testing.F) {
	f.Add([]byte{0x30, 0x0b, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02})
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := certificates(b)
		for _, cert := range list {
			if err != nil || cert == nil {
				t.Errorf("certificates beside error %v", err)
			}
		}
	})
}

func TestTagOf(t *testing.T) {
	for _, c := range []struct {
		name, attributes, value string
		ok                      bool
	}{
		{"as sent", "CertificateTemplate:Device\nConnectorTag:00ff\n", "00ff", true},
		{"as a CA writes names", "connector-tag: 00ff\r\n", "00ff", true},
		{"dropped", "CertificateTemplate:Device\n", "", false},
	} {
		if value, ok := tagOf(c.attributes); value != c.value || ok != c.ok {
			t.Errorf("%s: %q, %t; want %q, %t", c.name, value, ok, c.value, c.ok)
		}
	}
	if strings.Contains(tag([32]byte{1}), tag([32]byte{2})) {
		t.Error("two requests have one tag")
	}
}
