package onetime_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/agent/journal/sqlite"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/policymodule/moduletest"
	"github.com/certconnector/certconnector/policymodule/onetime"
)

func TestContract(t *testing.T) {
	moduletest.Run(t, func(t *testing.T) moduletest.Subject {
		clock := newClock()
		m := module(t, config(t, newJournal(t, clock), clock))
		var n atomic.Int64
		return moduletest.Subject{
			Module: m,
			Request: func(t *testing.T) policymodule.Request {
				return request(fmt.Sprintf("request %d", n.Add(1)), generate(t, m).Challenge)
			},
			Spoil: func(_ *testing.T, r policymodule.Request) policymodule.Request {
				return request(r.TransactionID, secret.Text(strings.Repeat("0123456789ABCDEF", 2)))
			},
			Rename: func(_ *testing.T, r policymodule.Request) policymodule.Request {
				renamed := request("renamed", r.CSR.ChallengePassword)
				renamed.CSR.Subject = commonName("phone 8")
				return renamed
			},
		}
	})
}

// TestUnreachableLedger is no refusal: the device comes again.
func TestUnreachableLedger(t *testing.T) {
	clock := newClock()
	ledger := &cuttable{Ledger: newJournal(t, clock)}
	m := module(t, config(t, ledger, clock))
	r := request("a", generate(t, m).Challenge)
	ledger.cut = true
	if d, err := m.Verify(t.Context(), r); err == nil {
		t.Errorf("decided %+v without the ledger", d)
	}
	made, err := m.GenerateChallenge(t.Context(), principal("jamf", endpoint), policymodule.ChallengeWish{})
	if err == nil || made.Challenge != "" {
		t.Errorf("a password that nobody will know was told; error %v", err)
	}
	ledger.cut = false
	if d := verify(t, m, r); !d.Granted {
		t.Errorf("refused by %s once the ledger was back", d.Rule)
	}
}

func TestNewRefuses(t *testing.T) {
	clock := newClock()
	ledger := newJournal(t, clock)
	for _, row := range []struct {
		name   string
		change func(*onetime.Config)
		want   string // in the error; "": none
	}{
		{"defaults", func(*onetime.Config) {}, ""},
		{"8 bytes as NDES", func(c *onetime.Config) { c.Bytes = 8 }, ""},
		{"7 bytes", func(c *onetime.Config) { c.Bytes = 7 }, "8 to 32"},
		{"33 bytes", func(c *onetime.Config) { c.Bytes = 33 }, "8 to 32"},
		{"a minute", func(c *onetime.Config) { c.Lifetime = time.Minute }, ""},
		{"less than a minute", func(c *onetime.Config) { c.Lifetime = 59 * time.Second }, "whole minutes"},
		{"a minute and a half", func(c *onetime.Config) { c.Lifetime = 90 * time.Second }, "whole minutes"},
		{"more than a day", func(c *onetime.Config) { c.Lifetime = 24*time.Hour + time.Minute }, "whole minutes"},
		{"a negative quota", func(c *onetime.Config) { c.MaxOutstanding = -1 }, "negative"},
		{"nobody", func(c *onetime.Config) { c.Rights = nil }, "no principal"},
		{"a principal without a name", func(c *onetime.Config) { c.Rights = map[string]policymodule.Rights{"": {}} }, "no name"},
		{"a principal with a negative quota", func(c *onetime.Config) { c.Rights = map[string]policymodule.Rights{"a": {PerMinute: -1}} }, "negative"},
		{"no ledger", func(c *onetime.Config) { c.Ledger = nil }, "ledger"},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := config(t, ledger, clock)
			row.change(&c)
			_, err := onetime.New(c)
			if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want one about %q", err, row.want)
			}
		})
	}
}

