package main

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"maps"
	"slices"
	"testing"
	"unicode/utf16"

	"github.com/certconnector/certconnector/internal/eventid"
)

// messageTable is the resource type RT_MESSAGETABLE.
const messageTable = 11

func TestEventViewerKnowsEveryEvent(t *testing.T) {
	f, err := pe.Open("certconnector_windows_amd64.syso")
	if err != nil {
		t.Fatalf("%v: run go generate ./cmd/certconnector", err)
	}
	defer func() { _ = f.Close() }()
	if f.FileHeader.Machine != pe.IMAGE_FILE_MACHINE_AMD64 {
		t.Errorf("it is for machine %#x", f.FileHeader.Machine)
	}
	section, err := f.Section(".rsrc").Data()
	if err != nil {
		t.Fatal(err)
	}
	texts := messagesIn(t, tableIn(t, section))
	if got := slices.Sorted(maps.Keys(texts)); !slices.Equal(got, eventid.All()) {
		t.Errorf("it has %v, want %v: run go generate ./cmd/certconnector", got, eventid.All())
	}
	for id, text := range texts {
		if text != "%1\r\n" {
			t.Errorf("event %d reads %q", id, text)
		}
	}
}

// tableIn finds the message table: a directory of types, one of names, one of
// languages, and an entry that says where the data is (PE format, ".rsrc").
func tableIn(t *testing.T, section []byte) []byte {
	t.Helper()
	at := uint32(0)
	for level := range 3 {
		directory := section[at:]
		named, ids := binary.LittleEndian.Uint16(directory[12:]), binary.LittleEndian.Uint16(directory[14:])
		found := false
		for i := range int(named + ids) {
			entry := directory[16+8*i:]
			if id := binary.LittleEndian.Uint32(entry); level > 0 || id == messageTable {
				at, found = binary.LittleEndian.Uint32(entry[4:])&^(1<<31), true
				break
			}
		}
		if !found {
			t.Fatal("there is no message table")
		}
	}
	// The address is relative to the section until the linker moves it.
	offset, size := binary.LittleEndian.Uint32(section[at:]), binary.LittleEndian.Uint32(section[at+4:])
	return section[offset : offset+size]
}

// messagesIn reads a MESSAGE_RESOURCE_DATA.
func messagesIn(t *testing.T, table []byte) map[uint32]string {
	t.Helper()
	texts := map[uint32]string{}
	for i := range int(binary.LittleEndian.Uint32(table)) {
		block := table[4+12*i:]
		low, high := binary.LittleEndian.Uint32(block), binary.LittleEndian.Uint32(block[4:])
		entry := table[binary.LittleEndian.Uint32(block[8:]):]
		for id := low; id <= high; id++ {
			size, wide := binary.LittleEndian.Uint16(entry), binary.LittleEndian.Uint16(entry[2:]) == 1
			text := entry[4:size]
			if wide {
				units := make([]uint16, len(text)/2)
				for j := range units {
					units[j] = binary.LittleEndian.Uint16(text[2*j:])
				}
				text = []byte(string(utf16.Decode(units)))
			}
			texts[id] = string(bytes.TrimRight(text, "\x00"))
			entry = entry[size:]
		}
	}
	return texts
}
