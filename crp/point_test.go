package crp_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certconnector/certconnector/crp"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/retry"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/policymodule/moduletest"
)

// world is a registration point in front of a simulated cloud.
type world struct {
	cloud *intunetest.Cloud
	point *crp.Point
	mu    sync.Mutex
	now   time.Time
	made  atomic.Int64
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{now: time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)}
	var err error
	if w.cloud, err = intunetest.New(intunetest.Options{Clock: w.clock, Strict: true}); err != nil {
		t.Fatal(err)
	}
	if err := w.cloud.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.cloud.Close() })
	w.point = w.newPoint(t)
	return w
}

// newPoint is also what a restart makes.
func (w *world) newPoint(t *testing.T) *crp.Point {
	t.Helper()
	cfg := w.cloud.ClientConfig()
	cfg.Backoff = retry.Schedule{First: time.Millisecond, Most: 2 * time.Millisecond}
	// An attempt that ends early on a busy machine is made again, and counted.
	cfg.Timeouts = intune.Timeouts{
		Token: 2 * time.Minute, Discovery: 2 * time.Minute, Validate: 2 * time.Minute, Notify: 2 * time.Minute,
		Revocation: 2 * time.Minute, Graph: 2 * time.Minute, Renewal: 2 * time.Minute, Total: 4 * time.Minute,
	}
	client, err := intune.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	sealer, err := secret.NewSealer(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	p, err := crp.New(crp.Config{Tenant: "contoso", Cloud: client, Sealer: sealer, Clock: w.clock})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (w *world) request(t *testing.T, change ...func(*intunetest.Challenge)) policymodule.Request {
	t.Helper()
	ch, err := w.cloud.Challenge(intunetest.Ask{Platform: "ios"})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(&ch)
	}
	return policymodule.Request{
		Endpoint: "corp", TransactionID: fmt.Sprintf("transaction %d", w.made.Add(1)), CSR: parse(t, ch),
	}
}

func parse(t *testing.T, ch intunetest.Challenge) *pkcs10.Request {
	t.Helper()
	der, err := ch.CSR(testkeys.RSA2048(0))
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pkcs10.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func certificate(t *testing.T, serial int64) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "device"},
		NotBefore: time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2028, 3, 1, 13, 14, 15, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, testkeys.RSA2048(0).Public(), testkeys.P256(0))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestContract(t *testing.T) {
	moduletest.Run(t, func(t *testing.T) moduletest.Subject {
		w := newWorld(t)
		return moduletest.Subject{
			Module: w.point, VouchesNames: true, Notifies: true,
			Request: func(t *testing.T) policymodule.Request { return w.request(t) },
			Spoil: func(t *testing.T, r policymodule.Request) policymodule.Request {
				bad := w.request(t, func(ch *intunetest.Challenge) { ch.Challenge = "bm90IGEgY2hhbGxlbmdl" })
				bad.TransactionID = r.TransactionID
				return bad
			},
			Rename: func(t *testing.T, r policymodule.Request) policymodule.Request {
				return w.request(t, func(ch *intunetest.Challenge) {
					ch.Challenge, ch.Subject = r.CSR.ChallengePassword.Reveal(), "CN=administrator"
				})
			},
			Cut: func(*testing.T) func() {
				w.cloud.SetOutage(true)
				return func() { w.cloud.SetOutage(false) }
			},
		}
	})
}

