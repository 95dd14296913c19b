package crphttp_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certconnector/certconnector/crp/crphttp"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/policymodule"
)

// stand is a handler with fakes around it, past any server.
type stand struct {
	*crphttp.Handler
	module   *fakeModule
	verdicts *fakeVerdicts
	reporter *fakeReporter
	request  policymodule.Request
}

func newStand(t *testing.T, change ...func(*crphttp.Config)) *stand {
	t.Helper()
	_, r := pond(t)
	s := &stand{module: &fakeModule{}, verdicts: &fakeVerdicts{}, reporter: &fakeReporter{told: true}, request: r}
	config := crphttp.Config{
		FrontEnds: []crphttp.FrontEnd{
			{Name: "scep", Tenants: []string{"contoso"}}, {Name: "ndes", Tenants: []string{"contoso"}, ReleasesItself: true},
		},
		Modules: map[string]policymodule.Module{"contoso": s.module}, Verdicts: s.verdicts, Reporter: s.reporter,
		Identify: func(r *http.Request) (string, error) { return r.Header.Get("X-Front-End"), nil },
	}
	for _, f := range change {
		f(&config)
	}
	var err error
	if s.Handler, err = crphttp.New(config); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *stand) as(frontEnd, path string, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(string(body)))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Front-End", frontEnd)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func (s *stand) want(t *testing.T, what string, answer *httptest.ResponseRecorder, status int, part string) {
	t.Helper()
	if answer.Code != status || !strings.Contains(answer.Body.String(), part) {
		t.Errorf("%s: status %d, %s; want %d and %s", what, answer.Code, answer.Body, status, part)
	}
}

// A small reader in C depends on this: flat, verdict or rule first, in order.
func TestAnswersAsTheyAreWritten(t *testing.T) {
	s := newStand(t)
	body := question(t, s.request)
	for _, row := range []struct {
		what, frontEnd string
		decision       policymodule.Decision
		status         int
		text           string
	}{
		{
			"granted", "scep", policymodule.Decision{Granted: true, Notify: true, VouchedNames: true, MaxValidity: time.Hour, ChallengeMade: time.Unix(1_800_000_000, 0)},
			201, `{"verdict":"granted","notify":true,"namesVouched":true,"releasesItself":false,"maxValiditySeconds":3600,"challengeMade":"2027-01-15T08:00:00Z"}`,
		},
		{
			"granted to NDES", "ndes", policymodule.Decision{Granted: true, Notify: true},
			201, `{"verdict":"granted","notify":true,"namesVouched":false,"releasesItself":true,"maxValiditySeconds":0}`,
		},
		{
			"refused", "scep", policymodule.Refuse("a_rule", policymodule.BadTime, "line\nbreak"),
			201, `{"verdict":"refused","rule":"a_rule","failInfo":3,"failInfoName":"badTime","detail":"line\nbreak"}`,
		},
		{
			"refused at length", "scep", policymodule.Refuse("a_rule", policymodule.BadAlg, strings.Repeat("ä", 300)),
			201, `{"verdict":"refused","rule":"a_rule","failInfo":0,"failInfoName":"badAlg","detail":"` + strings.Repeat("ä", 256) + `"}`,
		},
		{
			"not served", "nobody", policymodule.Decision{},
			403, `{"rule":"client_certificate_name","status":403,"title":"Forbidden","detail":"no such front end is configured"}`,
		},
	} {
		s.module.verify = func(context.Context) (policymodule.Decision, error) { return row.decision, nil }
		if answer := s.as(row.frontEnd, crphttp.VerifyPath, body); answer.Code != row.status || answer.Body.String() != row.text {
			t.Errorf("%s: status %d, %s", row.what, answer.Code, answer.Body)
		}
	}
}

// Eight identical questions at one time are one, and who hangs up takes
// nothing away from the others.
func TestIdenticalQuestionsAreJoined(t *testing.T) {
	s := newStand(t)
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s.module.verify = func(ctx context.Context) (policymodule.Decision, error) {
			<-release
			return policymodule.Decision{Granted: true}, ctx.Err()
		}
		body := question(t, s.request)
		other := question(t, s.request, "endpoint", "other")
		first, hangUp := context.WithCancel(t.Context())
		answers := make([]*httptest.ResponseRecorder, 9)
		var wg sync.WaitGroup
		for i := range answers {
			wg.Go(func() {
				r := httptest.NewRequest(http.MethodPost, crphttp.VerifyPath, strings.NewReader(string(map[bool][]byte{true: other, false: body}[i == 8])))
				r.Header.Set("Content-Type", "application/json")
				r.Header.Set("X-Front-End", "scep")
				answers[i] = httptest.NewRecorder()
				s.ServeHTTP(answers[i], r.WithContext(first))
			})
		}
		synctest.Wait()
		hangUp()
		synctest.Wait()
		close(release)
		wg.Wait()
		for i, answer := range answers {
			s.want(t, fmt.Sprint("question ", i), answer, 201, "granted")
		}
		if s.module.asked != 2 {
			t.Errorf("asked %d times, want 2: one question names another endpoint", s.module.asked)
		}
	})
}