func TestGenerateChallenge(t *testing.T) {
	clock := newClock()
	j := newJournal(t, clock)
	core, logs := observer.New(zap.DebugLevel)
	for _, bytes := range []int{8, 16, 32} {
		c := config(t, j, clock)
		c.Bytes, c.Log = bytes, zap.New(core)
		m := module(t, c)
		made := generate(t, m)
		if !regexp.MustCompile(fmt.Sprintf("^[0-9A-F]{%d}$", 2*bytes)).MatchString(made.Challenge.Reveal()) {
			t.Errorf("a password of %d bytes has another form", bytes)
		}
		if made.Expires != clock.Now().Add(time.Hour) {
			t.Errorf("expires %s", made.Expires)
		}
		if made.Challenge == generate(t, m).Challenge {
			t.Error("two passwords are equal")
		}
		line := logs.TakeAll()[0]
		fields := line.ContextMap()
		if line.Message != "challenge made" || fields["principal"] != "jamf" || fields["endpoint"] != endpoint ||
			fields["challenge_id"] != made.ID || fields["expires"] == nil {
			t.Errorf("audit line %q with fields %v", line.Message, fields)
		}
		if said := fmt.Sprint(line, fields); strings.Contains(said, made.Challenge.Reveal()) || strings.Contains(made.Challenge.Reveal(), strings.ToUpper(made.ID)) {
			t.Error("the audit line shows the password")
		}
		d := verify(t, m, request("a", made.Challenge))
		if !d.Granted || d.ChallengeMade.UnixNano() != clock.Now().UnixNano() || d.Notify || d.VouchedNames {
			t.Errorf("decision %+v", d)
		}
		if fmt.Sprintf("%x", d.ChallengeID[:8]) != made.ID {
			t.Error("the decision's challenge is called otherwise in logs")
		}
	}
}

func TestGenerateChallengeRefuses(t *testing.T) {
	for _, row := range []struct {
		name string
		by   policymodule.Principal
		wish policymodule.ChallengeWish
		want error // nil: made
	}{
		{"a principal with a right", principal("jamf", endpoint), policymodule.ChallengeWish{}, nil},
		{"a shorter life", principal("jamf", endpoint), policymodule.ChallengeWish{Lifetime: 5 * time.Minute}, nil},
		{"a longer life", principal("jamf", endpoint), policymodule.ChallengeWish{Lifetime: 61 * time.Minute}, policymodule.ErrNoRight},
		{"a negative life", principal("jamf", endpoint), policymodule.ChallengeWish{Lifetime: -time.Minute}, policymodule.ErrNoRight},
		{"a principal of another endpoint", principal("jamf", "other"), policymodule.ChallengeWish{}, policymodule.ErrNoRight},
		{"a principal that the endpoint does not know", principal("okta", endpoint), policymodule.ChallengeWish{}, policymodule.ErrNoRight},
		{"nobody", policymodule.Principal{}, policymodule.ChallengeWish{}, policymodule.ErrNoRight},
		{"a subject", principal("jamf", endpoint), policymodule.ChallengeWish{Subject: "CN=phone"}, policymodule.ErrNoRight},
		{"a subjectAltName", principal("jamf", endpoint), policymodule.ChallengeWish{SANs: []string{"dns:a"}}, policymodule.ErrNoRight},
		{"a key usage", principal("jamf", endpoint), policymodule.ChallengeWish{KeyUsage: []string{"digitalSignature"}}, policymodule.ErrNoRight},
		{"an extended key usage", principal("jamf", endpoint), policymodule.ChallengeWish{ExtKeyUsages: []asn1.ObjectIdentifier{clientAuth}}, policymodule.ErrNoRight},
		{"a key type", principal("jamf", endpoint), policymodule.ChallengeWish{KeyType: "rsa"}, policymodule.ErrNoRight},
		{"a key size", principal("jamf", endpoint), policymodule.ChallengeWish{MinKeyBits: 3072}, policymodule.ErrNoRight},
		{"a hash", principal("jamf", endpoint), policymodule.ChallengeWish{Hash: "sha256"}, policymodule.ErrNoRight},
		{"a template", principal("jamf", endpoint), policymodule.ChallengeWish{Template: "User"}, policymodule.ErrNoRight},
		{"a validity", principal("jamf", endpoint), policymodule.ChallengeWish{Validity: time.Hour}, policymodule.ErrNoRight},
	} {
		t.Run(row.name, func(t *testing.T) {
			clock := newClock()
			j := newJournal(t, clock)
			made, err := module(t, config(t, j, clock)).GenerateChallenge(t.Context(), row.by, row.wish)
			if !errors.Is(err, row.want) || (made.Challenge == "") != (row.want != nil) {
				t.Fatalf("error %v, want %v", err, row.want)
			}
			if row.wish.Lifetime > 0 && err == nil && made.Expires != clock.Now().Add(row.wish.Lifetime) {
				t.Errorf("expires %s", made.Expires)
			}
			if n, err := j.Outstanding(t.Context(), endpoint, clock.Now()); err != nil || (n == 1) != (row.want == nil) {
				t.Errorf("%d are outstanding, error %v", n, err)
			}
		})
	}
}