// Every code of Intune is a refusal with a rule of its own and the failInfo
// that our documents promise.
func TestCodes(t *testing.T) {
	info := map[intune.Code]policymodule.FailInfo{
		intune.ChallengeDeserializationError: policymodule.BadMessageCheck,
		intune.ChallengeDecryptionError:      policymodule.BadMessageCheck,
		intune.ChallengeDecodingError:        policymodule.BadMessageCheck,
		intune.SigningCertThumbprintMismatch: policymodule.BadMessageCheck,
		intune.SignatureValidationFailed:     policymodule.BadMessageCheck,
		intune.ChallengeInvalidTimestamp:     policymodule.BadTime,
		intune.ChallengeExpired:              policymodule.BadTime,
		intune.KeyLengthMismatch:             policymodule.BadAlg,
	}
	w := newWorld(t)
	rules := map[policymodule.Reason]intune.Code{}
	name := regexp.MustCompile(`^intune_[a-z_]+$`)
	for _, code := range intune.Codes() {
		if code == intune.Success {
			continue
		}
		w.cloud.Fail(intunetest.Validate, 1, intunetest.Fault{Code: string(code), Description: "why"})
		d, err := w.point.Verify(t.Context(), w.request(t))
		want, ok := info[code]
		if !ok {
			want = policymodule.BadRequest
		}
		if err != nil || d.Granted || d.FailInfo != want || !strings.Contains(d.Detail, "why") {
			t.Errorf("%s: decision %+v, error %v, want failInfo %d", code, d, err, want)
		}
		if !name.MatchString(string(d.Rule)) {
			t.Errorf("%s: rule %q is no name", code, d.Rule)
		}
		if other, twice := rules[d.Rule]; twice {
			t.Errorf("%s and %s share the rule %s", code, other, d.Rule)
		}
		rules[d.Rule] = code
	}
	if rules["intune_challenge_expired"] != intune.ChallengeExpired {
		t.Errorf("rules %v", rules)
	}
	w.cloud.Fail(intunetest.Validate, 1, intunetest.Fault{Code: "SomethingNew"})
	r := w.request(t)
	if d, err := w.point.Verify(t.Context(), r); err != nil || d.Granted || d.Rule != crp.RuleUnknown {
		t.Errorf("new code: decision %+v, error %v", d, err)
	}
	if d, err := w.point.Verify(t.Context(), r); err != nil || !d.Granted {
		t.Errorf("what was not classified must be asked again: decision %+v, error %v", d, err)
	}
}

// Whether a request without a challenge is a first one or a renewal, the cloud
// is not asked.
func TestChallengeMissing(t *testing.T) {
	w := newWorld(t)
	r := w.request(t, func(ch *intunetest.Challenge) { ch.Challenge = "" })
	for _, renewal := range []*x509.Certificate{nil, certificate(t, 1)} {
		r.Renewal = renewal
		if d, err := w.point.Verify(t.Context(), r); err != nil || d.Granted || d.Rule != crp.RuleChallengeMissing {
			t.Errorf("decision %+v, error %v", d, err)
		}
	}
	r.CSR.ChallengePassword = secret.Text(strings.Repeat("x", 64<<10+1))
	if d, err := w.point.Verify(t.Context(), r); err != nil || d.Granted || d.Rule != crp.RuleChallengeTooLong {
		t.Errorf("decision %+v, error %v", d, err)
	}
	if n := len(w.cloud.Calls()); n != 0 {
		t.Errorf("the cloud was called %d times", n)
	}
}

func TestRefusalsAreRemembered(t *testing.T) {
	w := newWorld(t)
	r := w.request(t, func(ch *intunetest.Challenge) { ch.Subject = "CN=administrator" })
	ask := func(p *crp.Point, r policymodule.Request, want policymodule.Reason, calls int) {
		t.Helper()
		d, err := p.Verify(t.Context(), r)
		if err != nil || d.Rule != want {
			t.Fatalf("decision %+v, error %v", d, err)
		}
		if n := w.cloud.Count(intunetest.Validate); n != calls {
			t.Errorf("%d validations, want %d", n, calls)
		}
	}
	ask(w.point, r, "intune_subject_mismatch", 1)
	ask(w.point, r, "intune_subject_mismatch", 1)
	other := r
	other.TransactionID = "another transaction"
	ask(w.point, other, "intune_subject_mismatch", 2)
	another := w.request(t)
	another.TransactionID = r.TransactionID
	ask(w.point, another, "", 3)
	w.advance(3 * time.Minute)
	ask(w.point, r, "intune_subject_mismatch", 4)
	ask(w.newPoint(t), r, "intune_subject_mismatch", 5)
}

