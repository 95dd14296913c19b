package token

import (
	"encoding/json"
	"testing"

	"github.com/certconnector/certconnector/internal/pkcs10"
)

// FuzzClaims: claims that are read say the same to a lenient reader, so that
// whoever looks at a challenge with another program sees what we saw.
func FuzzClaims(f *testing.F) {
	f.Add([]byte(`{"typ":"certconnector-challenge","version":1,"id":"AAAAAAAAAAAAAAAAAAAAAA","endpoint":"corp",` +
		`"not_before":"2026-03-01T11:55:00Z","not_after":"2026-03-01T12:30:00Z","subject":[[{"type":"CN","value":"phone 7"}]],` +
		`"san":[{"dns":"a.example"},{"ip":"10.0.0.1"}],"key":{"type":"rsa","min_bits":2048},"max_validity":86400}`))
	f.Add([]byte(`{"typ":"certconnector-challenge","typ":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseClaims(data)
		if err != nil {
			return
		}
		var lenient struct {
			ID       string `json:"id"`
			Endpoint string `json:"endpoint"`
			NotAfter string `json:"not_after"`
			Subject  [][]struct{ Type, Value string }
		}
		if err := json.Unmarshal(data, &lenient); err != nil {
			t.Fatal(err)
		}
		if lenient.ID != c.id || lenient.Endpoint != c.endpoint || lenient.NotAfter != c.notAfter.Format(timeLayout) || len(lenient.Subject) != len(c.subject) {
			t.Errorf("read as %+v and as %+v", c, lenient)
		}
		again, err := pkcs10.ParseNameText(pkcs10.FormatName(c.subject))
		if err == nil && !sameSubject(again, c.subject) {
			t.Errorf("subject %s is another when it is written and read", pkcs10.FormatName(c.subject))
		}
	})
}
