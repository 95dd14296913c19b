package jobqueue

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"unicode"
)

// Whatever the queue sends: a job that is taken has a handle that can be
// repeated, fits a log, and reads the same once it was written down.
func FuzzDownload(f *testing.F) {
	for _, s := range []string{
		`{"value":[]}`, `{"value":null}`, `[]`,
		`{"value":[{"requestContext":"a","kind":"pfx","subject":"CN=ann","sans":["dns:a.example"],"key":{"type":"p256"},"validitySeconds":3600,"recipient":"00:11"}]}`,
		`{"value":[{"requestContext":"a","kind":"pfx"},{"requestContext":"a","kind":"pfx"},{"requestContext":1},7,{"requestContext":"b","kind":"pfx","sans":"x"}]}`,
		`{"value":[{"requestContext":"a\u0000","kind":"pfx"}],"more":{}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		b, err := readBatch(body, 0)
		if err != nil {
			if len(b.Jobs) > 0 {
				t.Error("jobs beside an error")
			}
			return
		}
		seen := map[string]bool{}
		for _, j := range b.Jobs {
			if j.Context == "" || seen[j.Context] || strings.ContainsFunc(j.Context+j.Subject+strings.Join(j.SANs, ""), unicode.IsControl) {
				t.Errorf("job %+v", j)
			}
			seen[j.Context] = true
			written, err := json.Marshal(j)
			if err != nil {
				t.Fatal(err)
			}
			again, err := ReadJob(written)
			if err != nil {
				t.Fatalf("what was written down cannot be read: %v", err)
			}
			if twice, _ := json.Marshal(again); string(twice) != string(written) {
				t.Errorf("written %s, read as %+v", written, again)
			}
		}
		for _, bad := range b.Bad {
			if bad.Reason == "" || len(bad.Context) > mostContext || strings.ContainsFunc(bad.Context, unicode.IsControl) {
				t.Errorf("bad element %+v", bad)
			}
		}
	})
}

func FuzzUpload(f *testing.F) {
	for _, s := range []string{`{"value":true}`, `{"value":"TRUE"}`, `{"value":false}`, `{"value":1}`, `{}`, `true`, `{"value":true`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		taken, err := readReceipt(body)
		if err != nil && taken {
			t.Error("taken, and an error")
		}
		var plain map[string]any
		if taken && (json.Unmarshal(body, &plain) != nil || !strings.Contains(strings.ToLower(string(body)), "true")) {
			t.Errorf("%q is read as taken", body)
		}
	})
}

func TestMessagesAreCut(t *testing.T) {
	for _, row := range []struct{ name, in, want string }{
		{"as it is", "the CA is down", "the CA is down"},
		{"control characters", "a\r\nb\x1b", "a  b "},
		{"too long", strings.Repeat("é", 2000), strings.Repeat("é", 510) + "é"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := cut(row.in); got != row.want {
				t.Errorf("%d octets %q…", len(got), got[:min(len(got), 20)])
			}
		})
	}
}

// Each code has a name of its own, and the last four ask for another try.
func TestCodes(t *testing.T) {
	names := map[string]Code{}
	for code := range codeNames {
		if other, ok := names[code.String()]; ok {
			t.Errorf("codes %d and %d are both %s", code, other, code)
		}
		names[code.String()] = code
		if code.Retryable() != (code >= 4100) {
			t.Errorf("%s: retryable %v", code, code.Retryable())
		}
	}
	if len(names) != 13 || !reflect.DeepEqual(Code(4999).String(), "NonRetryableServiceException") {
		t.Errorf("%d codes; an unknown one is %s", len(names), Code(4999))
	}
}
