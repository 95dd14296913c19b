package adcs

import (
	"context"
	"crypto/x509"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/adcstest"
	"github.com/certconnector/certconnector/internal/negotiate"
)

func wanted(l *lab, templates ...string) ca.Wanted {
	w := ca.Wanted{Chain: chainOf(l)}
	for _, name := range templates {
		w.Templates = append(w.Templates, ca.WantedTemplate{Endpoint: "corp", Name: name, Purpose: ca.ForGeneral, MinRSA: 2048, MaxRSA: 8192})
	}
	return w
}

// worst is the highest level of an ID's findings; -1: there is none.
func worst(list []ca.Finding, id string) ca.Level {
	level := ca.Level(-1)
	for _, f := range list {
		if f.ID == id {
			level = max(level, f.Level)
		}
	}
	return level
}

func expect(t *testing.T, list []ca.Finding, id string, level ca.Level) {
	t.Helper()
	if got := worst(list, id); got != level {
		t.Errorf("%s is %d, want %v", id, got, level)
		for _, f := range list {
			t.Logf("%v %s: %s (%s)", f.Level, f.ID, f.Text, f.Fix)
		}
	}
	for _, f := range list {
		if f.Level == ca.Failure && f.Fix == "" {
			t.Errorf("%s: a failure without a way out", f.ID)
		}
		if strings.Contains(f.Text+f.Fix, adcstest.DefaultPassword) {
			t.Errorf("%s tells the password", f.ID)
		}
	}
}

func everyRoad() Config { return Config{Issue: []Road{DCOM, ICPR}, Revoke: CSRA, Find: CSRA} }

func TestDiagnoseFindsEverythingInOrder(t *testing.T) {
	l := newLab(t, nil, adcstest.Options{})
	before := len(l.ca.Rows())
	list := l.connect(t, "svc", everyRoad()).Diagnose(t.Context(), wanted(l, issuing, parking))
	for _, id := range []string{
		ca.CheckSignIn, ca.CheckName, ca.CheckEnroll, ca.CheckRead, ca.CheckOfficer, ca.CheckRoadIssue, ca.CheckRoadRevoke, ca.CheckRoadFind,
		ca.CheckChain, ca.CheckCertificate, ca.CheckType, ca.CheckTemplatePublished,
	} {
		expect(t, list, id, ca.OK)
	}
	for _, f := range list {
		if f.Level > ca.Note {
			t.Errorf("%s: %v: %s", f.ID, f.Level, f.Text)
		}
	}
	if len(l.ca.Rows()) != before {
		t.Error("the check left a row in the CA's database")
	}
}

func TestDiagnoseOverKerberos(t *testing.T) {
	l := newLab(t, startKDC(t), adcstest.Options{})
	list := l.connect(t, "svc", everyRoad()).Diagnose(t.Context(), wanted(l, issuing))
	expect(t, list, ca.CheckSignIn, ca.OK)
	expect(t, list, ca.CheckOfficer, ca.OK)
	expect(t, list, ca.CheckClock, ca.Note)
}

func TestDiagnoseTellsMissingRights(t *testing.T) {
	for _, c := range []struct {
		name, account string
		id            string
		level         ca.Level
	}{
		{"no Request Certificates", "low", ca.CheckEnroll, ca.Failure},
		{"no right to read the database", "low", ca.CheckRead, ca.Failure},
		{"read is not enrol", "reader", ca.CheckEnroll, ca.Failure},
		{"read is enough to search", "reader", ca.CheckRoadFind, ca.OK},
		{"enrol implies read", "enroll", ca.CheckRead, ca.OK},
		{"not an officer", "enroll", ca.CheckOfficer, ca.Failure},
		{"an administrator has too much", "admin", ca.CheckExcess, ca.Warning},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, nil, adcstest.Options{})
			expect(t, l.connect(t, c.account, everyRoad()).Diagnose(t.Context(), wanted(l, issuing)), c.id, c.level)
		})
	}
}

func TestDiagnoseTellsUnusedOfficerRight(t *testing.T) {
	l := newLab(t, nil, adcstest.Options{})
	list := l.connect(t, "svc", Config{Find: CSRA}).Diagnose(t.Context(), wanted(l, issuing))
	expect(t, list, ca.CheckExcess, ca.Warning)
	expect(t, list, ca.CheckRoadRevoke, ca.Note)
}

