package intune_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/certconnector/certconnector/internal/retry"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/intune/intunetest"
)

// action is one of the three, with the endpoint that serves it.
type action struct {
	endpoint intunetest.Endpoint
	call     func(ctx context.Context, c *intune.Client, csr []byte) error
}

func actions(t *testing.T) map[string]action {
	cert := certificate(t, big.NewInt(0xABC))
	return map[string]action{
		"validate": {intunetest.Validate, func(ctx context.Context, c *intune.Client, csr []byte) error {
			return c.Validate(ctx, intune.ValidateRequest{TransactionID: "t", CSR: csr})
		}},
		"success": {intunetest.Success, func(ctx context.Context, c *intune.Client, csr []byte) error {
			return c.NotifySuccess(ctx, intune.SuccessNotification{TransactionID: "t", CSR: csr, Certificate: cert, IssuingCA: "ca"})
		}},
		"failure": {intunetest.Failure, func(ctx context.Context, c *intune.Client, csr []byte) error {
			return c.NotifyFailure(ctx, intune.FailureNotification{TransactionID: "t", CSR: csr, HResult: -2147467259, Description: "no"})
		}},
	}
}

// C3, C5: notifications as documented are taken by a strict cloud.
func TestNotificationsAreTaken(t *testing.T) {
	w := newWorld(t, intunetest.Options{Strict: true})
	csr := w.csr(t, intunetest.Ask{})
	for _, name := range []string{"validate", "success", "failure"} {
		if err := actions(t)[name].call(t.Context(), w.client, csr); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	n := w.cloud.Notifications()
	if len(n) != 2 || !n[0].Success || n[0].SerialNumber != "0ABC" || n[0].Expires != "2028-03-01T13:14:15.000Z" || n[0].CallerInfo != "certconnector-test/1.0" {
		t.Fatalf("notifications %+v", n)
	}
	if n[1].HResult != -2147467259 || n[1].Description != "no" {
		t.Errorf("failure %+v", n[1])
	}
}

// C4, C6, R3: what is not exactly Success is a failure of each action, and is
// not repeated.
func TestOnlySuccessIsSuccess(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	csr := w.csr(t, intunetest.Ask{})
	for name, act := range actions(t) {
		for _, row := range []struct {
			name  string
			fault intunetest.Fault
			final bool
		}{
			{"a known code", intunetest.Fault{Code: "ChallengeDecryptionError"}, true},
			{"an unknown code", intunetest.Fault{Code: "Succes"}, true},
			{"success in lower case", intunetest.Fault{LowerCase: true}, true},
			{"success and a blank", intunetest.Fault{Code: "Success "}, true},
			{"a number", intunetest.Fault{NumericCode: true}, false},
			{"a number as text", intunetest.Fault{Code: "1"}, true},
			{"no code", intunetest.Fault{MissingCode: true}, false},
			{"an empty code", intunetest.Fault{Body: `{"code":"","errorDescription":""}`}, false},
			{"null", intunetest.Fault{Body: `{"code":null}`}, false},
			{"a list", intunetest.Fault{Body: `["Success"]`}, false},
			{"the text alone", intunetest.Fault{Body: `"Success"`}, false},
			{"two documents", intunetest.Fault{Body: `{"code":"Success"}{"code":"Success"}`}, false},
			{"an empty body", intunetest.Fault{Empty: true}, false},
			{"a page", intunetest.Fault{BadJSON: true}, false},
			{"eight megabytes", intunetest.Fault{Huge: true}, false},
			{"another 2xx with an error", intunetest.Fault{Status: 202, Body: `{"error":{"code":"Accepted"}}`}, false},
		} {
			t.Run(name+": "+row.name, func(t *testing.T) {
				before := w.counts()[act.endpoint]
				w.cloud.Fail(act.endpoint, 1, row.fault)
				err := act.call(t.Context(), w.client, csr)
				if err == nil || intune.Final(err) != row.final {
					t.Errorf("error %v, want final %v", err, row.final)
				}
				if n := w.counts()[act.endpoint] - before; n != 1 {
					t.Errorf("%d calls, want 1", n)
				}
			})
		}
		t.Run(name+": success without a description", func(t *testing.T) {
			w.cloud.Fail(act.endpoint, 1, intunetest.Fault{MissingDescription: true})
			if err := act.call(t.Context(), w.client, csr); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestMatrix 22 is TestOnlySuccessIsSuccess. TestMatrix 23, 24 and the table of statuses: which answers are repeated, and
// that none but Success ends without an error.
func TestRetries(t *testing.T) {
	const always = intunetest.Always
	for _, row := range []struct {
		name             string
		fault            intunetest.Fault
		validate, notify int // attempts
	}{
		{"500", intunetest.Fault{Status: 500}, 2, 3},
		{"502", intunetest.Fault{Status: 502}, 3, 3},
		{"503", intunetest.Fault{Status: 503}, 3, 3},
		{"504", intunetest.Fault{Status: 504}, 3, 3},
		{"408", intunetest.Fault{Status: 408}, 3, 3},
		{"429 with a short wait", intunetest.Fault{Status: 429, RetryAfter: "0"}, 3, 3},
		{"429 with a long wait", intunetest.Fault{Status: 429, RetryAfter: "6"}, 1, 1},
		{"503 until a date", intunetest.Fault{Status: 503, RetryAfter: "Fri, 01 Jan 2100 00:00:00 GMT"}, 1, 1},
		{"400", intunetest.Fault{Status: 400}, 1, 1},
		{"415", intunetest.Fault{Status: 415}, 1, 1},
		{"401", intunetest.Fault{Status: 401}, 2, 2},
		{"403", intunetest.Fault{Status: 403}, 2, 2},
		{"404", intunetest.Fault{Status: 404}, 2, 2},
		{"410", intunetest.Fault{Status: 410}, 2, 2},
		{"421", intunetest.Fault{Status: 421}, 2, 2},
		{"a page with 503", intunetest.Fault{Status: 503, Body: "<html>"}, 3, 3},
		{"reset", intunetest.Fault{Reset: true}, 3, 3},
		{"lost answer", intunetest.Fault{Lose: true}, 3, 3},
		{"truncated", intunetest.Fault{Truncated: true}, 3, 3},
	} {
		for name, act := range actions(t) {
			t.Run(name+": "+row.name, func(t *testing.T) {
				w := newWorld(t, intunetest.Options{})
				w.cloud.Fail(act.endpoint, always, row.fault)
				csr := w.csr(t, intunetest.Ask{})
				err := act.call(t.Context(), w.client, csr)
				if err == nil {
					t.Fatal("no error, so a certificate")
				}
				want := row.notify
				if act.endpoint == intunetest.Validate {
					want = row.validate
				}
				calls := 0
				ids := map[string]bool{}
				for _, c := range w.cloud.Calls() {
					if c.Endpoint == act.endpoint {
						calls++
						ids[c.Header.Get("client-request-id")] = true
					}
				}
				if calls != want || len(ids) != calls {
					t.Errorf("%d calls with %d activity IDs, want %d", calls, len(ids), want)
				}
				if row.fault.Status == 503 && row.fault.RetryAfter != "" && intune.RetryAfter(err) != 10*time.Minute {
					t.Errorf("Retry-After is %v, want the cap of 10 minutes", intune.RetryAfter(err))
				}
				// The trouble passes.
				w.cloud.Heal()
				w.clock.Advance(time.Minute)
				if err := act.call(t.Context(), w.client, csr); err != nil {
					t.Errorf("healed: %v", err)
				}
			})
		}
	}
}

// A passing trouble is not even seen by the caller.
func TestRetrySucceeds(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	csr := w.csr(t, intunetest.Ask{})
	for name, act := range actions(t) {
		w.cloud.Fail(act.endpoint, 2, intunetest.Fault{Status: http.StatusServiceUnavailable})
		if err := act.call(t.Context(), w.client, csr); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The budget ends the attempts, and so does the caller.
func TestTimeouts(t *testing.T) {
	w := newWorld(t, intunetest.Options{}, func(cfg *intune.Config) {
		cfg.Timeouts.Validate, cfg.Timeouts.Total = 300*time.Millisecond, 2*time.Second
		cfg.Backoff = retry.Schedule{First: 10 * time.Millisecond, Most: 10 * time.Millisecond}
	})
	csr := w.csr(t, intunetest.Ask{})
	validate := actions(t)["validate"]
	// These times are too short for a busy machine, too: until tokens and
	// addresses are there.
	waitFor(t, func() bool { return validate.call(t.Context(), w.client, csr) == nil })
	w.cloud.Fail(intunetest.Validate, intunetest.Always, intunetest.Fault{Delay: time.Hour, Status: 503})
	err := validate.call(t.Context(), w.client, csr)
	if _, ok := errors.AsType[*intune.NetworkError](err); !ok || !errors.Is(err, context.DeadlineExceeded) || !intune.Retryable(err) {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := validate.call(ctx, w.client, csr); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// R12: a description is cut to 255 characters, never in the middle of one.
func TestDescriptionIsCut(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	csr := w.csr(t, intunetest.Ask{})
	for _, text := range []string{strings.Repeat("€", 300), strings.Repeat("a", 254) + "€€", "bad \xff byte", strings.Repeat("x", 255)} {
		err := w.client.NotifyFailure(t.Context(), intune.FailureNotification{TransactionID: "t", CSR: csr, HResult: 1, Description: text})
		if err != nil {
			t.Fatal(err)
		}
		n := w.cloud.Notifications()
		got := n[len(n)-1].Description
		if c := utf8.RuneCountInString(got); !utf8.ValidString(got) || c > 255 || c < min(255, utf8.RuneCountInString(text)) {
			t.Errorf("description of %d characters: %q", c, got)
		}
	}
}

func TestArguments(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	cert := certificate(t, big.NewInt(1))
	csr := []byte{0x30}
	for name, err := range map[string]error{
		"validate without transaction": w.client.Validate(t.Context(), intune.ValidateRequest{TransactionID: " ", CSR: csr}),
		"validate without request":     w.client.Validate(t.Context(), intune.ValidateRequest{TransactionID: "t"}),
		"success without certificate":  w.client.NotifySuccess(t.Context(), intune.SuccessNotification{TransactionID: "t", CSR: csr, IssuingCA: "ca"}),
		"success without CA":           w.client.NotifySuccess(t.Context(), intune.SuccessNotification{TransactionID: "t", CSR: csr, Certificate: cert}),
		"success with a long CA": w.client.NotifySuccess(t.Context(), intune.SuccessNotification{
			TransactionID: "t", CSR: csr, Certificate: cert, IssuingCA: strings.Repeat("x", 257)}),
		"failure without description": w.client.NotifyFailure(t.Context(), intune.FailureNotification{TransactionID: "t", CSR: csr}),
	} {
		if !errors.Is(err, intune.ErrArgument) || intune.Final(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(w.cloud.Calls()); n != 0 {
		t.Errorf("%d calls", n)
	}
}

// R11: whatever the cloud echoes, no secret reaches a log line or an error.
func TestNothingSecretIsShown(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	known := signInCertificate(t, 1)
	_ = w.cloud.SetCertificates(intunetest.ContosoID, intunetest.ContosoClient, known.Certificate)
	ch := w.challenge(t, intunetest.Ask{})
	csr := makeCSR(t, ch)
	encoded := base64.StdEncoding.EncodeToString(csr)
	var folded bytes.Buffer
	for rest := encoded; rest != ""; rest = rest[min(64, len(rest)):] {
		fmt.Fprintln(&folded, rest[:min(64, len(rest))])
	}
	whole := fmt.Sprintf("secret %s challenge %s request %s lines %s",
		intunetest.ContosoSecret.Reveal(), ch.Challenge, encoded, strings.ReplaceAll(folded.String(), "\n", "\\n"))
	var seen bytes.Buffer
	for i, change := range []func(*intune.Config){
		func(*intune.Config) {},
		withCredential(intune.Credential{Certificates: intune.Fixed(known)}),
	} {
		spill := whole
		if i == 1 { // a client knows no secret that it was not given
			spill = strings.ReplaceAll(whole, intunetest.ContosoSecret.Reveal(), "none")
		}
		for name, act := range actions(t) {
			for _, fault := range []intunetest.Fault{
				{}, {Code: "Unknown", Description: spill}, {Code: spill[:200]}, {Body: `"` + spill + `"`}, {Reset: true}, {Truncated: true},
				{Status: 500, Body: `{"error":{"code":"` + ch.Challenge + `","message":"` + spill + `"}}`},
				{Status: 401, Body: `{"Message":"` + spill + `"}`},
			} {
				w.client = w.newClient(t, change)
				w.cloud.Fail(act.endpoint, intunetest.Always, fault)
				fmt.Fprintf(&seen, "%s %+v\n", name, act.call(t.Context(), w.client, csr))
				w.cloud.Heal()
				dumpLogs(&seen, w)
			}
		}
		for _, e := range []intunetest.Endpoint{intunetest.Token, intunetest.Metadata, intunetest.Discovery} {
			for _, fault := range []intunetest.Fault{
				{Status: 400, Body: `{"error":"invalid_client","error_description":"` + spill + `","error_codes":[7000215]}`},
				{Body: `{"access_token":"` + spill}, {Body: `{"error":"x","error_description":"` + spill + `"}`}, {BadJSON: true}, {Reset: true},
			} {
				w.client = w.newClient(t, change)
				w.cloud.Fail(e, intunetest.Always, fault)
				fmt.Fprintf(&seen, "%s %+v\n", e, w.validate(t, "t"))
				w.cloud.Heal()
				dumpLogs(&seen, w)
			}
		}
	}
	text := seen.String()
	if !strings.Contains(text, "activity_id") || !strings.Contains(text, "transaction_id") {
		t.Error("the log does not name activity and transaction")
	}
	for name, s := range map[string]string{
		"the client secret":    intunetest.ContosoSecret.Reveal(),
		"a piece of challenge": ch.Challenge[100:140],
		"a piece of request":   encoded[128:168],
		"a token or assertion": "eyJ",
		"a private key":        testkeys.RSA2048(1).D.String()[:20],
	} {
		if i := strings.Index(text, s); i >= 0 {
			t.Errorf("%s is shown: …%s…", name, text[max(0, i-200):min(len(text), i+60)])
		}
	}
}

func dumpLogs(b *bytes.Buffer, w *world) {
	for _, e := range w.logs.All() {
		fmt.Fprintf(b, "%s %v\n", e.Message, e.ContextMap())
	}
}
