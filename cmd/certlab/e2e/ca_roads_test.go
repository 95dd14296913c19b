//go:build e2e

package e2e

import (
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
)

// TestADCSRoads takes away one road to the CA, then both, and gives one back:
// requests go over the web pages, wait without a hang, and end as
// certificates. Revocation goes over the road that can.
func TestADCSRoads(t *testing.T) {
	c := newCorp(t, overDCOM)
	c.start()
	enrol := func(i int) {
		t.Helper()
		key := testkeys.RSA2048(i)
		d, tx := c.prepare("windows", bridgePath(overBoth, "intune"), key)
		cert := c.mustIssue(until(t, d, tx.Message, scep.Success), key)
		c.toldOf(cert)
	}
	onWeb := func() int { return c.web.SignedIn("Kerberos") }

	enrol(0)
	if n := onWeb(); n != 0 {
		t.Errorf("%d calls went to the web pages while DCOM was there", n)
	}
	if out, err := c.command("revoke", "--ca", overBoth, serialText(c.lastIssued()), "--reason", "superseded"); err != nil {
		t.Errorf("revoke: %v\n%s", err, out)
	} else if row := c.row(c.lastIssued()); row.Reason != 4 {
		t.Errorf("the CA's database has reason %d", row.Reason)
	}

	port := c.rpc.EndpointMapperPort()
	if err := c.rpc.Close(); err != nil {
		t.Fatal(err)
	}
	enrol(1)
	if onWeb() == 0 {
		t.Error("nothing went to the web pages while DCOM was gone")
	}

	c.gate.shut()
	key := testkeys.RSA2048(2)
	d, tx := c.prepare("windows", bridgePath(overBoth, "soon"), key)
	began := time.Now()
	if r, err := d.Send(t.Context(), tx.Message); err != nil || r.Status != scep.Pending {
		t.Fatalf("while no road is open the device gets %v, %v; want PENDING", r, err)
	}
	if took := time.Since(began); took > 50*time.Second { // answer_within is 2 s
		t.Errorf("the device waited %v", took)
	}
	if n := len(c.issued()); n != 2 {
		t.Errorf("the CA has issued %d certificates, want 2", n)
	}

	c.serveRPC(port)
	c.gate.open(t, "")
	c.toldOf(c.mustIssue(until(t, d, tx.Message, scep.Success), key))
	enrol(3)
	if n := len(c.issued()); n != 4 {
		t.Errorf("the CA has issued %d certificates, want 4", n)
	}
}
