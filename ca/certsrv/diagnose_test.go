package certsrv_test

import (
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/adcstest"
	"github.com/certconnector/certconnector/ca/certsrv"
	"github.com/certconnector/certconnector/internal/negotiate"
)

func (s *setup) wanted(templates ...string) ca.Wanted {
	w := ca.Wanted{Chain: []*x509.Certificate{s.ca.Certificate(), s.ca.Root()}}
	for _, name := range templates {
		w.Templates = append(w.Templates, ca.WantedTemplate{Endpoint: "corp", Name: name, Purpose: ca.ForGeneral})
	}
	return w
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
	for name, how := range map[string]signIn{"NTLM": ntlm, "Basic": basic, "client certificate": clientCertificate} {
		t.Run(name, func(t *testing.T) {
			s := start(t, how, adcstest.WebOptions{})
			before := len(s.ca.Rows())
			list := s.bridge.Diagnose(t.Context(), s.wanted("IntuneDevice"))
			for _, id := range []string{ca.CheckReach, ca.CheckSignIn, ca.CheckClock, ca.CheckChain, ca.CheckCertificate, ca.CheckEnroll, ca.CheckRoadIssue, ca.CheckTemplatePublished} {
				expectFinding(t, list, id, ca.OK)
			}
			if len(s.ca.Rows()) != before {
				t.Error("the check left a row in the CA's database")
			}
		})
	}
}

func TestDiagnoseReadsPagesInGerman(t *testing.T) {
	s := start(t, basic, adcstest.WebOptions{German: true})
	expectFinding(t, s.bridge.Diagnose(t.Context(), s.wanted("IntuneDevice")), ca.CheckTemplatePublished, ca.OK)
}

func TestDiagnoseTemplateThatIsNotOffered(t *testing.T) {
	s := start(t, basic, adcstest.WebOptions{})
	for _, name := range []string{"Nowhere", "Machine"} { // not there; not for this account
		expectFinding(t, s.bridge.Diagnose(t.Context(), s.wanted(name)), ca.CheckTemplatePublished, ca.Warning)
	}
	expectFinding(t, s.bridge.Diagnose(t.Context(), s.wanted("")), ca.CheckTemplateNamed, ca.Failure)
}

func TestDiagnoseAccountWithoutRight(t *testing.T) {
	s := start(t, basic, adcstest.WebOptions{})
	s.config.Basic = &negotiate.Basic{User: `CORP\low`, Password: adcstest.DefaultPassword}
	list := open(t, s.config).Diagnose(t.Context(), s.wanted("IntuneDevice"))
	expectFinding(t, list, ca.CheckEnroll, ca.Failure)
	expectFinding(t, list, ca.CheckSignIn, ca.OK)
	expectFinding(t, list, ca.CheckType, ca.Warning)
}

func TestDiagnoseWrongPassword(t *testing.T) {
	s := start(t, ntlm, adcstest.WebOptions{})
	s.config.NTLM = &negotiate.NTLM{User: `CORP\svc`, Password: "not this one"}
	list := open(t, s.config).Diagnose(t.Context(), s.wanted("IntuneDevice"))
	expectFinding(t, list, ca.CheckSignIn, ca.Failure)
	expectFinding(t, list, ca.CheckReach, -1)
}

func TestDiagnoseUnreachable(t *testing.T) {
	s := start(t, basic, adcstest.WebOptions{})
	s.web.Close()
	list := s.bridge.Diagnose(t.Context(), s.wanted("IntuneDevice"))
	expectFinding(t, list, ca.CheckReach, ca.Failure)
	expectFinding(t, list, ca.CheckSignIn, -1)
}

func TestDiagnoseServerOfAnotherRoot(t *testing.T) {
	s := start(t, basic, adcstest.WebOptions{})
	s.config.Roots = x509.NewCertPool()
	list := open(t, s.config).Diagnose(t.Context(), s.wanted("IntuneDevice"))
	expectFinding(t, list, ca.CheckReach, ca.Failure)
	if !strings.Contains(list[0].Fix, "ca_file") {
		t.Errorf("fix %q does not name ca_file", list[0].Fix)
	}
}

func TestDiagnoseAnotherCA(t *testing.T) {
	s, other := start(t, basic, adcstest.WebOptions{}), start(t, basic, adcstest.WebOptions{})
	want := s.wanted("IntuneDevice")
	want.Chain = []*x509.Certificate{other.ca.Certificate(), other.ca.Root()}
	s.config.Issuer = other.ca.Certificate() // as the agent pins it
	expectFinding(t, open(t, s.config).Diagnose(t.Context(), want), ca.CheckChain, ca.Failure)
}

func TestDiagnoseClock(t *testing.T) {
	s := start(t, basic, adcstest.WebOptions{})
	for off, level := range map[time.Duration]ca.Level{2 * time.Minute: ca.Warning, -10 * time.Minute: ca.Failure} {
		s.config.Now = func() time.Time { return time.Now().Add(off) }
		expectFinding(t, open(t, s.config).Diagnose(t.Context(), s.wanted()), ca.CheckClock, level)
	}
}

// Something else at the address is told from web enrollment.
func TestDiagnoseAnotherServer(t *testing.T) {
	web := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Write([]byte("<html><body>It works!\x1b[31m</body></html>"))
	}))
	t.Cleanup(web.Close)
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	bridge := open(t, certsrv.Config{Name: "corp", URL: web.URL, Roots: roots, Basic: &negotiate.Basic{User: "u", Password: "p"}})
	list := bridge.Diagnose(t.Context(), ca.Wanted{})
	expectFinding(t, list, ca.CheckReach, ca.Failure)
	if strings.Contains(list[0].Text, "\x1b") {
		t.Error("an escape sequence of the page is in the text")
	}
}
