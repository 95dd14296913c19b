package wstep_test

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/adcstest"
	"github.com/certconnector/certconnector/ca/catest"
	"github.com/certconnector/certconnector/ca/wstep"
	"github.com/certconnector/certconnector/internal/negotiate"
	"github.com/certconnector/certconnector/internal/testkeys"
)

// A request that may have reached the CA must never look as if it had not.
func TestWhatAnswersMean(t *testing.T) {
	for _, c := range []struct {
		name   string
		breaks func(w *world)
		want   error
		issued int // certificates at the CA afterwards
	}{
		{"web page in place of an answer", func(w *world) { w.ca.Fail(adcstest.GarbagePage, -1) }, ca.ErrOutcomeUnknown, 0},
		{"answer cut in the middle", func(w *world) { w.ca.Fail(adcstest.CorruptReply, -1) }, ca.ErrOutcomeUnknown, 1},
		{"another request's certificate", func(w *world) { w.ca.Fail(adcstest.WrongCertificate, -1) }, ca.ErrOutcomeUnknown, 1},
		{"connection cut after the CA issued", func(w *world) { w.ca.Fail(adcstest.DropAfterIssue, -1) }, ca.ErrOutcomeUnknown, 1},
		{"answer to another message", func(w *world) { w.soap.Fail(adcstest.WrongRelatesTo, -1) }, ca.ErrOutcomeUnknown, 1},
		{"answer with another action", func(w *world) { w.soap.Fail(adcstest.WrongAction, -1) }, ca.ErrOutcomeUnknown, 1},
		{"answer without end", func(w *world) { w.soap.Fail(adcstest.EndlessReply, -1) }, ca.ErrOutcomeUnknown, 1},
		{"answer nested without end", func(w *world) { w.soap.Fail(adcstest.DeepReply, -1) }, ca.ErrOutcomeUnknown, 1},
		{"answer with entities", func(w *world) { w.soap.Fail(adcstest.DocumentType, -1) }, ca.ErrOutcomeUnknown, 1},
		{"internal fault after the CA issued", func(w *world) { w.soap.Fail(adcstest.InternalFault, -1) }, ca.ErrOutcomeUnknown, 1},
		{"a proxy's 503", func(w *world) { w.soap.Fail(adcstest.BareUnavailable, -1) }, ca.ErrOutcomeUnknown, 0},
		{"redirect is not followed", func(w *world) { w.soap.Fail(adcstest.Redirect, -1) }, ca.ErrUnavailable, 0},
		{"CA is suspended", func(w *world) { w.ca.Fail(adcstest.Suspended, -1) }, ca.ErrUnavailable, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, adcstest.SOAPUser, adcstest.SOAPOptions{}, nil)
			if _, err := w.bridge.Chain(t.Context()); err != nil { // the policy is known
				t.Fatalf("Chain: %v", err)
			}
			c.breaks(w)
			_, err := w.bridge.Issue(t.Context(), request(t, "IntuneDevice"))
			if !errors.Is(err, c.want) {
				t.Fatalf("got error %v, want one that is %v", err, c.want)
			}
			if errors.Is(err, ca.ErrUnavailable) && errors.Is(err, ca.ErrOutcomeUnknown) {
				t.Errorf("error %v says both that nothing and that something may have happened", err)
			}
			if strings.Contains(err.Error(), adcstest.DefaultPassword) {
				t.Error("the error has the password in it")
			}
			if got := len(w.ca.Rows()); got != c.issued {
				t.Errorf("%d requests at the CA, want %d", got, c.issued)
			}
		})
	}
}

