package ca_test

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"math/big"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/testkeys"
)

var now = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

func authority(t *testing.T, name string, serial int64, key crypto.Signer, end time.Time) *x509.Certificate {
	t.Helper()
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: end,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func levels(list []ca.Finding) map[string]ca.Level {
	m := map[string]ca.Level{}
	for _, f := range list {
		m[f.ID] = max(m[f.ID], f.Level)
	}
	return m
}

func TestCompareChain(t *testing.T) {
	end := now.AddDate(5, 0, 0)
	old, root := authority(t, "Issuing", 1, testkeys.P256(0), end), authority(t, "Root", 2, testkeys.RSA2048(2), end)
	sameKey, newKey := authority(t, "Issuing", 3, testkeys.P256(0), end), authority(t, "Issuing", 4, testkeys.P256(1), end)
	stranger := authority(t, "Stranger", 5, testkeys.P256(1), end)
	for _, c := range []struct {
		name              string
		shown, configured []*x509.Certificate
		level             ca.Level
	}{
		{"the same chain", []*x509.Certificate{old, root}, []*x509.Certificate{old, root}, ca.OK},
		{"issuers that are not shown do not matter", []*x509.Certificate{old}, []*x509.Certificate{old, root}, ca.OK},
		{"a newer certificate with the same key", []*x509.Certificate{sameKey, root}, []*x509.Certificate{old, root}, ca.Warning},
		{"a newer certificate with another key", []*x509.Certificate{newKey, root}, []*x509.Certificate{old, root}, ca.Failure},
		{"a newer certificate that is in the file, after the root", []*x509.Certificate{newKey, root}, []*x509.Certificate{old, root, newKey}, ca.Warning},
		{"an issuer that the file lacks", []*x509.Certificate{old, stranger}, []*x509.Certificate{old, root}, ca.Warning},
		{"another CA", []*x509.Certificate{stranger}, []*x509.Certificate{old, root}, ca.Failure},
	} {
		if got := levels(ca.CompareChain(c.shown, c.configured, now))[ca.CheckChain]; got != c.level {
			t.Errorf("%s: %v, want %v", c.name, got, c.level)
		}
	}
}

func TestCheckValidity(t *testing.T) {
	for _, c := range []struct {
		name  string
		end   time.Time
		level ca.Level
	}{
		{"years to go", now.AddDate(3, 0, 0), ca.OK},
		{"weeks to go", now.AddDate(0, 0, 30), ca.Warning},
		{"expired", now.Add(-time.Hour), ca.Failure},
	} {
		if got := ca.CheckValidity(authority(t, "Issuing", 1, testkeys.P256(0), c.end), now).Level; got != c.level {
			t.Errorf("%s: %v, want %v", c.name, got, c.level)
		}
	}
}

func TestCheckList(t *testing.T) {
	issuer := authority(t, "Issuing", 1, testkeys.P256(0), now.AddDate(3, 0, 0))
	for _, c := range []struct {
		name       string
		begin, end time.Duration
		level      ca.Level
	}{
		{"fresh", -time.Hour, 7 * 24 * time.Hour, ca.OK},
		{"expired", -8 * 24 * time.Hour, -time.Minute, ca.Failure},
		{"near its end without a successor", -7 * 24 * time.Hour, time.Hour, ca.Warning},
		{"of tomorrow", 24 * time.Hour, 8 * 24 * time.Hour, ca.Warning},
	} {
		der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
			Number: big.NewInt(1), ThisUpdate: now.Add(c.begin), NextUpdate: now.Add(c.end),
		}, issuer, testkeys.P256(0))
		if err != nil {
			t.Fatal(err)
		}
		if got := ca.CheckList(der, now).Level; got != c.level {
			t.Errorf("%s: %v, want %v", c.name, got, c.level)
		}
	}
	if got := ca.CheckList([]byte("nonsense"), now).Level; got != ca.Failure {
		t.Errorf("a list that does not read: %v", got)
	}
}

func TestCompareClocks(t *testing.T) {
	for _, c := range []struct {
		name   string
		theirs time.Time
		level  ca.Level
	}{
		{"equal", now, ca.OK},
		{"seconds", now.Add(-20 * time.Second), ca.OK},
		{"minutes", now.Add(3 * time.Minute), ca.Warning},
		{"more than Kerberos bears", now.Add(-6 * time.Minute), ca.Failure},
		{"not told", time.Time{}, ca.Note},
	} {
		if got := ca.CompareClocks(c.theirs, now).Level; got != c.level {
			t.Errorf("%s: %v, want %v", c.name, got, c.level)
		}
	}
}