// A grant is good for the repetition of a request that went wrong here, but
// not for long, not after its outcome, and not after a restart.
func TestGrantsAreForgotten(t *testing.T) {
	w := newWorld(t)
	r := w.request(t)
	validations := func(p *crp.Point) int {
		t.Helper()
		if d, err := p.Verify(t.Context(), r); err != nil || !d.Granted {
			t.Fatalf("decision %+v, error %v", d, err)
		}
		return w.cloud.Count(intunetest.Validate)
	}
	if n := validations(w.point); n != 1 {
		t.Fatalf("%d validations", n)
	}
	if n := validations(w.point); n != 1 {
		t.Errorf("a quick repetition made %d validations", n)
	}
	w.advance(time.Minute)
	if n := validations(w.point); n != 2 {
		t.Errorf("after a minute: %d validations, want 2", n)
	}
	if err := w.point.Notify(t.Context(), policymodule.Outcome{TransactionID: r.TransactionID, CSR: r.CSR.Raw, Certificate: certificate(t, 1), IssuingCA: "ca"}); err != nil {
		t.Fatal(err)
	}
	if n := validations(w.point); n != 3 {
		t.Errorf("after the outcome: %d validations, want 3", n)
	}
	if n := validations(w.newPoint(t)); n != 4 {
		t.Errorf("after a restart: %d validations, want 4", n)
	}
}

