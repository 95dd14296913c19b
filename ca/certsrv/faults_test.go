package certsrv_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/adcstest"
	"github.com/certconnector/certconnector/ca/catest"
	"github.com/certconnector/certconnector/ca/certsrv"
	"github.com/certconnector/certconnector/internal/negotiate"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/testkeys"
)

// TestFaultsOfTheCA: nothing is released, nothing is taken for "not issued",
// and the error names the CA.
func TestFaultsOfTheCA(t *testing.T) {
	for name, c := range map[string]struct {
		fault adcstest.Fault
		times int
		want  error
	}{
		"a page of another server":                {adcstest.GarbagePage, -1, ca.ErrOutcomeUnknown},
		"page cut off":                            {adcstest.CorruptReply, -1, ca.ErrOutcomeUnknown},
		"certificate of another request":          {adcstest.WrongCertificate, -1, ca.ErrOutcomeUnknown},
		"connection cut after issuing":            {adcstest.DropAfterIssue, 1, ca.ErrOutcomeUnknown},
		"backup: surely not taken, says the code": {adcstest.Suspended, -1, ca.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, ntlm, adcstest.WebOptions{})
			bridge := open(t, s.config)
			if _, err := bridge.Chain(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.ca.Fail(c.fault, c.times)
			req := s.request(t)
			got, err := bridge.Issue(t.Context(), req)
			other := map[error]error{ca.ErrUnavailable: ca.ErrOutcomeUnknown, ca.ErrOutcomeUnknown: ca.ErrUnavailable}[c.want]
			if got != nil || !errors.Is(err, c.want) || errors.Is(err, other) || !strings.Contains(err.Error(), "corp") {
				t.Fatalf("got %v, %v, want %v and the CA's name", got, err, c.want)
			}
			s.ca.Heal()
			if _, err := bridge.Issue(t.Context(), s.request(t)); err != nil {
				t.Errorf("after the fault: %v", err)
			}
		})
	}
}