func TestCompareTemplate(t *testing.T) {
	client, server := asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
	const both = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	for _, c := range []struct {
		name  string
		edit  func(*ca.WantedTemplate, *ca.TemplateFacts)
		id    string
		level ca.Level
	}{
		{"everything fits", func(*ca.WantedTemplate, *ca.TemplateFacts) {}, "", ca.OK},
		{"no right to enrol", func(_ *ca.WantedTemplate, f *ca.TemplateFacts) { f.Enroll = false }, ca.CheckTemplateEnroll, ca.Failure},
		{"names from the directory", func(_ *ca.WantedTemplate, f *ca.TemplateFacts) { f.SubjectFromRequest = false }, ca.CheckTemplateSubject, ca.Failure},
		{"a signature is needed", func(_ *ca.WantedTemplate, f *ca.TemplateFacts) { f.Signatures = 1 }, ca.CheckTemplateSignatures, ca.Failure},
		{"smaller keys are let in", func(_ *ca.WantedTemplate, f *ca.TemplateFacts) { f.MinKeyBits = 4096 }, ca.CheckTemplateKey, ca.Warning},
		{"no key fits", func(_ *ca.WantedTemplate, f *ca.TemplateFacts) { f.MinKeyBits = 16384 }, ca.CheckTemplateKey, ca.Failure},
		{"for signatures in the general slot", func(_ *ca.WantedTemplate, f *ca.TemplateFacts) { f.KeyUsage = x509.KeyUsageDigitalSignature }, ca.CheckTemplatePurpose, ca.Warning},
		{"for signatures in the slot for encryption", func(w *ca.WantedTemplate, f *ca.TemplateFacts) {
			w.Purpose, f.KeyUsage = ca.ForEncryption, x509.KeyUsageDigitalSignature
		}, ca.CheckTemplatePurpose, ca.Failure},
		{"more than allow.eku", func(_ *ca.WantedTemplate, f *ca.TemplateFacts) { f.EKU = append(f.EKU, server) }, ca.CheckTemplateEKU, ca.Warning},
		{"less than allow.eku", func(w *ca.WantedTemplate, _ *ca.TemplateFacts) { w.EKU = append(w.EKU, server) }, ca.CheckTemplateEKU, ca.Warning},
		{"enrollment agent", func(_ *ca.WantedTemplate, f *ca.TemplateFacts) {
			f.EKU = append(f.EKU, asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 1})
		}, ca.CheckTemplateEKU, ca.Failure},
		{"good for anything", func(_ *ca.WantedTemplate, f *ca.TemplateFacts) { f.EKU = nil }, ca.CheckTemplateEKU, ca.Failure},
		{"purposes that are not told", func(_ *ca.WantedTemplate, f *ca.TemplateFacts) { f.Purposes = false }, ca.CheckTemplateEKU, ca.Note},
	} {
		w := ca.WantedTemplate{Endpoint: "corp", Name: "Device", Purpose: ca.ForGeneral, EKU: []asn1.ObjectIdentifier{client}, MinRSA: 2048, MaxRSA: 8192}
		f := ca.TemplateFacts{Enroll: true, SubjectFromRequest: true, MinKeyBits: 2048, Purposes: true, KeyUsage: both, EKU: []asn1.ObjectIdentifier{client}}
		c.edit(&w, &f)
		for id, level := range levels(w.Compare(f)) {
			if want := map[bool]ca.Level{true: c.level, false: ca.OK}[id == c.id]; level != want {
				t.Errorf("%s: %s is %v, want %v", c.name, id, level, want)
			}
		}
	}
}

func TestFindingAsJSON(t *testing.T) {
	b, err := json.Marshal(ca.Found(ca.Failure, ca.CheckReach, ca.Remedy(0x800706BA), "%d", 1))
	if err != nil || !strings.Contains(string(b), `"level":"failure"`) || !strings.Contains(string(b), `"id":"ca.reach"`) {
		t.Errorf("%s, %v", b, err)
	}
}

// The page that explains IDs has each of them, and no other.
func TestEveryIDIsExplained(t *testing.T) {
	read := func(path, pattern string) []string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(b), -1) {
			ids = append(ids, m[1])
		}
		slices.Sort(ids)
		return ids
	}
	defined, explained := read("diagnose.go", `(?m)^\tCheck\w+\s+= "([a-z.]+)"`), read("../docs/ca-check.md", "(?m)^\\| `([a-z.]+)` \\|")
	if len(defined) == 0 || !slices.Equal(defined, explained) {
		t.Errorf("defined  %v\nexplained %v", defined, explained)
	}
}
