package enroll_test

import (
	"errors"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/policymodule"
)

// outcome is what NDES reports of a device: its request, and a certificate
// that the CA has issued for it behind our back.
func (w *world) outcome(d device) policymodule.Outcome {
	w.t.Helper()
	csr := d.request(w.t, 19).CSR
	issued, err := w.core.Issue(w.t.Context(), ca.Request{CSR: csr})
	if err != nil {
		w.t.Fatal(err)
	}
	return policymodule.Outcome{TransactionID: d.transaction, CSR: csr.Raw, Certificate: issued.Certificate}
}

func (w *world) report(o policymodule.Outcome) (bool, error) {
	return w.reg.Report(w.t.Context(), "ndes", "contoso", o)
}

func TestReportedCertificateIsToldAtOnceAndOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		o := w.outcome(newDevice(0, "good"))
		for range 2 { // NDES, or its module, may report again
			if told, err := w.report(o); err != nil || !told {
				t.Fatalf("told %v, %v", told, err)
			}
		}
		w.told(1, 0)
		if e := w.entries(1)[0]; e.State != journal.Released || e.SealedCSR != nil {
			t.Errorf("state %v, CSR kept: %v", e.State, e.SealedCSR != nil)
		}
	})
}

func TestReportedCertificateIsToldAfterARestart(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.cloud.set(func(c *cloud) { c.deaf = true })
		if told, err := w.report(w.outcome(newDevice(0, "good"))); err != nil || told {
			t.Fatalf("told %v, %v: it is recorded only", told, err)
		}
		w.restart()
		w.cloud.set(func(c *cloud) { c.deaf = false })
		w.later(5 * time.Minute)
		w.told(1, 0)
		if len(w.core.revoked) != 0 {
			t.Error("a certificate that was taken late was revoked")
		}
	})
}

func TestReportedCertificateThatTheCloudRefusesIsRevoked(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.cloud.set(func(c *cloud) { c.against = true })
		o := w.outcome(newDevice(0, "good"))
		if _, err := w.report(o); !errors.Is(err, policymodule.ErrNotifyRefused) {
			t.Fatalf("got %v", err)
		}
		w.later(time.Minute)
		w.revokedOnly(o)
	})
}

// A certificate that cannot be withheld is revoked when its news do not arrive
// in time.
func TestReportedCertificateIsNotKeptForEver(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.cloud.set(func(c *cloud) { c.deaf = true })
		o := w.outcome(newDevice(0, "good"))
		if told, err := w.report(o); err != nil || told {
			t.Fatalf("told %v, %v", told, err)
		}
		w.later(2 * time.Hour)
		w.revokedOnly(o)
		if e := w.entries(1)[0]; e.State != journal.Abandoned {
			t.Errorf("state %v", e.State)
		}
	})
}

func TestReportedFailureIsTold(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		o := w.outcome(newDevice(0, "good"))
		o.Certificate, o.HResult, o.Description = nil, ca.HResultTemplateDenied, "denied at the CA"
		if told, err := w.report(o); err != nil || told {
			t.Fatalf("told %v, %v", told, err)
		}
		w.later(time.Minute)
		w.told(0, 1)
		if got := w.cloud.failures[0]; got.HResult != ca.HResultTemplateDenied {
			t.Errorf("HRESULT %x", got.HResult)
		}
	})
}

// A second certificate for one request is revoked; the first stays.
func TestRejectedCertificateIsRevokedAlone(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		d := newDevice(0, "good")
		first := w.outcome(d)
		if told, err := w.report(first); err != nil || !told {
			t.Fatalf("told %v, %v", told, err)
		}
		second := w.outcome(d)
		second.CSR = first.CSR
		for range 2 {
			if err := w.reg.Reject(t.Context(), "ndes", "contoso", second); err != nil {
				t.Fatal(err)
			}
		}
		w.later(time.Minute)
		w.revokedOnly(second)
		w.told(1, 0)
	})
}

func TestReportOfAStrangerIsRefused(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		o := w.outcome(newDevice(0, "good"))
		if _, err := w.reg.Report(t.Context(), "ndes", "fabrikam", o); err == nil {
			t.Error("recorded for a tenant that the front end does not report for")
		}
		o.CSR = []byte("no CSR")
		if _, err := w.report(o); err == nil {
			t.Error("recorded without a request")
		}
		w.entries(0)
	})
}

func (w *world) revokedOnly(o policymodule.Outcome) {
	w.t.Helper()
	w.core.mu.Lock()
	defer w.core.mu.Unlock()
	if _, ok := w.core.revoked[o.Certificate.SerialNumber.String()]; !ok || len(w.core.revoked) != 1 {
		w.t.Errorf("revoked: %v", w.core.revoked)
	}
}
