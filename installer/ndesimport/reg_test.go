package ndesimport

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf16"
)

const head = "Windows Registry Editor Version 5.00\n\n"

// wide writes a text as regedit does: UTF-16LE with a byte order mark.
func wide(s string) []byte {
	b := []byte{0xFF, 0xFE}
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return b
}

func sample(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "server.reg"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func parse(t testing.TB, text string) *Tree {
	t.Helper()
	tree, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// flat lists a tree as path and content.
func flat(tree *Tree) map[string]string {
	all := map[string]string{}
	for _, k := range tree.Keys {
		for _, v := range k.Values {
			all[k.Path+`\`+v.label()] = v.String()
		}
	}
	return all
}

func TestExportIsTheSameHoweverItWasSaved(t *testing.T) {
	text := sample(t)
	want := flat(parse(t, text))
	if len(want) < 14 {
		t.Fatalf("the sample has %d values", len(want))
	}
	crlf := strings.ReplaceAll(text, "\n", "\r\n")
	var big []byte
	for _, u := range utf16.Encode([]rune("\uFEFF" + crlf)) {
		big = binary.BigEndian.AppendUint16(big, u)
	}
	for name, b := range map[string][]byte{
		"UTF-16LE with mark and CRLF":    wide(crlf),
		"UTF-16LE without mark":          wide(crlf)[2:],
		"UTF-16BE":                       big,
		"UTF-8 with mark":                append([]byte{0xEF, 0xBB, 0xBF}, text...),
		"REGEDIT4 in ANSI":               []byte(strings.Replace(crlf, strings.TrimSpace(head), "REGEDIT4", 1)),
		"upper-case keys":                []byte(strings.ReplaceAll(text, "dword:", "DWORD:")),
		"blank lines and comments first": []byte("; saved by hand\n\n" + text),
	} {
		t.Run(name, func(t *testing.T) {
			tree, err := Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			if got := flat(tree); !reflect.DeepEqual(got, want) {
				t.Errorf("read %q\nwant %q", got, want)
			}
		})
	}
}

func TestValues(t *testing.T) {
	for name, tc := range map[string]struct {
		ansi bool
		line string
		want Value
	}{
		"text with escapes":             {false, `"a"="ca01\\Corp \"Issuing\" CA"`, Value{Type: String, Text: `ca01\Corp "Issuing" CA`}},
		"backslash that people forget":  {false, `"a"="ca01\Corp"`, Value{Type: String, Text: `ca01\Corp`}},
		"text with a line break":        {false, "\"a\"=\"one\ntwo\"", Value{Type: String, Text: "one\ntwo"}},
		"text and a comment":            {false, `"a"="x;y" ; why`, Value{Type: String, Text: "x;y"}},
		"blanks around =":               {false, `"a" = dword:0000003C ; an hour`, Value{Type: DWORD, Number: 60}},
		"qword":                         {false, `"a"=qword:100000000`, Value{Type: QWORD, Number: 1 << 32}},
		"qword as regedit writes it":    {false, `"a"=hex(b):01,00,00,00,00,00,00,00`, Value{Type: QWORD, Number: 1}},
		"dword in octets":               {false, `"a"=hex(4):02,01,00,00`, Value{Type: DWORD, Number: 258}},
		"dword of another length":       {false, `"a"=hex(4):02`, Value{Type: DWORD, Bytes: []byte{2}}},
		"octets over lines":             {false, "\"a\"=hex:01,\\\r\n  02,\\\r\n  ff", Value{Type: Binary, Bytes: []byte{1, 2, 255}}},
		"no octets":                     {false, `"a"=hex:`, Value{Type: Binary, Bytes: []byte{}}},
		"expandable text":               {false, `"a"=hex(2):43,00,41,00,00,00`, Value{Type: ExpandString, Text: "CA"}},
		"expandable text of REGEDIT4":   {true, `"a"=hex(2):43,e4,00`, Value{Type: ExpandString, Text: "Cä"}},
		"list":                          {false, `"a"=hex(7):41,00,00,00,42,00,00,00,00,00`, Value{Type: MultiString, List: []string{"A", "B"}}},
		"list of REGEDIT4":              {true, `"a"=hex(7):41,00,42,00,00`, Value{Type: MultiString, List: []string{"A", "B"}}},
		"type without a name":           {false, `"a"=hex(ffff0012):01`, Value{Type: 0xffff0012, Bytes: []byte{1}}},
		"ANSI text":                     {true, "\"a\"=\"Z\xfcrich \x80\"", Value{Type: String, Text: "Zürich €"}},
		"later value wins":              {false, "\"A\"=\"x\"\n\"a\"=\"y\"", Value{Type: String, Text: "y"}},
		"value made after its deletion": {false, "\"a\"=-\n\"a\"=\"y\"", Value{Type: String, Text: "y"}},
	} {
		t.Run(name, func(t *testing.T) {
			text := head
			if tc.ansi {
				text = "REGEDIT4\r\n"
			}
			tree := parse(t, text+"[HKLM\\X]\n"+tc.line+"\n")
			if len(tree.Keys) != 1 || len(tree.Keys[0].Values) != 1 {
				t.Fatalf("read %+v", tree.Keys)
			}
			tc.want.Name = "a"
			if got := tree.Keys[0].Values[0]; !reflect.DeepEqual(got, tc.want) {
				t.Errorf("read %+v, want %+v", got, tc.want)
			}
		})
	}
}

func TestDeletionsAreRemembered(t *testing.T) {
	tree := parse(t, head+`[HKLM\X\Sub]
"a"="1"
[HKLM\XY]
@="default"
"gone"="2"
"gone"=-
"never"=-
[-hklm\x]
`)
	if got, want := flat(tree), map[string]string{`HKEY_LOCAL_MACHINE\XY\(Default)`: "default"}; !reflect.DeepEqual(got, want) {
		t.Errorf("left %q, want %q", got, want)
	}
	was := map[string]string{}
	for _, r := range tree.Removed {
		was[r.Path] = r.Was
	}
	want := map[string]string{`HKEY_LOCAL_MACHINE\X\Sub\a`: "1", `HKEY_LOCAL_MACHINE\XY\gone`: "2", `HKEY_LOCAL_MACHINE\XY\never`: "", `HKEY_LOCAL_MACHINE\x`: ""}
	if !reflect.DeepEqual(was, want) {
		t.Errorf("removed %q, want %q", was, want)
	}
}

func TestBrokenExportsAreRefused(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"nothing":                      {"", "is empty"},
		"another kind of file":         {"policy: {}\n", "does not begin a registry export"},
		"a hive":                       {"regf\x00\x00", "registry hive"},
		"binary":                       {"REG\x00\x01", "no text"},
		"cut off in a character":       {string(wide(head + "[HKLM\\X]"))[:9], "cut off"},
		"NUL in UTF-16":                {string(wide(head + "\x00")), "NUL"},
		"key without end":              {head + `[HKLM\X`, "line 3: the key"},
		"key without name":             {head + `[HKLM\\X]`, "empty"},
		"key too deep":                 {head + `[HKLM` + strings.Repeat(`\a`, 600) + `]`, "levels"},
		"name too long":                {head + `[HKLM\` + strings.Repeat(`a`, 300) + `]`, "longer"},
		"value before a key":           {head + `"a"="b"`, "before the first key"},
		"value of a deleted key":       {head + "[-HKLM\\X]\n\"a\"=\"b\"", "key that is deleted"},
		"value without =":              {head + "[HKLM\\X]\n\"a\"", "no ="},
		"name without quote":           {head + "[HKLM\\X]\n\"a=1", "has no end"},
		"text without quote":           {head + "[HKLM\\X]\n\"a\"=\"b\n\n", "no closing quote"},
		"something after a text":       {head + "[HKLM\\X]\n\"a\"=\"b\"c", "follows"},
		"unknown form":                 {head + "[HKLM\\X]\n\"a\"=5", "unknown form"},
		"dword that is none":           {head + "[HKLM\\X]\n\"a\"=dword:123456789", "32 bits"},
		"octet that is none":           {head + "[HKLM\\X]\n\"a\"=hex:100", "no octet"},
		"octets that do not end":       {head + "[HKLM\\X]\n\"a\"=hex:10,\\\n", "do not end"},
		"type that is none":            {head + "[HKLM\\X]\n\"a\"=hex(x):10", "no type"},
		"line that is nothing":         {head + "what\n", "neither"},
		"larger than 4 MiB":            {head + strings.Repeat(";\n", MaxBytes/2), "larger"},
		"more keys than anybody has":   {head + manyKeys(), "more than"},
		"more deletions than regedit":  {head + strings.Repeat("[-HKLM\\X]\n", maxRemovals+1), "deletes or repeats"},
		"text longer than any setting": {head + "[HKLM\\X]\n\"a\"=\"" + strings.Repeat(strings.Repeat("b", 4096)+"\n", 300), "no closing quote"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(tc.text))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func manyKeys() string {
	var b bytes.Buffer
	for i := range maxKeys + 1 {
		b.WriteString("[HKLM\\" + strings.Repeat("k", 1+i%200) + "\\" + string(rune('a'+i/200%26)) + string(rune('a'+i/5200)) + "]\n")
	}
	return b.String()
}