func TestNoAnswerWithinTheTime(t *testing.T) {
	// A busy machine may need longer than that to reach the CA: then it is tried
	// again with more.
	for within := time.Second; ; within *= 4 {
		w := newWorld(t, adcstest.SOAPUser, adcstest.SOAPOptions{}, func(c *wstep.Config) { c.SubmitWithin = within })
		if _, err := w.bridge.Chain(t.Context()); err != nil { // the policy is known
			t.Fatalf("Chain: %v", err)
		}
		w.ca.Fail(adcstest.Stall, 1)
		_, err := w.bridge.Issue(t.Context(), request(t, "IntuneDevice"))
		if w.ca.Left(adcstest.Stall) > 0 && within < time.Minute {
			continue
		}
		if !errors.Is(err, ca.ErrOutcomeUnknown) || errors.Is(err, ca.ErrUnavailable) {
			t.Errorf("got error %v, want ca.ErrOutcomeUnknown alone", err)
		}
		if got := len(w.ca.Rows()); got != 1 {
			t.Errorf("%d requests at the CA, want 1", got)
		}
		return
	}
}

// Polling changes nothing at the CA, so it can always be done again.
func TestPollingThatFailsIsRepeated(t *testing.T) {
	w := newWorld(t, adcstest.SOAPUser, adcstest.SOAPOptions{}, nil)
	_, err := w.bridge.Issue(t.Context(), request(t, "IntuneManual"))
	pending, ok := errors.AsType[*ca.Pending](err)
	if !ok {
		t.Fatalf("got error %v, want *ca.Pending", err)
	}
	if hr := w.ca.Approve("officer", 1); hr != 0 {
		t.Fatalf("Approve: %s", ca.Advice(hr))
	}
	for _, mode := range []adcstest.SOAPFault{adcstest.WrongRelatesTo, adcstest.InternalFault, adcstest.OtherRequestID, adcstest.BareUnavailable} {
		w.soap.Fail(mode, 1)
		_, err := w.bridge.Collect(t.Context(), pending.RequestID)
		if !errors.Is(err, ca.ErrUnavailable) || errors.Is(err, ca.ErrOutcomeUnknown) {
			t.Errorf("fault %d: got error %v, want ca.ErrUnavailable alone", mode, err)
		}
	}
	w.soap.Fail(adcstest.OnlyCMC, 1)
	for range 2 {
		if got, err := w.bridge.Collect(t.Context(), pending.RequestID); err != nil || got.RequestID != pending.RequestID {
			t.Errorf("Collect: %+v, %v", got, err)
		}
	}
	if _, err := w.bridge.Collect(t.Context(), "1 2"); !errors.Is(err, ca.ErrNotFound) {
		t.Errorf("what is no request ID: got error %v, want ca.ErrNotFound", err)
	}
}

func TestCertificateInTheCMCResponseAlone(t *testing.T) {
	w := newWorld(t, adcstest.SOAPUser, adcstest.SOAPOptions{}, nil)
	w.soap.Fail(adcstest.OnlyCMC, 1)
	req := request(t, "IntuneDevice")
	got, err := w.bridge.Issue(t.Context(), req)
	if err != nil || string(got.Certificate.RawSubject) != string(req.CSR.RawSubject) {
		t.Fatalf("Issue: %+v, %v", got, err)
	}
}

// A wrong password is tried once, or the domain locks the account.
func TestRefusedPasswordRests(t *testing.T) {
	now := time.Now()
	w := newWorld(t, adcstest.SOAPUser, adcstest.SOAPOptions{}, func(c *wstep.Config) {
		c.User.Password = "guess"
		c.Clock = func() time.Time { return now }
	})
	for range 3 {
		_, err := w.bridge.Issue(t.Context(), request(t, "IntuneDevice"))
		if !errors.Is(err, ca.ErrUnavailable) || !errors.Is(err, ca.ErrForbidden) {
			t.Fatalf("got error %v, want ca.ErrUnavailable and ca.ErrForbidden", err)
		}
		if strings.Contains(err.Error(), "guess") {
			t.Error("the error has the password in it")
		}
	}
	if got := len(w.soap.Requests()); got != 1 {
		t.Errorf("%d messages with a wrong password, want 1", got)
	}
	now = now.Add(2 * time.Minute)
	if _, err := w.bridge.Chain(t.Context()); !errors.Is(err, ca.ErrForbidden) {
		t.Errorf("got error %v, want ca.ErrForbidden", err)
	}
	if got := len(w.soap.Requests()); got != 2 {
		t.Errorf("%d messages after the rest, want 2", got)
	}
}