func TestDiagnoseTemplates(t *testing.T) {
	l := newLab(t, nil, adcstest.Options{})
	c := l.connect(t, "svc", Config{})
	expect(t, c.Diagnose(t.Context(), wanted(l, "Nowhere")), ca.CheckTemplatePublished, ca.Failure)
	expect(t, c.Diagnose(t.Context(), wanted(l, "Intune Device")), ca.CheckTemplatePublished, ca.Failure) // the display name
	expect(t, c.Diagnose(t.Context(), wanted(l, "intunedevice")), ca.CheckTemplatePublished, ca.OK)
	expect(t, c.Diagnose(t.Context(), wanted(l, "")), ca.CheckTemplateNamed, ca.Failure)
}

func TestDiagnoseStandalone(t *testing.T) {
	l := newLab(t, nil, adcstest.Options{Standalone: true})
	list := l.connect(t, "svc", Config{}).Diagnose(t.Context(), wanted(l, issuing))
	expect(t, list, ca.CheckType, ca.Warning)
	expect(t, list, ca.CheckTemplatePublished, ca.Failure)
}

func TestDiagnoseAnotherChain(t *testing.T) {
	l, other := newLab(t, nil, adcstest.Options{}), newLab(t, nil, adcstest.Options{})
	want := wanted(l, issuing)
	want.Chain = chainOf(other) // the same names, other keys
	expect(t, l.connect(t, "svc", Config{}).Diagnose(t.Context(), want), ca.CheckChain, ca.Failure)
}

func TestDiagnoseMisspeltName(t *testing.T) {
	for _, issue := range [][]Road{{DCOM}, {ICPR}} {
		l := newLab(t, nil, adcstest.Options{})
		c, err := New(Config{
			Name: "issuing", Config: l.ca.Host() + `\Corp Isuing CA`, Issue: issue, Revoke: CSRA, Certificates: []*x509.Certificate{l.ca.Certificate(), l.ca.Root()},
			Address: l.rpc.Address(), EndpointMapperPort: l.rpc.EndpointMapperPort(),
			NTLM: &negotiate.NTLM{User: `CORP\svc`, Password: adcstest.DefaultPassword},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		list := c.Diagnose(t.Context(), wanted(l, issuing))
		expect(t, list, ca.CheckName, ca.Failure)
		expect(t, list, ca.CheckSignIn, ca.OK)
	}
}

func TestDiagnoseWrongPassword(t *testing.T) {
	for _, issue := range [][]Road{{DCOM, ICPR}, {ICPR}} {
		l := newLab(t, nil, adcstest.Options{})
		c, err := New(Config{
			Name: "issuing", Config: l.ca.Config(), Issue: issue, Revoke: CSRA, Find: CSRA, Certificates: chainOf(l),
			Address: l.rpc.Address(), EndpointMapperPort: l.rpc.EndpointMapperPort(),
			NTLM: &negotiate.NTLM{User: `CORP\svc`, Password: "not this one"},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		list := c.Diagnose(t.Context(), wanted(l, issuing))
		expect(t, list, ca.CheckSignIn, ca.Failure)
		expect(t, list, ca.CheckReach, -1)
	}
}

func TestDiagnoseUnreachable(t *testing.T) {
	l := newLab(t, nil, adcstest.Options{})
	c := l.connect(t, "svc", everyRoad())
	if err := l.rpc.Close(); err != nil {
		t.Fatal(err)
	}
	list := c.Diagnose(t.Context(), wanted(l, issuing))
	expect(t, list, ca.CheckReach, ca.Failure)
	expect(t, list, ca.CheckSignIn, -1)
}

// A host that takes connections and says nothing is given up when the caller's
// time is over, and not only with the bridge's own.
func TestDiagnoseSilence(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	l := newLab(t, nil, adcstest.Options{})
	cfg := everyRoad()
	cfg.SubmitDeadline = time.Hour
	c := l.connect(t, "svc", cfg)
	c.mapperPort = listener.Addr().(*net.TCPAddr).Port
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	found := make(chan []ca.Finding, 1)
	go func() { found <- c.Diagnose(ctx, wanted(l, issuing)) }()
	select {
	case list := <-found:
		expect(t, list, ca.CheckReach, ca.Failure)
	case <-time.After(time.Minute):
		t.Error("it is not given up")
	}
}