func TestQuotas(t *testing.T) {
	clock := newClock()
	j := newJournal(t, clock)
	c := config(t, j, clock)
	c.MaxOutstanding = 5
	rights := c.Rights["jamf"]
	rights.MaxOutstanding = 3
	c.Rights["jamf"] = rights
	m := module(t, c)
	made := func(name string, want error) policymodule.MadeChallenge {
		t.Helper()
		got, err := m.GenerateChallenge(t.Context(), principal(name, endpoint), policymodule.ChallengeWish{})
		if !errors.Is(err, want) {
			t.Fatalf("%s: error %v, want %v", name, err, want)
		}
		return got
	}
	first := made("jamf", nil)
	made("jamf", nil)
	made("jamf", nil)
	made("jamf", policymodule.ErrLedgerFull) // its own quota
	made("ivanti", nil)
	made("ivanti", nil)
	made("ivanti", policymodule.ErrLedgerFull) // the endpoint's
	if d := verify(t, m, request("a", first.Challenge)); !d.Granted {
		t.Fatalf("the oldest password made room for others: %s", d.Rule)
	}
	r := request("a", first.Challenge)
	if err := begin(t, j, clock, r, verify(t, m, r).ChallengeID); err != nil {
		t.Fatal(err)
	}
	made("jamf", nil) // a spent one has no place any more
	made("jamf", policymodule.ErrLedgerFull)
	clock.Pass(time.Hour)
	made("jamf", nil) // nor has an expired one
}

func TestPace(t *testing.T) {
	clock := newClock()
	c := config(t, newJournal(t, clock), clock)
	rights := c.Rights["jamf"]
	rights.PerMinute = 2
	c.Rights["jamf"] = rights
	m := module(t, c)
	try := func(name string) error {
		_, err := m.GenerateChallenge(t.Context(), principal(name, endpoint), policymodule.ChallengeWish{})
		return err
	}
	for range 2 {
		if err := try("jamf"); err != nil {
			t.Fatal(err)
		}
	}
	err := try("jamf")
	again, ok := errors.AsType[interface {
		error
		RetryAfter() time.Duration
	}](err)
	if !errors.Is(err, policymodule.ErrTooFast) || !ok || again.RetryAfter() != 30*time.Second {
		t.Fatalf("the third in a minute: %v", err)
	}
	if err := try("ivanti"); err != nil {
		t.Errorf("another principal: %v", err)
	}
	clock.Pass(30 * time.Second)
	if err := try("jamf"); err != nil {
		t.Errorf("after half a minute: %v", err)
	}
	clock.Pass(-time.Hour)
	if err := try("jamf"); !errors.Is(err, policymodule.ErrTooFast) {
		t.Errorf("after the clock was set back: %v", err)
	}
}

