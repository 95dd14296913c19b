//go:build e2e

package e2e

import (
	"crypto/rsa"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/ca/adcstest"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// TestADCSEnrols has certmonger and devices of every platform enrol through
// each bridge; the RA's certificates come over the same one.
func TestADCSEnrols(t *testing.T) {
	kdc := domainKDC(t)
	for _, bridge := range bridges {
		t.Run(bridge, func(t *testing.T) {
			c := newCorpOf(t, kdc, bridge)
			c.start()
			t.Run("certmonger, Intune", func(t *testing.T) {
				defer c.during(t)()
				c.certmongerProfile()
				c.certmongerAt(bridgePath(bridge, "intune"), c.challenge(intunetest.Ask{Profile: "certmonger", Device: matrixDevice}).Challenge)
				c.toldOf(c.lastIssued())
			})
			t.Run("certmonger, static", func(t *testing.T) {
				defer c.during(t)()
				c.certmongerAt(bridgePath(bridge, "static"), c.static)
			})
			for i, platform := range []string{"windows", "ios", "macos", "android"} {
				t.Run(platform, func(t *testing.T) {
					defer c.during(t)()
					key := testkeys.RSA2048(i)
					d, tx := c.prepare(platform, bridgePath(bridge, "intune"), key)
					c.toldOf(c.mustIssue(until(t, d, tx.Message, scep.Success), key))
				})
			}
			c.signedIn(bridge)
		})
	}
}

// certmongerAt enrols once with the real client.
func (c *corp) certmongerAt(path, challenge string) {
	t := c.t
	t.Helper()
	d := shortDir(t)
	out := certmonger(t, d, fmt.Sprintf(`
getcert add-scep-ca -c probe -u %[1]q
known
getcert request -c probe -I req1 -k %[2]s/c.key -f %[2]s/c.crt -N CN=%[3]s -D %[3]s -L %[4]q -G rsa -g 2048 -w --wait-timeout 200
getcert list -i req1
`, c.url(path), d, cmName, challenge))
	if lastStatus(out) != "MONITORING" {
		t.Fatalf("certmonger has no certificate\n%s", c.hide(out))
	}
	c.verify(readCertificate(t, filepath.Join(d, "c.crt")))
}

// signedIn wants the bridge's face to have seen the account, by the mechanism
// that is configured.
func (c *corp) signedIn(bridge string) {
	c.t.Helper()
	switch bridge {
	case overDCOM, overICPR:
		want := adcstest.Caller{Account: "svc@" + c.kdc.Realm, Mechanism: "Kerberos", Level: 6}
		if got := c.rpc.Callers(); len(got) != 1 || got[0] != want {
			c.t.Errorf("callers %v, want only %v", got, want)
		}
	case overWeb:
		if c.web.SignedIn("Kerberos") == 0 || c.web.SignedIn("NTLM")+c.web.SignedIn("Basic") != 0 {
			c.t.Error("the web pages were not reached by Kerberos alone")
		}
	case overSOAP:
		if len(c.soap.Requests()) == 0 {
			c.t.Error("nobody asked the enrolment service")
		}
	}
}

// TestADCSParks has requests wait for a person: at the CA's own console, or by
// our command where the account is an officer.
func TestADCSParks(t *testing.T) {
	c := newCorp(t, overDCOM)
	c.start()
	atTheCA := func(decide func(string, uint32) int32) func(*testing.T, string, uint32) {
		return func(t *testing.T, _ string, id uint32) {
			if hr := decide("officer", id); hr != 0 {
				t.Errorf("the CA's officer: %#x", uint32(hr))
			}
		}
	}
	approve, deny := atTheCA(c.mock.Approve), atTheCA(c.mock.Deny)
	rows := []struct {
		name, bridge string
		decide       func(t *testing.T, ours string, theirs uint32)
		want         scep.Status
	}{
		{"approved by our command", overDCOM, c.approveHere, scep.Success},
		{"approved at the CA, DCOM", overDCOM, approve, scep.Success},
		{"approved at the CA, ICPR", overICPR, approve, scep.Success},
		{"approved at the CA, web", overWeb, approve, scep.Success},
		{"approved at the CA, SOAP", overSOAP, approve, scep.Success},
		{"denied at the CA, DCOM", overDCOM, deny, scep.Failure},
		{"denied at the CA, SOAP", overSOAP, deny, scep.Failure},
		{"our command where the account is no officer", overWeb, c.approveNowhere, scep.Pending},
	}
	// All are parked first, then decided: a device that comes back early is not
	// what makes us ask the CA.
	devices, sent := make([]*scepclient.Client, len(rows)), make([]*scepclient.Transaction, len(rows))
	ours, theirs := make([]string, len(rows)), make([]uint32, len(rows))
	for i, row := range rows {
		devices[i], sent[i] = c.atStatic(row.bridge, "manual", testkeys.RSA2048(i))
		if r := send(t, devices[i], sent[i].Message); r.Status != scep.Pending {
			t.Fatalf("%s: the request was not parked: %s", row.name, describe(r))
		}
		parked, ids := c.awaitRequest(row.bridge+"-manual", "parked"), c.mock.Pending() // the newest of each
		ours[i], theirs[i] = parked.ID, ids[len(ids)-1]
		if parked.CARequestID != fmt.Sprint(theirs[i]) {
			t.Fatalf("%s: the CA has parked %d, we know request %q", row.name, theirs[i], parked.CARequestID)
		}
	}
	if n := len(c.issued()); n != 0 {
		t.Fatalf("%d certificates before anyone decided", n)
	}
	for i, row := range rows {
		row.decide(t, ours[i], theirs[i])
	}
	granted := 0
	for i, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			defer c.during(t)()
			r := until(t, devices[i], sent[i].Message, row.want)
			if row.want == scep.Success {
				c.mustIssue(r, testkeys.RSA2048(i))
				granted++
			}
		})
	}
	if n := len(c.issued()); n != granted {
		t.Errorf("%d certificates for %d approved requests", n, granted)
	}
}

