package intune

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// FuzzServiceResponse feeds the readers of the cloud's answers: only a JSON
// object whose code is the text Success is one, and what is kept for an error
// is short and printable.
func FuzzServiceResponse(f *testing.F) {
	for _, s := range []string{
		`{"code":"Success","errorDescription":""}`, `{"code":1}`, `{"code":"success"}`, `{"CODE":"Success"}`, `null`, ``,
		`{"code":"ChallengeExpired","errorDescription":"challengeExpInterval=60"}`,
		`{"error":{"code":"InternalError","message":"{\"_version\":3,\"Message\":\"An error - Url: https://host/path?x=1\"}"}}`,
		`{"odata.error":{"code":"Authorization_RequestDenied","message":{"lang":"en","value":"no"}}}`, `{"_version":3,"Message":"no"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		code, words, err := parseVerdict(body)
		if err == nil && code == "" {
			t.Error("a verdict without a code")
		}
		if code == string(Success) {
			var v struct {
				Code *string `json:"code"`
			}
			if json.Unmarshal(body, &v) != nil || v.Code == nil {
				t.Error("Success out of nothing")
			}
		}
		errorCode, message := parseErrorBody(body)
		for _, s := range []string{code, words, errorCode, message} {
			kept := clean(s, "s3cret!")
			if !utf8.ValidString(kept) || utf8.RuneCountInString(kept) > maxWords || strings.Contains(kept, "s3cret!") {
				t.Errorf("kept %q", kept)
			}
			for _, r := range kept {
				if unicode.IsControl(r) {
					t.Errorf("a control character in %q", kept)
				}
			}
		}
	})
}

// FuzzDiscovery feeds the reader of the service list: whatever it holds, an
// address that is kept is https, at an allowed host, and ends in no slash.
func FuzzDiscovery(f *testing.F) {
	for _, s := range []string{
		`{"value":[{"providerName":"ScepRequestValidationFEService","uri":"https://fef.msuc02.manage.microsoft.com/RACerts/x/"}]}`,
		`{"value":[{"serviceName":"A","uri":"https://a.manage.microsoft.com"},1,null,{"uri":2}],"@odata.nextLink":"https://graph/x"}`,
		`{"value":[{"providerName":"A","uri":"https://evil.example\\.manage.microsoft.com/"}]}`,
		`{"value":[{"providerName":"A","uri":"https://x@y.manage.microsoft.com:443/a?b#c"}]}`, `{"value":{}}`, `[]`,
	} {
		f.Add([]byte(s))
	}
	allowed := []string{".manage.microsoft.com"}
	f.Fuzz(func(t *testing.T, body []byte) {
		list, err := parseServices(body)
		if err != nil {
			return
		}
		for _, s := range list.Value {
			base, host, ok := checkBase(s.URI, allowed)
			if !ok {
				continue
			}
			name, _, _ := strings.Cut(strings.ToLower(host), ":")
			if !strings.HasSuffix(name, allowed[0]) || strings.HasSuffix(base, "/") || !strings.HasPrefix(strings.ToLower(base), "https://") {
				t.Errorf("kept %q at %q", base, host)
			}
		}
	})
}

func TestClean(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"words stay", "Insufficient privileges to complete the operation.", "Insufficient privileges to complete the operation."},
		{"a GUID stays", "Activity ID: 6f0c0d1a-0000-4000-8000-000000000001", "Activity ID: 6f0c0d1a-0000-4000-8000-000000000001"},
		{"an address stays, its query goes", "Url: https://fef.msuc02.manage.microsoft.com/RACerts/StatelessService?x=y", "Url: https://fef.msuc02.manage.microsoft.com/RACerts/StatelessService"},
		{"a long word goes", "token " + strings.Repeat("a", 49), "token [redacted]"},
		{"a known secret goes", "wrong: s3cret!", "wrong: [redacted]"},
		{"line ends and quotes become blanks", "a\r\nb\x1b[31m\"c\"", "a b [31m c"},
		{"broken UTF-8 is mended", "a\xffb", "a\uFFFDb"},
	} {
		if got := clean(row.text, "s3cret!"); got != row.want {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
	}
}