func TestRefusalsCarryCodeAndAdvice(t *testing.T) {
	w := newWorld(t, adcstest.SOAPUser, adcstest.SOAPOptions{}, nil)
	weak := ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{Key: testkeys.RSA1024()}), Template: "IntuneDevice"}
	for _, c := range []struct {
		name   string
		req    ca.Request
		code   int32
		advice string
	}{
		{"template without right", request(t, "Machine"), adcstest.TemplateDenied, "Read and Enroll"},
		{"no template", request(t, ""), adcstest.NoTemplate, "name a template"},
		{"key too short", weak, adcstest.KeyLength, "key size"},
	} {
		_, err := w.bridge.Issue(t.Context(), c.req)
		denied, ok := errors.AsType[*ca.Denied](err)
		if !ok || denied.HResult != c.code || !strings.Contains(denied.Text, c.advice) {
			t.Errorf("%s: got error %v, want code 0x%08X and advice %q", c.name, err, uint32(c.code), c.advice)
		}
	}
	_, err := w.bridge.Issue(t.Context(), request(t, "IntuneDevice\nSAN:upn=admin@corp.test"))
	if _, ok := errors.AsType[*ca.Denied](err); !ok {
		t.Errorf("line end in the template's name: got error %v, want *ca.Denied", err)
	}
	for _, row := range w.ca.Rows() {
		if strings.Contains(strings.ToLower(row.Attributes), "san:") {
			t.Errorf("a SAN attribute reached the CA: %q", row.Attributes)
		}
	}
}

func TestAccountsWithoutRights(t *testing.T) {
	w := newWorld(t, adcstest.SOAPUser, adcstest.SOAPOptions{}, func(c *wstep.Config) { c.User.Name = "low@corp.test" })
	_, err := w.bridge.Issue(t.Context(), request(t, "IntuneDevice"))
	if !errors.Is(err, ca.ErrForbidden) || !errors.Is(err, ca.ErrUnavailable) || !strings.Contains(err.Error(), "Request Certificates") {
		t.Errorf("by the policy: got error %v, want ca.ErrForbidden that names the right", err)
	}
	w.config.Enrollment = []string{w.soap.Enrollment(adcstest.SOAPUser)}
	w.connect(t)
	_, err = w.bridge.Issue(t.Context(), request(t, "IntuneDevice"))
	if denied, ok := errors.AsType[*ca.Denied](err); !ok || denied.HResult != adcstest.EnrollDenied {
		t.Errorf("by the CA: got error %v, want *ca.Denied with CERTSRV_E_ENROLL_DENIED", err)
	}
}

func TestDeadAddressIsPassedOver(t *testing.T) {
	w := newWorld(t, adcstest.SOAPUser, adcstest.SOAPOptions{DeadFirst: true}, nil)
	if _, err := w.bridge.Issue(t.Context(), request(t, "IntuneDevice")); err != nil {
		t.Errorf("Issue: %v", err)
	}
	if got := len(w.ca.Rows()); got != 1 {
		t.Errorf("%d requests at the CA, want 1", got)
	}
}

