package embedded_test

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/testkeys"
)

// A CA is checked from its files, without register and sealer.
func TestDiagnoseWithoutRegister(t *testing.T) {
	dir := t.TempDir() + "/ca"
	if _, err := embedded.Create(dir, embedded.Options{Subject: pkix.Name{CommonName: "Own CA"}, KeyKind: "p256"}); err != nil {
		t.Fatal(err)
	}
	cfg := embedded.Config{Name: "own", Dir: dir, Profiles: []embedded.Profile{{Name: "device"}, {Name: "manual", Approval: embedded.Manual}}}
	template := func(name string, eku ...asn1.ObjectIdentifier) ca.WantedTemplate {
		return ca.WantedTemplate{Endpoint: "corp", Name: name, Purpose: ca.ForGeneral, EKU: append(eku, embedded.OIDClientAuth), MinRSA: 2048, MaxRSA: 8192}
	}
	for _, c := range []struct {
		name  string
		want  ca.WantedTemplate
		id    string
		level ca.Level
	}{
		{"a profile that is there, in any case", template("Device"), ca.CheckTemplatePublished, ca.OK},
		{"a profile for approval needs no sealer here", template("manual"), ca.CheckTemplatePublished, ca.OK},
		{"the default profile", template(""), ca.CheckTemplateNamed, ca.OK},
		{"a profile that is not there", template("Nowhere"), ca.CheckTemplatePublished, ca.Failure},
		{"a usage that the profile drops", template("device", embedded.OIDServerAuth), ca.CheckTemplateEKU, ca.Warning},
	} {
		got := ca.Level(-1)
		for _, f := range cfg.Diagnose(t.Context(), ca.Wanted{Templates: []ca.WantedTemplate{c.want}}) {
			if f.ID == c.id {
				got = max(got, f.Level)
			}
		}
		if got != c.level {
			t.Errorf("%s: %s is %d, want %v", c.name, c.id, got, c.level)
		}
	}
	cfg.Dir, cfg.Key = "", testkeys.P256(0)
	if list := cfg.Diagnose(t.Context(), ca.Wanted{}); len(list) != 1 || list[0].ID != ca.CheckConfig || list[0].Level != ca.Failure {
		t.Errorf("a key without certificate: %v", list)
	}
}
