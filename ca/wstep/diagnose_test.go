package wstep_test

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/adcstest"
	"github.com/certconnector/certconnector/ca/wstep"
)

func (w *world) wanted(templates ...string) ca.Wanted {
	want := ca.Wanted{Chain: []*x509.Certificate{w.ca.Certificate(), w.ca.Root()}}
	for _, name := range templates {
		want.Templates = append(want.Templates, ca.WantedTemplate{Endpoint: "corp", Name: name, Purpose: ca.ForGeneral, MinRSA: 2048, MaxRSA: 8192})
	}
	return want
}

// expectFinding wants a level as the highest of an ID's findings; -1: no finding.
func expectFinding(t *testing.T, list []ca.Finding, id string, level ca.Level) {
	t.Helper()
	got := ca.Level(-1)
	for _, f := range list {
		if f.ID == id {
			got = max(got, f.Level)
		}
		if f.Level == ca.Failure && f.Fix == "" {
			t.Errorf("%s: a failure without a way out", f.ID)
		}
		if strings.Contains(f.Text+f.Fix, adcstest.DefaultPassword) {
			t.Errorf("%s tells the password", f.ID)
		}
	}
	if got != level {
		t.Errorf("%s is %d, want %d: %v", id, got, level, list)
	}
}

func TestDiagnoseFindsEverythingInOrder(t *testing.T) {
	for _, kind := range []string{adcstest.SOAPUser, adcstest.SOAPCertificate} {
		t.Run(kind, func(t *testing.T) {
			w := newWorld(t, kind, adcstest.SOAPOptions{}, nil)
			list := w.bridge.Diagnose(t.Context(), w.wanted("IntuneDevice"))
			for _, id := range []string{
				ca.CheckReach, ca.CheckSignIn, ca.CheckClock, ca.CheckName, ca.CheckChain, ca.CheckCertificate, ca.CheckEnroll, ca.CheckRoadIssue,
				ca.CheckTemplatePublished, ca.CheckTemplateEnroll, ca.CheckTemplateSubject, ca.CheckTemplateSignatures, ca.CheckTemplateKey,
			} {
				expectFinding(t, list, id, ca.OK)
			}
			expectFinding(t, list, ca.CheckRoadRevoke, ca.Note)
			if len(w.ca.Rows()) != 0 {
				t.Error("the check left a row in the CA's database")
			}
		})
	}
}

func TestDiagnoseTemplates(t *testing.T) {
	w := newWorld(t, adcstest.SOAPUser, adcstest.SOAPOptions{}, nil)
	for _, name := range []string{"Nowhere", "Machine"} { // not there; no right to enrol
		expectFinding(t, w.bridge.Diagnose(t.Context(), w.wanted(name)), ca.CheckTemplatePublished, ca.Failure)
	}
	expectFinding(t, w.bridge.Diagnose(t.Context(), w.wanted("User")), ca.CheckTemplateSubject, ca.Failure)
	want := w.wanted("IntuneDevice")
	want.Templates[0].MaxRSA = 1024
	expectFinding(t, w.bridge.Diagnose(t.Context(), want), ca.CheckTemplateKey, ca.Failure)
}

func TestDiagnoseWrongPassword(t *testing.T) {
	w := newWorld(t, adcstest.SOAPUser, adcstest.SOAPOptions{}, func(c *wstep.Config) {
		c.User = &wstep.User{Name: `CORP\svc`, Password: "not this one"}
	})
	list := w.bridge.Diagnose(t.Context(), w.wanted("IntuneDevice"))
	expectFinding(t, list, ca.CheckSignIn, ca.Failure)
	expectFinding(t, list, ca.CheckReach, -1)
}

func TestDiagnoseAccountWithoutRight(t *testing.T) {
	w := newWorld(t, adcstest.SOAPUser, adcstest.SOAPOptions{}, func(c *wstep.Config) {
		c.User = &wstep.User{Name: `CORP\low`, Password: adcstest.DefaultPassword}
	})
	list := w.bridge.Diagnose(t.Context(), w.wanted("IntuneDevice"))
	expectFinding(t, list, ca.CheckSignIn, ca.OK)
	expectFinding(t, list, ca.CheckEnroll, ca.Failure)
	expectFinding(t, list, ca.CheckTemplatePublished, ca.Failure)
}

func TestDiagnoseUnreachable(t *testing.T) {
	w := newWorld(t, adcstest.SOAPUser, adcstest.SOAPOptions{}, nil)
	w.soap.Close()
	list := w.bridge.Diagnose(t.Context(), w.wanted("IntuneDevice"))
	expectFinding(t, list, ca.CheckReach, ca.Failure)
	expectFinding(t, list, ca.CheckSignIn, -1)
}

func TestDiagnoseMisspeltName(t *testing.T) {
	w := newWorld(t, adcstest.SOAPUser, adcstest.SOAPOptions{}, func(c *wstep.Config) { c.CA = "Corp Isuing CA" })
	expectFinding(t, w.bridge.Diagnose(t.Context(), w.wanted("IntuneDevice")), ca.CheckName, ca.Failure)
}

func TestDiagnoseAnotherChainAndClock(t *testing.T) {
	w := newWorld(t, adcstest.SOAPUser, adcstest.SOAPOptions{}, func(c *wstep.Config) {
		c.Clock = func() time.Time { return time.Now().Add(2 * time.Minute) }
	})
	other := newWorld(t, adcstest.SOAPUser, adcstest.SOAPOptions{}, nil)
	list := w.bridge.Diagnose(t.Context(), other.wanted("IntuneDevice"))
	expectFinding(t, list, ca.CheckChain, ca.Failure)
	expectFinding(t, list, ca.CheckClock, ca.Warning)
}

// Without a policy service only the enrolment service is asked.
func TestDiagnoseWithoutPolicy(t *testing.T) {
	w := newWorld(t, adcstest.SOAPUser, adcstest.SOAPOptions{}, nil)
	w.config.Policy, w.config.Enrollment = "", []string{w.soap.Enrollment(adcstest.SOAPUser)}
	w.config.Issuers = []*x509.Certificate{w.ca.Certificate(), w.ca.Root()}
	w.connect(t)
	list := w.bridge.Diagnose(t.Context(), w.wanted("IntuneDevice"))
	expectFinding(t, list, ca.CheckRoadIssue, ca.OK)
	expectFinding(t, list, ca.CheckTemplatePublished, ca.Note)
}
