package jobs_test

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/jobs"
	"github.com/certconnector/certconnector/agent/jobs/jobqueue"
	"github.com/certconnector/certconnector/internal/testkeys"
)

func TestRulesOfASourceAreChecked(t *testing.T) {
	for _, row := range []struct {
		name  string
		rules jobs.IssueRules
		want  string // in the error; "": none
	}{
		{"nothing is allowed but a key", jobs.IssueRules{}, ""},
		{"all of it", jobs.IssueRules{Subject: []string{"CN=*"}, SANs: []string{"upn:*@corp.example"}, ExtKeyUsages: []string{"ClientAuth", "1.2.3.4"}, KeyTypes: []string{"p384"}, MaxValidity: time.Hour}, ""},
		{"a pattern without a kind", jobs.IssueRules{SANs: []string{"corp.example"}}, "pattern"},
		{"an unknown usage", jobs.IssueRules{ExtKeyUsages: []string{"webAuth"}}, "webAuth"},
		{"an unknown key type", jobs.IssueRules{KeyTypes: []string{"rsa1024"}}, "rsa1024"},
		{"a negative life", jobs.IssueRules{MaxValidity: -1}, "negative"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := jobs.NewIssuePolicy(row.rules)
			if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want one about %q", err, row.want)
			}
		})
	}
}

func TestRecipientsAreChecked(t *testing.T) {
	o := &office{t: t}
	good := o.certificate("good", testkeys.RSA2048(1), 100*24*time.Hour, func(*x509.Certificate) {})
	for name, cert := range map[string]*x509.Certificate{
		"an elliptic curve": o.certificate("ec", testkeys.P256(0), time.Hour, func(*x509.Certificate) {}),
		"a small key":       o.certificate("small", testkeys.RSA1024(), time.Hour, func(*x509.Certificate) {}),
		"one that signs":    o.certificate("signs", testkeys.RSA2048(2), time.Hour, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }),
	} {
		if _, err := jobs.NewSealed([]*x509.Certificate{good, cert}, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := jobs.NewSealed(nil, nil); err == nil {
		t.Error("nobody: accepted")
	}
	// A recipient's certificate ends: first a warning, then no more jobs.
	now := time.Now()
	sink, err := jobs.NewSealed([]*x509.Certificate{good}, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	job := jobqueue.Job{Recipient: hexDigest(good)}
	problems := func() int { return len(sink.(interface{ Problems() []string }).Problems()) }
	if sink.Check(job) != nil || problems() != 0 {
		t.Error("a good recipient is refused, or warned of")
	}
	now = now.Add(80 * 24 * time.Hour)
	if sink.Check(job) != nil || problems() != 1 {
		t.Error("20 days before the end: refused, or no warning")
	}
	now = now.Add(30 * 24 * time.Hour)
	if sink.Check(job) == nil || problems() != 1 {
		t.Error("after the end: accepted, or no warning")
	}
}
