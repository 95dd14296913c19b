package intune

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// FuzzRevocationDownload feeds the reader of downloads: what is taken has a
// context that can be given back unchanged and a serial number, all of bounded
// length, and what is skipped is told of in words without foreign bytes.
func FuzzRevocationDownload(f *testing.F) {
	for _, s := range []string{
		`{"@odata.context":"x","value":[{"requestContext":"opaque-1","serialNumber":"1D0000012AB4","issuerName":"ca","caConfiguration":"ca"}]}`,
		`{"value":[]}`, `{"value":null}`, `{"value":{}}`, `{}`, `null`, `[]`,
		`{"value":[{"requestContext":1,"serialNumber":"1"},null,3,{"requestContext":"a"},{"requestContext":"\ud800","serialNumber":"1"}]}`,
		`{"value":[{"requestContext":"a","serialNumber":"0x1D","issuerName":null,"caConfiguration":null},{"requestContext":"a","serialNumber":"0x1D"}]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		batch, err := parseRevocations(body)
		if err != nil {
			return
		}
		if len(batch.Requests) > MaxRevocations {
			t.Errorf("%d requests", len(batch.Requests))
		}
		for _, r := range batch.Requests {
			if strings.TrimSpace(r.Context) == "" || strings.TrimSpace(r.Serial) == "" ||
				len(r.Context) > maxContext || len(r.Serial) > maxSerial || len(r.Issuer) > maxIssuer || len(r.CAConfiguration) > maxIssuer {
				t.Errorf("taken: %q", r)
			}
			sent, err := json.Marshal(r.Context)
			var back string
			if err != nil || json.Unmarshal(sent, &back) != nil || back != r.Context {
				t.Errorf("context %q does not survive being sent", r.Context)
			}
		}
		for _, why := range batch.Bad {
			for _, r := range why {
				if r >= utf8.RuneSelf || unicode.IsControl(r) {
					t.Errorf("foreign bytes in %q", why)
				}
			}
		}
	})
}

// FuzzRevocationUpload feeds the reader of an upload's answer: nothing but
// true says that results are recorded.
func FuzzRevocationUpload(f *testing.F) {
	for _, s := range []string{
		`{"value":true}`, `{"value":"true"}`, `{"value":"True"}`, `{"value":false}`, `{"value":"yes"}`, `{"value":1}`, `{"value":null}`, `{}`, ``,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if parseRecorded(body) != nil {
			return
		}
		var answer struct {
			Value any `json:"value"`
		}
		if err := json.Unmarshal(body, &answer); err != nil {
			t.Fatalf("recorded by what is not JSON: %v", err)
		}
		word, _ := answer.Value.(string)
		if answer.Value != true && !strings.EqualFold(word, "true") {
			t.Errorf("recorded by %v", answer.Value)
		}
	})
}
