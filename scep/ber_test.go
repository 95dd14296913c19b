package scep

import (
	"bytes"
	"encoding/hex"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestToDER(t *testing.T) {
	for _, tt := range []struct{ name, ber, der string }{
		{"DER stays as it is", "300904020102a003020101", "300904020102a003020101"},
		{"indefinite length", "30800201010000", "3003020101"},
		{"indefinite in definite in indefinite", "3080a0073080020101000000" + "00", "3007a0053003020101"},
		{"length longer than needed", "3082000402810101", "3003020101"},
		{"segmented OCTET STRING", "24800401aa0402bbcc0000", "0403aabbcc"},
		{"segments within segments", "240a24800401aa00000401bb", "0402aabb"},
		{"no segments", "24800000", "0400"},
		{"segments of an implicit tag are left to its reader", "a0800401aa0401bb0000", "a0060401aa0401bb"},
		{"bytes behind are dropped", "0401aaffff", "0401aa"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := toDER(unhex(t, tt.ber))
			if err != nil || !bytes.Equal(got, unhex(t, tt.der)) {
				t.Errorf("%x, error %v; want %s", got, err, tt.der)
			}
		})
	}
	t.Run("DER is not copied", func(t *testing.T) {
		der := unhex(t, "3003020101")
		if got, err := toDER(der); err != nil || &got[0] != &der[0] {
			t.Error("copied")
		}
	})
	t.Run("long content", func(t *testing.T) {
		for _, n := range []int{127, 128, 255, 256, 65535, 65536, 1 << 24} {
			want := tlv(tagSequence, tlv(tagOctetString, make([]byte, n)))
			ber := append([]byte{tagSequence, 0x80}, tlv(tagOctetString, make([]byte, n))...)
			got, err := toDER(append(ber, 0, 0))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d octets: error %v", n, err)
			}
		}
	})
}

func TestToDERRefuses(t *testing.T) {
	for _, tt := range []struct{ name, ber string }{
		{"nothing", ""},
		{"a tag alone", "30"},
		{"content cut off", "3003020"[:6]},
		{"length cut off", "3082"},
		{"length of nine octets", "30890000000000000000010000"},
		{"length beyond everything", "3088ffffffffffffffff00"},
		{"no end of contents", "3080020101"},
		{"indefinite primitive", "04800000"},
		{"high tag number", "3f2100"},
		{"segment of another type", "24800201010000"},
		{"inner length beyond the outer", "3003040401020304"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, err := toDER(unhex(t, tt.ber)); err == nil {
				t.Errorf("accepted as %x", got)
			}
		})
	}
	t.Run("depth", func(t *testing.T) {
		for _, indefinite := range []bool{false, true} {
			der := []byte{5, 0}
			for range maxDepth {
				if indefinite {
					der = append(append([]byte{0x30, 0x80}, der...), 0, 0)
				} else {
					der = tlv(tagSequence, der)
				}
			}
			if _, err := toDER(der); err == nil {
				t.Errorf("depth %d accepted", maxDepth+1)
			}
		}
		segments := []byte{4, 1, 1}
		for range 100 {
			segments = tlv(tagOctetStringConstructed, segments)
		}
		if _, err := toDER(segments); err == nil {
			t.Error("segments nested 100 deep accepted")
		}
	})
}