func TestVerify(t *testing.T) {
	extension := func(oid asn1.ObjectIdentifier, der string) func(*policymodule.Request) {
		return func(r *policymodule.Request) {
			r.CSR.Extensions = append(r.CSR.Extensions, pkix.Extension{Id: oid, Value: []byte(der)})
		}
	}
	challenge := func(change func(string) string) func(*policymodule.Request) {
		return func(r *policymodule.Request) {
			r.CSR.ChallengePassword = secret.Text(change(r.CSR.ChallengePassword.Reveal()))
		}
	}
	san := func(tag byte, name string) func(*policymodule.Request) {
		return func(r *policymodule.Request) {
			r.CSR.RawSAN = append([]byte{0x30, byte(len(name) + 2), 0x80 | tag, byte(len(name))}, name...)
		}
	}
	for _, row := range []struct {
		name   string
		change func(*policymodule.Request)
		rule   policymodule.Reason // "": granted
	}{
		{"as it was made", func(*policymodule.Request) {}, ""},
		{"blanks around it, as they are on the page", challenge(func(s string) string { return " " + s + " " }), ""},
		{"a line end behind it", challenge(func(s string) string { return s + "\r\n" }), ""},
		{"a blank within", challenge(func(s string) string { return s[:8] + " " + s[8:] }), onetime.RuleUnknown},
		{"lower case", challenge(strings.ToLower), onetime.RuleUnknown},
		{"a digit short", challenge(func(s string) string { return s[1:] }), onetime.RuleUnknown},
		{"a digit more", challenge(func(s string) string { return s + "0" }), onetime.RuleUnknown},
		{"very long", challenge(func(s string) string { return strings.Repeat(s, 1000) }), onetime.RuleUnknown},
		{"none", challenge(func(string) string { return "" }), onetime.RuleMissing},
		{"only blanks", challenge(func(string) string { return "  " }), onetime.RuleUnknown},
		{"another subject", func(r *policymodule.Request) { r.CSR.Subject = commonName("laptop 7") }, policymodule.RuleSubject},
		{"an alternative name of the right kind", san(2, "phone7.corp.example"), ""},
		{"another alternative name", san(2, "dc1.corp.example"), policymodule.RuleSAN},
		{"another kind of alternative name", san(1, "ceo@corp.example"), policymodule.RuleSAN},
		{"no usage", func(r *policymodule.Request) { r.CSR.ExtKeyUsage = nil }, policymodule.RuleExtKeyUsage},
		{"another usage", func(r *policymodule.Request) { r.CSR.ExtKeyUsage = append(r.CSR.ExtKeyUsage, smartCard) }, policymodule.RuleExtKeyUsage},
		{"the usage as application policy", extension(pkcs10.OIDApplicationPolicies, "\x30\x0c\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x02"), ""},
		{"another usage as application policy", extension(pkcs10.OIDApplicationPolicies, "\x30\x0e\x30\x0c\x06\x0a\x2b\x06\x01\x04\x01\x82\x37\x14\x02\x02"), policymodule.RuleExtKeyUsage},
		{"application policies that cannot be read", extension(pkcs10.OIDApplicationPolicies, "\x30\x03"), policymodule.RuleExtKeyUsage},
	} {
		t.Run(row.name, func(t *testing.T) {
			clock := newClock()
			m := module(t, config(t, newJournal(t, clock), clock))
			r := request("a", generate(t, m).Challenge)
			good := verify(t, m, r)
			row.change(&r)
			d := verify(t, m, r)
			if d.Granted != (row.rule == "") || d.Rule != row.rule || !d.Granted && d.FailInfo != policymodule.BadRequest {
				t.Fatalf("decision %+v, want rule %q", d, row.rule)
			}
			if d.Granted && d.ChallengeID != good.ChallengeID {
				t.Error("one password has two IDs, so that it could be spent twice")
			}
		})
	}
}