func TestPolicyIsKept(t *testing.T) {
	now := time.Now()
	w := newWorld(t, adcstest.SOAPUser, adcstest.SOAPOptions{NextUpdateHours: 2, NotChanged: true}, func(c *wstep.Config) {
		c.Clock = func() time.Time { return now }
	})
	asked := func() int {
		return len(slices.DeleteFunc(w.soap.Requests(), func(action string) bool { return !strings.HasSuffix(action, "GetPolicies") }))
	}
	issue := func(what string, policies int) {
		t.Helper()
		if _, err := w.bridge.Issue(t.Context(), request(t, "IntuneDevice")); err != nil {
			t.Fatalf("%s: Issue: %v", what, err)
		}
		if got := asked(); got != policies {
			t.Errorf("%s: asked %d times for the policy, want %d", what, got, policies)
		}
	}
	issue("first", 1)
	issue("within the time", 1)
	now = now.Add(3 * time.Minute) // the message's time stamp must fit the server's clock
	w.soap.Fail(adcstest.PolicyDown, -1)
	issue("policy service down, within the time", 1)
	if _, err := w.bridge.Templates(t.Context()); err != nil {
		t.Errorf("policy service down: Templates: %v", err)
	}
	w.soap.Fail(adcstest.PolicyDown, 0)
	now = now.Add(90 * time.Second) // past the minute for which the old one is used on
	issue("policy service back, nothing changed", 2)
}

func TestTemplatesAreThoseOfTheAccount(t *testing.T) {
	w := newWorld(t, adcstest.SOAPUser, adcstest.SOAPOptions{}, nil)
	list, err := w.bridge.Templates(t.Context())
	if err != nil {
		t.Fatalf("Templates: %v", err)
	}
	var names []string
	for _, l := range list {
		names = append(names, l.Name)
		if l.OID == "" || !l.Enroll || l.MinKeyBits != 2048 || l.Validity != 365*24*time.Hour || l.SubjectFromRequest == (l.Name == "User") {
			t.Errorf("template %+v", l)
		}
	}
	if want := []string{"IntuneDevice", "IntuneManual", "IntuneForbidden", "User"}; !slices.Equal(names, want) {
		t.Errorf("templates %q, want %q", names, want)
	}
}

// Without configured issuers the policy's certificate is believed and the root
// comes with the first answer.
func TestRootIsLearnt(t *testing.T) {
	w := newWorld(t, adcstest.SOAPUser, adcstest.SOAPOptions{}, func(c *wstep.Config) { c.Issuers = nil })
	if _, err := w.bridge.Chain(t.Context()); !errors.Is(err, ca.ErrUnavailable) {
		t.Errorf("before an answer: got error %v, want ca.ErrUnavailable", err)
	}
	if _, err := w.bridge.Issue(t.Context(), request(t, "IntuneDevice")); err != nil {
		t.Fatalf("Issue: %v", err)
	}
	chain, err := w.bridge.Chain(t.Context())
	if err != nil || len(chain) != 2 || !chain[1].Equal(w.ca.Root()) {
		t.Errorf("after an answer: %d certificates, %v", len(chain), err)
	}
}

func TestForeignRootIsRefused(t *testing.T) {
	other, err := adcstest.New(adcstest.Options{})
	if err != nil {
		t.Fatalf("making a CA: %v", err)
	}
	w := newWorld(t, adcstest.SOAPUser, adcstest.SOAPOptions{}, func(c *wstep.Config) { c.Issuers = []*x509.Certificate{other.Root()} })
	if _, err := w.bridge.Issue(t.Context(), request(t, "IntuneDevice")); !errors.Is(err, ca.ErrOutcomeUnknown) {
		t.Errorf("Issue: got error %v, want ca.ErrOutcomeUnknown", err)
	}
	if chain, err := w.bridge.Chain(t.Context()); err == nil {
		t.Errorf("Chain: %d certificates of a foreign root", len(chain))
	}
}

// The services may stand in front of another CA than the one that is
// configured: our key alone does not make a certificate ours.
func TestCertificateOfAnotherCAIsRefused(t *testing.T) {
	other, err := adcstest.New(adcstest.Options{})
	if err != nil {
		t.Fatalf("making a CA: %v", err)
	}
	w := newWorld(t, adcstest.SOAPUser, adcstest.SOAPOptions{}, nil)
	w.config.Enrollment, w.config.Policy = []string{w.soap.Enrollment(adcstest.SOAPUser)}, ""
	w.config.Issuers = []*x509.Certificate{other.Certificate(), other.Root(), w.ca.Root()}
	w.connect(t)
	if _, err := w.bridge.Issue(t.Context(), request(t, "IntuneDevice")); !errors.Is(err, ca.ErrOutcomeUnknown) {
		t.Errorf("got error %v, want ca.ErrOutcomeUnknown", err)
	}
}