// TestNoAnswer: what the CA was asked may be done.
func TestNoAnswer(t *testing.T) {
	// A busy machine may need longer than that to reach the CA: then it is tried
	// again with more.
	for within := time.Second; ; within *= 4 {
		s := start(t, ntlm, adcstest.WebOptions{})
		s.config.SubmitTimeout = within
		bridge := open(t, s.config)
		if _, err := bridge.Chain(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.ca.Fail(adcstest.Stall, 1)
		got, err := bridge.Issue(t.Context(), s.request(t))
		if s.ca.Left(adcstest.Stall) > 0 && within < time.Minute {
			continue
		}
		if got != nil || !errors.Is(err, ca.ErrOutcomeUnknown) || errors.Is(err, ca.ErrUnavailable) || !strings.Contains(err.Error(), "corp") {
			t.Errorf("got %v, %v, want ErrOutcomeUnknown and the CA's name", got, err)
		}
		s.ca.Heal()
		s.mustIssue(t)
		return
	}
}

// TestSearchSeesTheLimit: a parked request may be the one we look for.
func TestSearchSeesTheLimit(t *testing.T) {
	s := start(t, basic, adcstest.WebOptions{})
	other := catest.NewCSR(t, catest.CSROptions{})
	s.ca.Submit(t.Context(), "enroll", "CertificateTemplate:IntuneManual", other.Raw)
	ours := catest.NewCSR(t, catest.CSROptions{})
	_, err := s.bridge.Find(t.Context(), ca.Query{
		CSRDigest: ours.Digest(), KeyDigest: ours.KeyDigest(), From: time.Now().Add(-time.Hour), To: time.Now().Add(time.Hour),
	})
	if !errors.Is(err, ca.ErrOutcomeUnknown) {
		t.Errorf("got %v, want ErrOutcomeUnknown", err)
	}
}

// TestSearchAfterARestart: no request ID is known, and the last ones belong to
// others.
func TestSearchAfterARestart(t *testing.T) {
	s := start(t, basic, adcstest.WebOptions{})
	for range 60 {
		s.ca.Submit(t.Context(), "enroll", "CertificateTemplate:IntuneForbidden", catest.NewCSR(t, catest.CSROptions{}).Raw)
	}
	req := s.request(t)
	s.ca.Fail(adcstest.DropAfterIssue, 1)
	if _, err := s.bridge.Issue(t.Context(), req); !errors.Is(err, ca.ErrOutcomeUnknown) {
		t.Fatalf("got %v, want ErrOutcomeUnknown", err)
	}
	got, err := open(t, s.config).Find(t.Context(), ca.Query{
		CSRDigest: req.CSR.Digest(), KeyDigest: req.CSR.KeyDigest(), From: time.Now().Add(-time.Hour), To: time.Now().Add(time.Hour),
	})
	if err != nil || got.RequestID != "62" {
		t.Errorf("got %v, %v, want request 62", got, err)
	}
}

// TestSearchAfterARestartBelievesNoAbsenceTooEarly: a request of the process
// before this one may still be on its way, and an earlier one with the same key
// is not the one that was lost.
func TestSearchAfterARestartBelievesNoAbsenceTooEarly(t *testing.T) {
	s := start(t, basic, adcstest.WebOptions{})
	earlier := s.request(t)
	if _, err := s.bridge.Issue(t.Context(), earlier); err != nil {
		t.Fatal(err)
	}
	find := func(csr *pkcs10.Request, sent time.Time) error {
		_, err := open(t, s.config).Find(t.Context(), ca.Query{
			CSRDigest: csr.Digest(), KeyDigest: csr.KeyDigest(), NameDigest: csr.NameDigest(), Sent: sent,
			From: time.Now().Add(-time.Hour), To: time.Now().Add(time.Hour),
		})
		return err
	}
	lost := catest.NewCSR(t, catest.CSROptions{Key: testkeys.RSA2048(5)})
	if err := find(lost, time.Now().Add(-10*time.Second)); !errors.Is(err, ca.ErrOutcomeUnknown) {
		t.Errorf("ten seconds after the submission: %v, want ErrOutcomeUnknown", err)
	}
	if err := find(lost, time.Now().Add(-2*time.Minute)); !errors.Is(err, ca.ErrNotFound) {
		t.Errorf("two minutes after the submission: %v, want ErrNotFound", err)
	}
	other := *earlier.CSR
	other.RawSubject = lost.RawSubject
	other.Raw = lost.Raw
	if err := find(&other, time.Now().Add(-2*time.Minute)); !errors.Is(err, ca.ErrOutcomeUnknown) {
		t.Errorf("the same key and other names: %v, want ErrOutcomeUnknown", err)
	}
}

// TestRefusals: the code decides, and its advice is told.
func TestRefusals(t *testing.T) {
	s := start(t, basic, adcstest.WebOptions{German: true})
	for template, code := range map[string]int32{
		"Machine": adcstest.TemplateDenied, "Nonexistent": adcstest.UnknownTemplate, "": adcstest.NoTemplate,
		"IntuneDevice\r\nSAN:upn=admin@corp.test": ca.HResultUnknownTemplate,
	} {
		req := s.request(t)
		req.Template = template
		before := len(s.ca.Rows())
		_, err := s.bridge.Issue(t.Context(), req)
		denied, ok := errors.AsType[*ca.Denied](err)
		if !ok || denied.HResult != code {
			t.Errorf("template %q: got %v, want 0x%08X", template, err, uint32(code))
		}
		if strings.Contains(template, "SAN") && len(s.ca.Rows()) != before {
			t.Error("a template name with a line break reached the CA")
		}
	}
}

func TestWrongPassword(t *testing.T) {
	s := start(t, basic, adcstest.WebOptions{WebAuth: adcstest.WebAuth{NTLM: true, NTLMInNegotiate: true}})
	for name, change := range map[string]func(c *certsrv.Config){
		"Basic": func(c *certsrv.Config) { c.Basic = &negotiate.Basic{User: "svc", Password: "wrong"} },
		"NTLM": func(c *certsrv.Config) {
			c.Basic, c.NTLM = nil, &negotiate.NTLM{User: `CORP\svc`, Password: "wrong"}
		},
	} {
		config := s.config
		change(&config)
		bridge, before := open(t, config), len(s.ca.Rows())
		for range 2 {
			_, err := bridge.Issue(t.Context(), s.request(t))
			if !errors.Is(err, ca.ErrUnavailable) {
				t.Errorf("%s: got %v, want ErrUnavailable", name, err)
			}
		}
		if len(s.ca.Rows()) != before {
			t.Errorf("%s: a request without credentials was taken", name)
		}
	}
}

// TestNTLMInsideNegotiate: some servers offer NTLM under that scheme alone.
func TestNTLMInsideNegotiate(t *testing.T) {
	s := start(t, func(_ *testing.T, _ *adcstest.CA, o *adcstest.WebOptions, config *certsrv.Config) {
		o.NTLMInNegotiate, o.RequireChannelBinding = true, true
		config.NTLM = &negotiate.NTLM{User: "svc@corp.test", Password: adcstest.DefaultPassword}
	}, adcstest.WebOptions{})
	s.mustIssue(t)
	if s.web.SignedIn("NTLM") == 0 {
		t.Error("nobody signed in by NTLM")
	}
}

// TestForeignAnswers: what other servers and things between may answer to a
// submission.
func TestForeignAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   error
	}{
		"not found":             {http.NotFound, ca.ErrUnavailable},
		"no client certificate": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, ca.ErrUnavailable},
		"server error":          {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, ca.ErrOutcomeUnknown},
		"redirection to another host": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://evil.test/certsrv/", http.StatusTemporaryRedirect)
		}, ca.ErrUnavailable},
		"endless page": {func(w http.ResponseWriter, _ *http.Request) {
			io.Copy(w, io.LimitReader(zeros{}, 3<<20))
		}, ca.ErrOutcomeUnknown},
		"error page with a code of the road": {func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "<html><p id=locPageTitle>Fehler</p>Die RPC-Schnittstelle 0x800706ba (WIN32: 1722)</html>")
		}, ca.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, basic, adcstest.WebOptions{})
			between(t, s, func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPost {
					c.answer(w, r)
				}
				return r.Method == http.MethodPost
			})
			_, err := s.bridge.Issue(t.Context(), s.request(t))
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

// TestUnknownChainSubmitsNothing: whatever came back could not be checked.
func TestUnknownChainSubmitsNothing(t *testing.T) {
	s := start(t, basic, adcstest.WebOptions{})
	between(t, s, func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, ".p7b") {
			io.WriteString(w, "<html>It works!</html>")
			return true
		}
		return false
	})
	before := len(s.ca.Rows())
	if _, err := s.bridge.Issue(t.Context(), s.request(t)); !errors.Is(err, ca.ErrUnavailable) || errors.Is(err, ca.ErrOutcomeUnknown) {
		t.Errorf("got %v, want ErrUnavailable", err)
	}
	if len(s.ca.Rows()) != before {
		t.Error("the request reached the CA")
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// TestCancelled: a call that is given up while the CA thinks.
func TestCancelled(t *testing.T) {
	s := start(t, ntlm, adcstest.WebOptions{})
	s.mustIssue(t)
	s.ca.Fail(adcstest.Stall, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for s.ca.Left(adcstest.Stall) > 0 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if _, err := s.bridge.Issue(ctx, s.request(t)); !errors.Is(err, ca.ErrOutcomeUnknown) {
		t.Errorf("got %v, want ErrOutcomeUnknown", err)
	}
}