func TestVerifyLater(t *testing.T) {
	clock := newClock()
	j := newJournal(t, clock)
	m := module(t, config(t, j, clock))
	r := request("a", generate(t, m).Challenge)

	other := config(t, j, clock)
	other.Endpoint = "other"
	if d := verify(t, module(t, other), r); d.Rule != onetime.RuleUnknown {
		t.Errorf("at another endpoint: %+v", d)
	}
	left := config(t, j, clock)
	delete(left.Rights, "jamf")
	if d := verify(t, module(t, left), r); d.Rule != onetime.RulePrincipalGone {
		t.Errorf("its principal has left: %+v", d)
	}
	less := config(t, j, clock)
	less.Rights["jamf"] = policymodule.Rights{}
	if d := verify(t, module(t, less), r); d.Rule != policymodule.RuleSubject {
		t.Errorf("its principal may have less now: %+v", d)
	}
	clock.Pass(time.Hour - time.Nanosecond)
	if d := verify(t, m, r); !d.Granted {
		t.Errorf("refused by %s before it expired", d.Rule)
	}
	clock.Pass(time.Nanosecond)
	if d := verify(t, m, r); d.Rule != onetime.RuleExpired {
		t.Errorf("when it expires: %+v", d)
	}
	clock.Pass(48 * time.Hour)
	generate(t, m) // sweeps
	if d := verify(t, m, r); d.Rule != onetime.RuleUnknown {
		t.Errorf("two days later: %+v", d)
	}
}

func TestRenewals(t *testing.T) {
	clock := newClock()
	j := newJournal(t, clock)
	for _, row := range []struct {
		name    string
		allow   bool
		renewal *x509.Certificate
		rule    policymodule.Reason // "": granted
	}{
		{"a renewal where they are allowed", true, &x509.Certificate{}, ""},
		{"a renewal where they are not", false, &x509.Certificate{}, onetime.RuleRenewal},
		{"a first request without a challenge", true, nil, onetime.RuleMissing},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := config(t, j, clock)
			c.AllowRenewals = row.allow
			r := request("a", "")
			r.Renewal = row.renewal
			if d := verify(t, module(t, c), r); d.Granted != (row.rule == "") || d.Rule != row.rule || d.ChallengeID != "" {
				t.Errorf("decision %+v", d)
			}
		})
	}
}

// TestOneUse has two devices send one password; the journal decides.
func TestOneUse(t *testing.T) {
	clock := newClock()
	j := newJournal(t, clock)
	m := module(t, config(t, j, clock))
	made := generate(t, m)
	var spent, begun atomic.Int64
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			r := request(fmt.Sprintf("device %d", i), made.Challenge)
			d, err := m.Verify(context.Background(), r)
			if err != nil || !d.Granted {
				t.Errorf("decision %+v, error %v", d, err)
				return
			}
			switch err := begin(t, j, clock, r, d.ChallengeID); {
			case err == nil:
				begun.Add(1)
			case errors.Is(err, journal.ErrChallengeSpent):
				spent.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if begun.Load() != 1 || spent.Load() != 15 {
		t.Errorf("%d devices got through and %d were told that it is spent", begun.Load(), spent.Load())
	}
}

func TestRestart(t *testing.T) {
	clock := newClock()
	path := filepath.Join(t.TempDir(), "journal.db")
	if err := sqlite.Create(path); err != nil {
		t.Fatal(err)
	}
	j := openJournal(t, path, clock)
	c := config(t, j, clock)
	c.MaxOutstanding = 2
	m := module(t, c)
	used, unused := generate(t, m), generate(t, m)
	r := request("a", used.Challenge)
	if err := begin(t, j, clock, r, verify(t, m, r).ChallengeID); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}

	j = openJournal(t, path, clock)
	c.Ledger = j
	m = module(t, c)
	again := request("b", used.Challenge)
	if err := begin(t, j, clock, again, verify(t, m, again).ChallengeID); !errors.Is(err, journal.ErrChallengeSpent) {
		t.Errorf("a password that was used before the restart: %v", err)
	}
	other := request("c", unused.Challenge)
	d := verify(t, m, other)
	if !d.Granted {
		t.Fatalf("a password from before the restart was refused by %s", d.Rule)
	}
	generate(t, m)
	if _, err := m.GenerateChallenge(t.Context(), principal("jamf", endpoint), policymodule.ChallengeWish{}); !errors.Is(err, policymodule.ErrLedgerFull) {
		t.Errorf("passwords from before the restart have no place: %v", err)
	}
	if err := begin(t, j, clock, other, d.ChallengeID); err != nil {
		t.Error(err)
	}
}
