//go:build e2e

package e2e

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca/adcstest"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
)

// TestADCSDeath kills the connector between what it asked the CA and its own
// record, or loses the CA's answer. The device gets exactly one certificate,
// and the CA has exactly one where it can be searched: in its database, or by
// a walk over request IDs. Where it cannot, there is one resubmission, and the
// audit log says so.
func TestADCSDeath(t *testing.T) {
	kdc := domainKDC(t)
	const submitted, issued, recorded = "enroll.4.submitted", "enroll.4.issued", "enroll.5.recorded"
	for _, row := range []struct {
		bridge, at string // at "": the answer is lost, and the connector lives
		orphan     bool   // a second submission, told in the audit log
		rows       int    // certificates that the CA issued
	}{
		{overDCOM, submitted, false, 1}, {overDCOM, issued, false, 1}, {overDCOM, recorded, false, 1}, {overDCOM, "", false, 1},
		{overWeb, submitted, false, 1}, {overWeb, issued, false, 1}, {overWeb, recorded, false, 1}, {overWeb, "", false, 1},
		{overSOAP, submitted, true, 1}, {overSOAP, issued, true, 2}, {overSOAP, recorded, false, 1}, {overSOAP, "", true, 2},
		{overICPR, issued, true, 2}, {overICPR, "", true, 2},
		{overBoth, issued, false, 1}, {overBoth, "", false, 1},
	} {
		name := row.at
		if name == "" {
			name = "answer lost"
		}
		t.Run(row.bridge+", "+name, func(t *testing.T) {
			t.Parallel() // they mostly wait
			c := newCorpOf(t, kdc, overDCOM)
			key := testkeys.RSA2048(3)
			path := bridgePath(row.bridge, "intune")
			if row.at == "" {
				c.start()
				c.mock.Fail(adcstest.DropAfterIssue, 1)
			} else {
				c.startAs(built.failpoint, []string{"CERTCONNECTOR_FAILPOINT=" + row.at})
			}
			device, tx := c.prepare("windows", path, key)
			switch r, err := device.Send(t.Context(), tx.Message); {
			case row.at != "" && err == nil:
				t.Fatalf("the connector answered %s instead of dying", describe(r))
			case row.at == "" && err == nil && r.Status != scep.Pending && r.Status != scep.Success:
				t.Fatalf("while the answer is lost the device gets %s", describe(r))
			case row.at == "" && err != nil:
				t.Fatal(err)
			}
			if row.at != "" {
				c.awaitDeath()
				c.start()
			}
			cert := c.mustIssue(until(t, device, tx.Message, scep.Success), key)
			if again := send(t, device, tx.Message); serialText(again.Certificate) != serialText(cert) {
				t.Error("the device got two certificates")
			}
			if n := len(c.issued()); n != row.rows {
				t.Errorf("the CA has issued %d certificates, want %d", n, row.rows)
			}
			if got := c.audited("possible_orphan"); (got != "") != row.orphan {
				t.Errorf("the audit log has possible_orphan: %q, want %v", got, row.orphan)
			} else if row.orphan && (!strings.Contains(got, `"ca":"`+row.bridge+`"`) || !strings.Contains(got, `"submitted_at"`)) {
				t.Errorf("CA and time are not named: %s", got)
			}
			c.toldOf(cert)
		})
	}
}

// audited is the first line of the audit log with a message, "" if there is none.
func (c *corp) audited(message string) string {
	c.t.Helper()
	b, err := os.ReadFile(c.path("audit.log"))
	if err != nil {
		c.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, `"message":"`+message+`"`) {
			return line
		}
	}
	return ""
}

// TestADCSStalls has the CA not answer: the device is told to come again
// within the endpoint's time, and has its certificate when the CA wakes up.
func TestADCSStalls(t *testing.T) {
	kdc := domainKDC(t)
	for _, bridge := range bridges {
		t.Run(bridge, func(t *testing.T) {
			t.Parallel() // they mostly wait
			c := newCorpOf(t, kdc, overDCOM)
			c.edit(func(text string) string { return strings.ReplaceAll(text, "submit_within: 20s", "submit_within: 1m") })
			c.start()
			c.mock.Fail(adcstest.Stall, 1)
			key := testkeys.RSA2048(2)
			device, tx := c.prepare("windows", bridgePath(bridge, "soon"), key)
			began := time.Now()
			if r := send(t, device, tx.Message); r.Status != scep.Pending {
				t.Fatalf("while the CA stalls the device gets %s", describe(r))
			}
			if took := time.Since(began); took > 50*time.Second { // submit_within is a minute, answer_within 2 s
				t.Errorf("the device waited %v", took)
			}
			c.mock.Heal()
			c.mustIssue(until(t, device, tx.Message, scep.Success), key)
			if n := len(c.issued()); n != 1 {
				t.Errorf("the CA has issued %d certificates, want one", n)
			}
		})
	}
}