// approveHere approves by our command.
func (c *corp) approveHere(t *testing.T, ours string, _ uint32) {
	if out, err := c.command("requests", "approve", ours); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// approveNowhere tries the same where only the CA's own console can.
func (c *corp) approveNowhere(t *testing.T, ours string, _ uint32) {
	if _, err := c.command("requests", "approve", ours); err == nil || !strings.Contains(err.Error(), "console") {
		t.Errorf("approve says %v, want a word about the CA's own console", err)
	}
}

// atStatic prepares a device's message for one of a bridge's static endpoints.
func (c *corp) atStatic(bridge, use string, key *rsa.PrivateKey) (*scepclient.Client, *scepclient.Transaction) {
	c.t.Helper()
	d := c.device("windows", bridgePath(bridge, use))
	tx, err := d.Prepare(c.t.Context(), scepclient.EnrollRequest{Key: key, DER: c.staticCSR("device-"+bridge, key, c.static)})
	if err != nil {
		c.t.Fatal(err)
	}
	return d, tx
}

// TestADCSRefuses has the CA refuse: the device hears FAILURE, and the cloud
// the CA's own HRESULT.
func TestADCSRefuses(t *testing.T) {
	c := newCorp(t, overDCOM)
	c.start()
	for i, bridge := range bridges {
		for _, row := range []struct {
			use     string
			hresult int32
		}{{"forbidden", adcstest.TemplateDenied}, {"unknown", adcstest.UnknownTemplate}} {
			t.Run(bridge+", "+row.use, func(t *testing.T) {
				defer c.during(t)()
				d, tx := c.prepare("windows", bridgePath(bridge, row.use), testkeys.RSA2048(i))
				mustRefuse(t, until(t, d, tx.Message, scep.Failure), scep.BadRequest)
				eventually(t, "the cloud is told", func() bool { return c.toldRefusal(tx.Message.TransactionID) != 0 })
				if got := c.toldRefusal(tx.Message.TransactionID); int32(got) != row.hresult {
					t.Errorf("the cloud was told %#x, want %#x", uint32(got), uint32(row.hresult))
				}
			})
		}
	}
	if n := len(c.issued()); n != 0 {
		t.Errorf("%d certificates were issued", n)
	}
}

// toldRefusal is the HRESULT of a transaction's failure, 0 if there is none.
func (c *corp) toldRefusal(transaction string) int64 {
	for _, n := range c.cloud.Notifications() {
		if n.TransactionID == transaction && !n.Success {
			return n.HResult
		}
	}
	return 0
}