// A cloud that does not answer, and too many that wait for it.
func TestSlowCloud(t *testing.T) {
	s := newStand(t, func(c *crphttp.Config) { c.Limits.Concurrency = 2 })
	synctest.Test(t, func(t *testing.T) {
		s.module.verify = func(ctx context.Context) (policymodule.Decision, error) {
			<-ctx.Done()
			return policymodule.Decision{}, ctx.Err()
		}
		began := time.Now()
		var wg sync.WaitGroup
		for i := range 2 {
			wg.Go(func() {
				s.want(t, "waiting", s.as("scep", crphttp.VerifyPath, question(t, s.request, "template", fmt.Sprint(i))), 503, "could_not_ask")
			})
		}
		synctest.Wait()
		busy := s.as("ndes", crphttp.VerifyPath, question(t, s.request))
		s.want(t, "one too many", busy, 503, "too_many_requests")
		if busy.Header().Get("Retry-After") != "30" {
			t.Errorf("Retry-After %q", busy.Header().Get("Retry-After"))
		}
		wg.Wait()
		if took := time.Since(began); took != 35*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// What cannot be recorded was not granted, and not taken.
func TestStoreFails(t *testing.T) {
	s := newStand(t)
	verify, notify := question(t, s.request), body(t, notifyMembers(issued(t, s.request, 1)))
	s.verdicts.fail(errors.New("disk full"), nil)
	s.want(t, "verify", s.as("scep", crphttp.VerifyPath, verify), 503, "could_not_ask")
	if s.module.asked != 0 {
		t.Error("the cloud was asked although nothing could be looked up")
	}
	s.want(t, "notify", s.as("scep", crphttp.NotifyPath, notify), 503, "could_not_tell")
	s.verdicts.fail(nil, nil)
	s.want(t, "verify", s.as("scep", crphttp.VerifyPath, verify), 201, "granted")
	s.verdicts.fail(nil, errors.New("disk full"))
	s.want(t, "told, not recorded", s.as("scep", crphttp.NotifyPath, notify), 503, "could_not_tell")
	s.verdicts.fail(nil, nil)
	for range 2 {
		s.want(t, "told again", s.as("scep", crphttp.NotifyPath, notify), 204, "")
	}
	if s.module.heard != 2 {
		t.Errorf("told %d times, want 2", s.module.heard)
	}
}

// A module that panics costs one exchange.
func TestPanic(t *testing.T) {
	s := newStand(t)
	s.module.verify = func(context.Context) (policymodule.Decision, error) { panic("boom") }
	s.want(t, "panic", s.as("scep", crphttp.VerifyPath, question(t, s.request)), 500, "internal_error")
	s.module.verify = nil
	s.want(t, "after it", s.as("scep", crphttp.VerifyPath, question(t, s.request)), 201, "granted")
}

// Microsoft's NDES gives the certificate to the device whatever we say: its
// outcomes are recorded first, told, and a certificate that must not be is
// revoked.
func TestFrontEndThatReleasesItself(t *testing.T) {
	for _, row := range []struct {
		name   string
		told   bool
		err    error
		status int
		rule   string
		again  int
		asked  int // reports in the end
	}{
		{"told at once", true, nil, 204, "", 204, 1},
		{"recorded, told later", false, nil, 202, "", 204, 1},
		{"not even recorded", false, errors.New("disk full"), 503, "could_not_tell", 503, 2},
		{"refused for good", false, fmt.Errorf("%w: no", policymodule.ErrNotifyRefused), 409, "notify_refused", 409, 1},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newStand(t)
			s.want(t, "verify", s.as("ndes", crphttp.VerifyPath, question(t, s.request)), 201, `"releasesItself":true`)
			s.reporter.set(row.told, row.err)
			notify := body(t, notifyMembers(issued(t, s.request, 1)))
			s.want(t, "first", s.as("ndes", crphttp.NotifyPath, notify), row.status, row.rule)
			s.want(t, "again", s.as("ndes", crphttp.NotifyPath, notify), row.again, "")
			reports := 0
			for _, n := range s.reporter.reports {
				reports += n
			}
			if reports != row.asked || s.module.heard != 0 {
				t.Errorf("%d reports, %d to the module; want %d and none", reports, s.module.heard, row.asked)
			}
		})
	}
}

// A second certificate that NDES released is revoked and never told. One for
// another key, or of another CA, is neither: it may be another device's.
func TestReleasedThoughItMustNot(t *testing.T) {
	var down error
	s := newStand(t, func(c *crphttp.Config) {
		c.FrontEnds[1].Issuers = func(context.Context) ([]*x509.Certificate, error) {
			return []*x509.Certificate{authority(t)}, down
		}
	})
	s.want(t, "verify", s.as("ndes", crphttp.VerifyPath, question(t, s.request)), 201, "granted")
	first, second := issued(t, s.request, 1), issued(t, s.request, 2)
	otherKey, otherCA := first, first
	otherKey.Certificate, otherCA.Certificate = authority(t), selfIssued(t, s.request)
	refused := func() {
		t.Helper()
		for name, o := range map[string]policymodule.Outcome{"another key": otherKey, "another CA": otherCA} {
			s.want(t, name, s.as("ndes", crphttp.NotifyPath, body(t, notifyMembers(o))), 409, "certificate_not_of_request")
			if s.reporter.rejected[thumbprint(o)] != 0 || s.reporter.reports[thumbprint(o)] != 0 {
				t.Errorf("%s: rejected or reported", name)
			}
		}
	}
	refused()
	down = errors.New("the CA is down")
	s.want(t, "CA down", s.as("ndes", crphttp.NotifyPath, body(t, notifyMembers(first))), 503, "could_not_tell")
	down = nil
	s.want(t, "first", s.as("ndes", crphttp.NotifyPath, body(t, notifyMembers(first))), 204, "")
	for range 2 {
		s.want(t, "second", s.as("ndes", crphttp.NotifyPath, body(t, notifyMembers(second))), 409, "outcome_differs")
	}
	if s.reporter.rejected[thumbprint(second)] != 2 || s.reporter.rejected[thumbprint(first)] != 0 || s.reporter.reports[thumbprint(second)] != 0 {
		t.Errorf("rejected %v, reports %v", s.reporter.rejected, s.reporter.reports)
	}
	refused()
}

// selfIssued has the request's key, and a serial number that its maker chose.
func selfIssued(t *testing.T, r policymodule.Request) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: authority(t).Subject, IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, r.CSR.PublicKey, testkeys.RSA2048(0))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestNewRefusesNonsense(t *testing.T) {
	identify := func(*http.Request) (string, error) { return "", nil }
	modules := map[string]policymodule.Module{"contoso": &fakeModule{}}
	one := func(f crphttp.FrontEnd) crphttp.Config {
		return crphttp.Config{Verdicts: &fakeVerdicts{}, Identify: identify, Modules: modules, FrontEnds: []crphttp.FrontEnd{f}}
	}
	for name, config := range map[string]crphttp.Config{
		"nothing":                      {},
		"a front end without a name":   one(crphttp.FrontEnd{Tenants: []string{"contoso"}}),
		"a front end without a tenant": one(crphttp.FrontEnd{Name: "a"}),
		"a tenant that there is not":   one(crphttp.FrontEnd{Name: "a", Tenants: []string{"fabrikam"}}),
		"reports that nobody can take": one(crphttp.FrontEnd{Name: "a", Tenants: []string{"contoso"}, ReleasesItself: true}),
		"two front ends of one name":   {Verdicts: &fakeVerdicts{}, Identify: identify, Modules: modules, FrontEnds: []crphttp.FrontEnd{{Name: "a", Tenants: []string{"contoso"}}, {Name: "a", Tenants: []string{"contoso"}}}},
		"no place to record a verdict": {Identify: identify, Modules: modules, FrontEnds: []crphttp.FrontEnd{{Name: "a", Tenants: []string{"contoso"}}}},
		"nobody who tells the callers": {Verdicts: &fakeVerdicts{}, Modules: modules, FrontEnds: []crphttp.FrontEnd{{Name: "a", Tenants: []string{"contoso"}}}},
	} {
		if _, err := crphttp.New(config); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