func TestEnrollmentWithoutPolicy(t *testing.T) {
	w := newWorld(t, adcstest.SOAPUser, adcstest.SOAPOptions{}, func(c *wstep.Config) { c.SendValidity = false })
	w.config.Enrollment, w.config.Policy = []string{w.soap.Enrollment(adcstest.SOAPUser)}, ""
	w.config.Issuers = []*x509.Certificate{w.ca.Certificate(), w.ca.Root()}
	core, logs := observer.New(zap.WarnLevel)
	w.config.Log = zap.New(core)
	w.connect(t)
	req := request(t, "IntuneDevice")
	req.Validity = 24 * time.Hour
	got, err := w.bridge.Issue(t.Context(), req)
	if err != nil {
		t.Fatalf("Issue: %v", err)
	}
	if logs.FilterField(zap.String("request_id", got.RequestID)).Len() != 1 {
		t.Errorf("no warning that the wish was not kept: %v", logs.All())
	}
	if got := w.soap.Requests(); len(got) != 1 {
		t.Errorf("%d messages, want the request alone", len(got))
	}
}

func TestConfigurationsThatCannotWork(t *testing.T) {
	const policy = "https://pki.corp.test/ADPolicyProvider_CEP_UsernamePassword/service.svc/CEP"
	user := &wstep.User{Name: "svc", Password: "x"}
	for name, config := range map[string]wstep.Config{
		"nobody signs in":              {Policy: policy},
		"two ways to sign in":          {Policy: policy, User: user, Certificate: clientFiles(t)},
		"password without TLS":         {Policy: "http://pki.corp.test/CEP", User: user},
		"user in the address":          {Policy: "https://svc:x@pki.corp.test/CEP", User: user},
		"no password":                  {Policy: policy, User: &wstep.User{Name: "svc"}},
		"no address":                   {User: user},
		"enrolment without CA's chain": {Enrollment: []string{policy}, User: user},
	} {
		if _, err := wstep.New(config); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func clientFiles(t *testing.T) (c *negotiate.Certificate) {
	c, _ = clientCertificate(t, "svc")
	return c
}

func TestNobodyListens(t *testing.T) {
	w := newWorld(t, adcstest.SOAPUser, adcstest.SOAPOptions{}, nil)
	w.soap.Close()
	for _, enrollment := range [][]string{nil, {w.soap.Enrollment(adcstest.SOAPUser)}} {
		w.config.Enrollment = enrollment
		w.connect(t)
		_, err := w.bridge.Issue(t.Context(), request(t, "IntuneDevice"))
		if !errors.Is(err, ca.ErrUnavailable) || errors.Is(err, ca.ErrOutcomeUnknown) {
			t.Errorf("enrolment addresses %q: got error %v, want ca.ErrUnavailable alone", enrollment, err)
		}
	}
}

func TestCancelledWhileTheCAStalls(t *testing.T) {
	w := newWorld(t, adcstest.SOAPUser, adcstest.SOAPOptions{}, nil)
	if _, err := w.bridge.Chain(t.Context()); err != nil {
		t.Fatalf("Chain: %v", err)
	}
	w.ca.Fail(adcstest.Stall, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for w.ca.Left(adcstest.Stall) > 0 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if _, err := w.bridge.Issue(ctx, request(t, "IntuneDevice")); !errors.Is(err, ca.ErrOutcomeUnknown) {
		t.Errorf("got error %v, want ca.ErrOutcomeUnknown", err)
	}
}
