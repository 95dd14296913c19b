package pkcs10_test

import (
	"encoding/asn1"
	"testing"

	"github.com/certconnector/certconnector/internal/pkcs10"
)

func TestApplicationPolicies(t *testing.T) {
	client := asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
	agent := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 1}
	for _, tt := range []struct {
		name  string
		value []byte
		want  []asn1.ObjectIdentifier // nil: refused
	}{
		{"one", seq(seq(oid(client))), []asn1.ObjectIdentifier{client}},
		{"two", seq(seq(oid(client)), seq(oid(agent))), []asn1.ObjectIdentifier{client, agent}},
		{"with qualifiers", seq(seq(oid(client), seq(seq(oid(agent))))), []asn1.ObjectIdentifier{client}},
		{"as an extKeyUsage", seq(oid(client)), nil},
		{"empty", seq(), nil},
		{"something behind the qualifiers", seq(seq(oid(client), seq(), seq())), nil},
		{"something behind the list", append(seq(seq(oid(client))), 5, 0), nil},
		{"nothing", nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			attributes := [][]byte{attribute(pkcs10.OIDExtensionRequest, seq(extension(pkcs10.OIDApplicationPolicies, tt.value)))}
			got, err := parse(t, csr{attributes: attributes}.build(t)).ApplicationPolicies()
			if (err == nil) != (tt.want != nil) || len(got) != len(tt.want) {
				t.Fatalf("policies %v, error %v", got, err)
			}
			for i := range got {
				if !got[i].Equal(tt.want[i]) {
					t.Errorf("policy %d is %v, want %v", i, got[i], tt.want[i])
				}
			}
		})
	}
	if got, err := parse(t, csr{}.build(t)).ApplicationPolicies(); got != nil || err != nil {
		t.Errorf("without the extension: %v, %v", got, err)
	}
}

// A security identifier extension that comes twice, in one attribute or in
// both, never reaches a rule as two.
func TestSIDExtensionComesOnce(t *testing.T) {
	sid := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 25, 2}
	one, other := extension(sid, seq([]byte{5, 0})), extension(sid, seq([]byte{2, 1, 1}))
	for name, attributes := range map[string][][]byte{
		"equal, in one attribute":     {attribute(pkcs10.OIDExtensionRequest, seq(one, one))},
		"different, in one attribute": {attribute(pkcs10.OIDExtensionRequest, seq(one, other))},
		"different, in Microsoft's":   {attribute(pkcs10.OIDExtensionRequest, seq(one)), attribute(pkcs10.OIDMicrosoftExtensions, seq(other))},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := pkcs10.Parse(csr{attributes: attributes}.build(t)); err == nil {
				t.Error("accepted")
			}
		})
	}
	both := [][]byte{attribute(pkcs10.OIDExtensionRequest, seq(one)), attribute(pkcs10.OIDMicrosoftExtensions, seq(one))}
	if r := parse(t, csr{attributes: both}.build(t)); len(r.Extensions) != 1 {
		t.Errorf("equal ones in both attributes are read as %d", len(r.Extensions))
	}
}
