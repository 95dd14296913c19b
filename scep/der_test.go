package scep

import (
	"bytes"
	"encoding/asn1"
	"testing"
)

// TestTypedIsWhatItsPartsAre: the form that is written in one piece has the
// octets of the same elements written one by one, at every length of a length.
func TestTypedIsWhatItsPartsAre(t *testing.T) {
	for _, size := range []int{0, 1, 0x60, 0x70, 0x7e, 0x7f, 0x80, 0xf0, 0xff, 0x100, 0xfff0, 0xffff, 0x10000, 1 << 20} {
		content := bytes.Repeat([]byte{7}, size)
		got := typed(oidData, tagOctetString, content[:size/2], content[size/2:])
		want := sequence(object(oidData), tlv(tagExplicit0, tlv(tagOctetString, content)))
		if !bytes.Equal(got, want) {
			t.Errorf("%d octets of content: %x…", size, got[:min(len(got), 40)])
		}
		if len(got) != cap(got) {
			t.Errorf("%d octets of content: %d octets of room for %d", size, cap(got), len(got))
		}
		var info struct {
			Type    asn1.ObjectIdentifier
			Content []byte `asn1:"explicit,tag:0"`
		}
		if rest, err := asn1.Unmarshal(got, &info); err != nil || len(rest) > 0 || !bytes.Equal(info.Content, content) {
			t.Errorf("%d octets of content: encoding/asn1 reads %d octets, %v", size, len(info.Content), err)
		}
	}
}