func TestNotify(t *testing.T) {
	w := newWorld(t)
	r := w.request(t)
	r.TransactionID = "\x00\xffbytes"
	if d, err := w.point.Verify(t.Context(), r); err != nil || !d.Granted {
		t.Fatalf("decision %+v, error %v", d, err)
	}
	// After a restart the transaction has the same name, or the strict cloud
	// would not know it.
	p := w.newPoint(t)
	o := policymodule.Outcome{TransactionID: r.TransactionID, CSR: r.CSR.Raw, Certificate: certificate(t, 0xabc), IssuingCA: "corp-issuing-ca-1"}
	if err := p.Notify(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	n := w.cloud.Notifications()
	if len(n) != 1 {
		t.Fatalf("%d notifications", len(n))
	}
	got := n[0]
	if got.TransactionID != crp.TransactionID(r.TransactionID) || got.SerialNumber != "0ABC" ||
		got.Expires != "2028-03-01T13:14:15.000Z" || len(got.Thumbprint) != 40 || got.Thumbprint != strings.ToUpper(got.Thumbprint) {
		t.Errorf("notification %+v", got)
	}
	for _, name := range []string{got.IssuingCA, got.CAConfiguration, got.CertificateAuthority} {
		if name != "corp-issuing-ca-1" {
			t.Errorf("a name of the CA is %q", name)
		}
	}
}

func TestNotifyFailure(t *testing.T) {
	w := newWorld(t)
	r := w.request(t)
	if _, err := w.point.Verify(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	o := policymodule.Outcome{TransactionID: r.TransactionID, CSR: r.CSR.Raw, HResult: -2146877420, Description: strings.Repeat("ä", 300)}
	if err := w.point.Notify(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	n := w.cloud.Notifications()
	if len(n) != 1 || n[0].Success || n[0].HResult != -2146877420 || n[0].Description != strings.Repeat("ä", 255) {
		t.Errorf("notifications %+v", n)
	}
}

// Which answers to a notification are the last word.
func TestNotifyRefused(t *testing.T) {
	w := newWorld(t)
	r := w.request(t)
	if _, err := w.point.Verify(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	o := policymodule.Outcome{TransactionID: r.TransactionID, CSR: r.CSR.Raw, Certificate: certificate(t, 1), IssuingCA: "ca"}
	for _, row := range []struct {
		name  string
		fault intunetest.Fault
		final bool
	}{
		{"another code", intunetest.Fault{Code: "ChallengeExpired"}, true},
		{"a code of the future", intunetest.Fault{Code: "SomethingNew"}, true},
		{"400", intunetest.Fault{Status: 400}, true},
		{"500", intunetest.Fault{Status: 500}, false},
		{"503", intunetest.Fault{Status: 503}, false},
		{"429", intunetest.Fault{Status: 429, RetryAfter: "120"}, false},
		{"403", intunetest.Fault{Status: 403}, false},
		{"404", intunetest.Fault{Status: 404}, false},
		{"a page in place of JSON", intunetest.Fault{BadJSON: true}, false},
		{"no code", intunetest.Fault{MissingCode: true}, false},
		{"no connection", intunetest.Fault{Reset: true}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			w.cloud.Fail(intunetest.Success, intunetest.Always, row.fault)
			defer w.cloud.Heal()
			err := w.point.Notify(t.Context(), o)
			if err == nil || errors.Is(err, policymodule.ErrNotifyRefused) != row.final {
				t.Errorf("error %v, want final %v", err, row.final)
			}
			if row.fault.RetryAfter != "" && intune.RetryAfter(err) != 2*time.Minute {
				t.Errorf("Retry-After is %v", intune.RetryAfter(err))
			}
		})
	}
	if err := w.point.Notify(t.Context(), o); err != nil {
		t.Errorf("healed: %v", err)
	}
}

func TestTransactionID(t *testing.T) {
	guid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	for _, row := range []struct {
		name, id string
		kept     bool
	}{
		{"a digest in hexadecimal", strings.Repeat("0123456789abcdef", 4), true},
		{"blanks inside", "a b", true},
		{"255 characters", strings.Repeat("ä", 255), true},
		{"256 characters", strings.Repeat("a", 256), false},
		{"empty", "", false},
		{"only blanks", "  ", false},
		{"a line end", "a\nb", false},
		{"raw octets", "\x01\x80\xff", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := crp.TransactionID(row.id)
			if (got == row.id) != row.kept {
				t.Errorf("became %q", got)
			}
			if !row.kept && !guid.MatchString(got) {
				t.Errorf("%q is no GUID", got)
			}
			if crp.TransactionID(row.id) != got {
				t.Error("the name changes")
			}
		})
	}
	if crp.TransactionID("\x01") == crp.TransactionID("\x02") {
		t.Error("two transactions have one name")
	}
}

func TestNewRefusesNonsense(t *testing.T) {
	if _, err := crp.New(crp.Config{}); err == nil {
		t.Error("a registration point without a tenant")
	}
}

// A bare GET answers 503 while Intune does not take our credential. A cloud
// that is down, or refuses a device, says nothing of the credential.
func TestReadyUntilTheCredentialIsRefused(t *testing.T) {
	w := newWorld(t)
	ask := func() { _, _ = w.point.Verify(t.Context(), w.request(t)) }
	for _, row := range []struct {
		name  string
		at    intunetest.Endpoint
		fault intunetest.Fault
		ready bool
	}{
		{"the service is down", intunetest.Validate, intunetest.Fault{Status: 500}, true},
		{"Entra ID is down", intunetest.Token, intunetest.Fault{Status: 503}, true},
		{"the credential is refused", intunetest.Token, intunetest.Fault{AADSTS: 7000215}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			w.point = w.newPoint(t)
			w.cloud.Fail(row.at, intunetest.Always, row.fault)
			ask()
			if err := w.point.Ready(); (err == nil) != row.ready {
				t.Errorf("ready: %v", err)
			}
			w.cloud.Heal()
			ask()
			if err := w.point.Ready(); err != nil {
				t.Errorf("healed: %v", err)
			}
		})
	}
}
