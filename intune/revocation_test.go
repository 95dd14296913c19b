package intune_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/intune/intunetest"
)

// issue reports a certificate of that serial number and CA as issued.
func (w *world) issue(t *testing.T, id string, serial int64, ca string) {
	t.Helper()
	csr := w.csr(t, intunetest.Ask{})
	if err := w.client.Validate(t.Context(), intune.ValidateRequest{TransactionID: id, CSR: csr}); err != nil {
		t.Fatal(err)
	}
	if err := w.client.NotifySuccess(t.Context(), intune.SuccessNotification{
		TransactionID: id, CSR: csr, Certificate: certificate(t, big.NewInt(serial)), IssuingCA: ca,
	}); err != nil {
		t.Fatal(err)
	}
}

// queue puts requests of the contexts c1, c2, … into the cloud's queue.
func (w *world) queue(t *testing.T, n int) {
	t.Helper()
	var list []intunetest.Injection
	for i := range n {
		list = append(list, intunetest.Injection{
			Context: fmt.Sprintf("c%d", i+1), SerialNumber: fmt.Sprintf("%04X", i+1), Issuer: "ca-1", CAConfiguration: "ca-1",
		})
	}
	if _, err := w.cloud.Inject(intunetest.ContosoID, list...); err != nil {
		t.Fatal(err)
	}
}

func revoked(context string) intune.RevocationResult {
	return intune.RevocationResult{Context: context, Succeeded: true}
}

// J7, J8, C10, C15: what was reported as issued comes back to be revoked with
// all four fields, and its result is taken.
func TestRevocation(t *testing.T) {
	w := newWorld(t, intunetest.Options{Strict: true})
	w.issue(t, "t1", 0x1D0000012AB4, "corp-issuing-ca-1")
	w.issue(t, "t2", 0x0A, "corp-issuing-ca-1")
	for _, serial := range []string{"1D0000012AB4", "0A"} {
		if _, err := w.cloud.Revoke(intunetest.ContosoID, serial, "corp-issuing-ca-1"); err != nil {
			t.Fatal(err)
		}
	}
	batch, err := w.client.DownloadRevocations(t.Context(), 100, "")
	if err != nil {
		t.Fatal(err)
	}
	if len(batch.Requests) != 2 || len(batch.Bad) != 0 {
		t.Fatalf("batch %+v", batch)
	}
	for i, serial := range []string{"1D0000012AB4", "0A"} {
		r := batch.Requests[i]
		if r.Serial != serial || r.Issuer != "corp-issuing-ca-1" || r.CAConfiguration != "corp-issuing-ca-1" || r.Context == "" {
			t.Errorf("request %+v", r)
		}
	}
	if err := w.client.UploadRevocations(t.Context(), []intune.RevocationResult{
		revoked(batch.Requests[0].Context),
		{Context: batch.Requests[1].Context, Code: intune.RevocationCertificateNotFoundError, Message: "the CA has no such serial number"},
	}); err != nil {
		t.Fatal(err)
	}
	states := w.cloud.Revocations()
	if states[0].State != intunetest.Revoked || states[1].State != intunetest.RevocationFailed || states[1].Code != 4004 {
		t.Errorf("states %+v", states)
	}
	if batch, err := w.client.DownloadRevocations(t.Context(), 100, ""); err != nil || len(batch.Requests) != 0 {
		t.Errorf("after the results: %+v, %v", batch, err)
	}
	n := w.counts()
	if n[intunetest.Token] != 2 || n[intunetest.Discovery] != 1 || n[intunetest.Download] != 2 || n[intunetest.Upload] != 1 {
		t.Errorf("calls %v: the tokens and the look-up are those of validation", n)
	}
	for _, c := range w.cloud.Calls() {
		if (c.Endpoint == intunetest.Download || c.Endpoint == intunetest.Upload) &&
			(c.Header.Get("Api-Version") != "5019-05-05" || len(c.Header.Get("Client-Request-Id")) != 36) {
			t.Errorf("headers %v", c.Header)
		}
	}
}

// C11, C12: an answer without a list is an error, and not an empty list.
func TestDownloadNotUnderstood(t *testing.T) {
	for name, body := range map[string]string{
		"value is a text": `{"value":"none"}`, "value is an object": `{"value":{}}`, "value is null": `{"value":null}`,
		"no value": `{"@odata.context":"x"}`, "no object": `[]`, "no JSON": `<html></html>`,
	} {
		w := newWorld(t, intunetest.Options{})
		w.cloud.Fail(intunetest.Download, 1, intunetest.Fault{Body: body})
		_, err := w.client.DownloadRevocations(t.Context(), 100, "")
		if e, ok := errors.AsType[*intune.ProtocolError](err); !ok || e.Call != "downloadRevocationRequests" || e.ActivityID == "" {
			t.Errorf("%s: error %v, want a ProtocolError", name, err)
		}
		if n := w.counts()[intunetest.Download]; n != 1 {
			t.Errorf("%s: %d downloads, want one: the service cools down", name, n)
		}
	}
}

// C13 has no counterpart: the reference's transaction ID is for its own log.
// C14: bad numbers are refused before anything is sent.
func TestDownloadArguments(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	for _, n := range []int{-1, 0, 501} {
		if _, err := w.client.DownloadRevocations(t.Context(), n, ""); !errors.Is(err, intune.ErrArgument) {
			t.Errorf("%d: %v, want ErrArgument", n, err)
		}
	}
	if _, err := w.client.DownloadRevocations(t.Context(), 1, strings.Repeat("é", 257)); !errors.Is(err, intune.ErrArgument) {
		t.Errorf("a long issuer: %v, want ErrArgument", err)
	}
	if n := len(w.cloud.Calls()); n != 0 {
		t.Errorf("%d calls", n)
	}
	for _, n := range []int{1, 500} {
		if _, err := w.client.DownloadRevocations(t.Context(), n, strings.Repeat("é", 256)); err != nil {
			t.Errorf("%d: %v", n, err)
		}
	}
}

// C16, and the rules of results: what Intune would refuse is not sent.
func TestUploadArguments(t *testing.T) {
	failed := func(code intune.RevocationCode, message string) intune.RevocationResult {
		return intune.RevocationResult{Context: "c1", Code: code, Message: message}
	}
	many := make([]intune.RevocationResult, 501)
	for i := range many {
		many[i] = revoked(fmt.Sprint(i))
	}
	for _, row := range []struct {
		name    string
		results []intune.RevocationResult
	}{
		{"no list", nil},
		{"an empty list", []intune.RevocationResult{}},
		{"more than 500", many},
		{"no context", []intune.RevocationResult{revoked("")}},
		{"a success with a code", []intune.RevocationResult{{Context: "c1", Succeeded: true, Code: intune.RevocationConflictError}}},
		{"a success with a message", []intune.RevocationResult{{Context: "c1", Succeeded: true, Message: "done"}}},
		{"a failure without a code", []intune.RevocationResult{failed(intune.RevocationNone, "why")}},
		{"a failure without a message", []intune.RevocationResult{failed(intune.RevocationCryptographyError, " ")}},
		{"an unknown code", []intune.RevocationResult{failed(4104, "why")}},
		{"two fates of one request", []intune.RevocationResult{revoked("c1"), failed(intune.RevocationServiceTooBusyError, "why")}},
	} {
		w := newWorld(t, intunetest.Options{})
		if err := w.client.UploadRevocations(t.Context(), row.results); !errors.Is(err, intune.ErrArgument) {
			t.Errorf("%s: %v, want ErrArgument", row.name, err)
		}
		if n := len(w.cloud.Calls()); n != 0 {
			t.Errorf("%s: %d calls", row.name, n)
		}
	}
}

// C17: only true says that the results are recorded; after anything else they
// are to be sent again.
func TestUploadRecorded(t *testing.T) {
	for _, row := range []struct {
		name     string
		fault    intunetest.Fault
		recorded bool
	}{
		{"true", intunetest.Fault{Value: `true`}, true},
		{"the text true", intunetest.Fault{Value: `"true"`}, true},
		{"the text True", intunetest.Fault{Value: `"True"`}, true},
		{"false", intunetest.Fault{Value: `false`}, false},
		{"the text yes", intunetest.Fault{Value: `"yes"`}, false},
		{"a number", intunetest.Fault{Value: `1`}, false},
		{"null", intunetest.Fault{Value: `null`}, false},
		{"missing", intunetest.Fault{Body: `{"@odata.context":"x"}`}, false},
		{"empty", intunetest.Fault{Empty: true}, false},
		{"a page", intunetest.Fault{BadJSON: true}, false},
		{"a verdict", intunetest.Fault{Code: "Success"}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, intunetest.Options{})
			w.queue(t, 1)
			w.cloud.Fail(intunetest.Upload, 1, row.fault)
			err := w.client.UploadRevocations(t.Context(), []intune.RevocationResult{revoked("c1")})
			if row.recorded {
				if err != nil || w.cloud.Revocations()[0].State != intunetest.Revoked {
					t.Errorf("%v, %+v", err, w.cloud.Revocations())
				}
				return
			}
			if e, ok := errors.AsType[*intune.ProtocolError](err); !ok || !strings.Contains(e.Detail, "send them again") {
				t.Errorf("error %v, want a ProtocolError", err)
			}
			if intune.Final(err) || !intune.Retryable(err) {
				t.Error("results that are not recorded are sent again")
			}
			if err := w.client.UploadRevocations(t.Context(), []intune.RevocationResult{revoked("c1")}); err != nil {
				t.Errorf("again: %v", err)
			}
		})
	}
}

// Both spellings of a code are taken by the cloud; every code has one.
func TestRevocationCodes(t *testing.T) {
	for _, style := range []intune.CodeStyle{"", intune.CodeNames, intune.CodeNumbers} {
		w := newWorld(t, intunetest.Options{Strict: true}, func(c *intune.Config) { c.RevocationCodes = style })
		w.queue(t, len(intune.RevocationCodes()))
		var results []intune.RevocationResult
		for i, code := range intune.RevocationCodes() {
			r := intune.RevocationResult{Context: fmt.Sprintf("c%d", i+1), Code: code, Message: "why"}
			if code == intune.RevocationNone {
				r.Succeeded, r.Message = true, ""
			}
			results = append(results, r)
		}
		if err := w.client.UploadRevocations(t.Context(), results); err != nil {
			t.Fatal(err)
		}
		for i, code := range intune.RevocationCodes() {
			r := w.cloud.Revocations()[i]
			if r.Code != int(code) || (r.State == intunetest.RevocationQueued) != code.Retryable() {
				t.Errorf("style %q: %s came as %d, state %s", style, code, r.Code, r.State)
			}
		}
	}
	cfg := newWorld(t, intunetest.Options{}).cloud.ClientConfig()
	cfg.RevocationCodes = "roman"
	if _, err := intune.New(cfg); err == nil {
		t.Error("an unknown style was taken")
	}
}

// An element that cannot be acted on does not keep the others from being
// revoked, and the log can tell of it.
func TestBadElementsAreSkipped(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	raw := func(s string) intunetest.Injection { return intunetest.Injection{Raw: json.RawMessage(s)} }
	if _, err := w.cloud.Inject(intunetest.ContosoID,
		raw(`{"serialNumber":"01"}`), raw(`{"requestContext":"x"}`), raw(`{"requestContext":"","serialNumber":"01"}`),
		raw(`{"requestContext":7,"serialNumber":"01"}`), raw(`{"requestContext":"x","serialNumber":1}`), raw(`{"requestContext":"x","serialNumber":"01","issuerName":{}}`),
		raw(`null`), raw(`"x"`), raw(`[]`), raw(`{"requestContext":"\ud800","serialNumber":"01"}`),
		raw(`{"requestContext":"`+strings.Repeat("x", 5000)+`","serialNumber":"01"}`),
		raw(`{"requestContext":"x","serialNumber":"`+strings.Repeat("0", 500)+`"}`),
		raw(`{"requestContext":"good","serialNumber":"0x01","issuerName":null,"caConfiguration":null,"more":[1]}`),
	); err != nil {
		t.Fatal(err)
	}
	batch, err := w.client.DownloadRevocations(t.Context(), 100, "")
	if err != nil {
		t.Fatal(err)
	}
	if len(batch.Requests) != 1 || batch.Requests[0] != (intune.RevocationRequest{Context: "good", Serial: "0x01"}) {
		t.Errorf("requests %+v", batch.Requests)
	}
	if len(batch.Bad) != 12 {
		t.Errorf("%d reasons: %q", len(batch.Bad), batch.Bad)
	}
}

// A service that sends more than it was asked for is heard up to 500
// elements; what comes twice is left to the caller.
func TestHugeBatch(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	list := make([]string, 600)
	for i := range list {
		list[i] = fmt.Sprintf(`{"requestContext":"c%d","serialNumber":"01","issuerName":%q}`, i/2, strings.Repeat("n", 250))
	}
	w.cloud.Fail(intunetest.Download, 1, intunetest.Fault{Body: `{"value":[` + strings.Join(list, ",") + `]}`})
	batch, err := w.client.DownloadRevocations(t.Context(), 10, "")
	if err != nil || len(batch.Requests) != 500 || len(batch.Bad) != 1 {
		t.Errorf("%d requests, %q, %v", len(batch.Requests), batch.Bad, err)
	}
	w.cloud.Fail(intunetest.Download, 1, intunetest.Fault{Huge: true})
	if _, err := w.client.DownloadRevocations(t.Context(), 10, ""); !strings.Contains(fmt.Sprint(err), "too long") {
		t.Errorf("8 MiB: %v", err)
	}
}

// A download is sent once whatever happens, but for a new token or address; an
// upload may be repeated once, and its caller keeps what is owed.
func TestRevocationAttempts(t *testing.T) {
	for _, row := range []struct {
		name              string
		fault             intunetest.Fault
		downloads, upload int
		final, retryable  bool
	}{
		{"400", intunetest.Fault{Status: 400}, 1, 1, true, false},
		{"401", intunetest.Fault{Status: 401}, 2, 2, false, false},
		{"403", intunetest.Fault{Status: 403}, 2, 2, false, false},
		{"429 with a short wait", intunetest.Fault{Status: 429, RetryAfter: "0"}, 1, 2, false, true},
		{"429 with a long wait", intunetest.Fault{Status: 429, RetryAfter: "120"}, 1, 1, false, true},
		{"500", intunetest.Fault{Status: 500}, 1, 2, false, true},
		{"503", intunetest.Fault{Status: 503}, 1, 2, false, true},
		{"reset", intunetest.Fault{Reset: true}, 1, 2, false, true},
		{"truncated", intunetest.Fault{Truncated: true}, 1, 2, false, true},
		{"redirect", intunetest.Fault{Redirect: "https://example.invalid/"}, 2, 2, false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, intunetest.Options{})
			w.queue(t, 1)
			check := func(e intunetest.Endpoint, want int, do func() error) {
				t.Helper()
				w.clock.Advance(2 * time.Minute) // another token may be asked for
				w.cloud.Fail(e, intunetest.Always, row.fault)
				err := do()
				if err == nil || intune.Final(err) != row.final || intune.Retryable(err) != row.retryable {
					t.Errorf("%s: %v, want final %t, retryable %t", e, err, row.final, row.retryable)
				}
				if n := w.counts()[e]; n != want {
					t.Errorf("%s was sent %d times, want %d", e, n, want)
				}
				if row.fault.RetryAfter == "120" && intune.RetryAfter(err) != 2*time.Minute {
					t.Errorf("wait of %v", intune.RetryAfter(err))
				}
			}
			check(intunetest.Download, row.downloads, func() error {
				_, err := w.client.DownloadRevocations(t.Context(), 1, "")
				return err
			})
			check(intunetest.Upload, row.upload, func() error {
				return w.client.UploadRevocations(t.Context(), []intune.RevocationResult{revoked("c1")})
			})
		})
	}
}

// R9: an answer that gets lost has the results sent again, and that is no
// contradiction.
func TestUploadAnswerLost(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	w.queue(t, 1)
	w.cloud.Fail(intunetest.Upload, 1, intunetest.Fault{Lose: true})
	if err := w.client.UploadRevocations(t.Context(), []intune.RevocationResult{revoked("c1")}); err != nil {
		t.Fatal(err)
	}
	if r := w.cloud.Revocations()[0]; r.Results != 2 || r.State != intunetest.Revoked || len(w.cloud.Contradictions()) != 0 {
		t.Errorf("%+v, %v", r, w.cloud.Contradictions())
	}
}

// The announced removal of the action is recognised, after the address was
// looked up anew, and the error names the settings that help.
func TestActionGone(t *testing.T) {
	for _, status := range []int{http.StatusNotFound, http.StatusGone} {
		w := newWorld(t, intunetest.Options{})
		w.cloud.Fail(intunetest.Download, intunetest.Always, intunetest.Fault{Status: status})
		_, err := w.client.DownloadRevocations(t.Context(), 1, "")
		if !errors.Is(err, intune.ErrActionGone) || intune.Final(err) || intune.Retryable(err) {
			t.Fatalf("error %v, want ErrActionGone", err)
		}
		if e, ok := errors.AsType[*intune.HTTPError](err); !ok || e.Status != status {
			t.Errorf("the status is lost: %v", err)
		}
		for _, want := range []string{"Microsoft has announced", "download_action", "revocation_version", "revocation_service"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error %q does not say %q", err, want)
			}
		}
		if n := w.counts(); n[intunetest.Download] != 2 || n[intunetest.Discovery] != 2 {
			t.Errorf("calls %v, want one more look-up and try", n)
		}
	}
	// A service that has only moved is found again.
	w := newWorld(t, intunetest.Options{})
	if _, err := w.client.DownloadRevocations(t.Context(), 1, ""); err != nil {
		t.Fatal(err)
	}
	w.cloud.MoveScaleUnit()
	if _, err := w.client.DownloadRevocations(t.Context(), 1, ""); err != nil {
		t.Errorf("after the move: %v", err)
	}
}

// The day after: the names are configured.
func TestRevocationNamesAreConfigured(t *testing.T) {
	w := newWorld(t, intunetest.Options{Revocation: intunetest.RevocationOptions{
		Service: "CertificateRevocationFEService", Version: "2027-01-01", DownloadAction: "V2/fetchRevocations", UploadAction: "V2/report",
	}})
	w.queue(t, 1)
	batch, err := w.client.DownloadRevocations(t.Context(), 1, "")
	if err != nil || len(batch.Requests) != 1 {
		t.Fatalf("%+v, %v", batch, err)
	}
	if err := w.client.UploadRevocations(t.Context(), []intune.RevocationResult{revoked("c1")}); err != nil {
		t.Fatal(err)
	}
	today := w.newClient(t, func(c *intune.Config) {
		c.Endpoints.RevocationService, c.Endpoints.RevocationVersion, c.Endpoints.DownloadAction = "", "", ""
	})
	_, err = today.DownloadRevocations(t.Context(), 1, "")
	if e, ok := errors.AsType[*intune.ServiceNotFoundError](err); !ok || e.Service != "PkiConnectorFEService" {
		t.Errorf("error %v, want a ServiceNotFoundError", err)
	}
	for _, bad := range []string{"/x", "x/", "a//b", "../x", "x?y=z", "https://evil.example"} {
		cfg := w.cloud.ClientConfig()
		cfg.Endpoints.DownloadAction = bad
		if _, err := intune.New(cfg); err == nil {
			t.Errorf("the action %q was taken", bad)
		}
	}
}

// A filter goes out as it was configured, and none as null.
func TestIssuerFilter(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	if _, err := w.cloud.Inject(intunetest.ContosoID,
		intunetest.Injection{SerialNumber: "01", Issuer: "ca-1"}, intunetest.Injection{SerialNumber: "02", Issuer: "ca-2"},
	); err != nil {
		t.Fatal(err)
	}
	for issuer, want := range map[string][]string{"": {"01", "02"}, "ca-2": {"02"}, "ca-3": nil} {
		batch, err := w.client.DownloadRevocations(t.Context(), 10, issuer)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, r := range batch.Requests {
			got = append(got, r.Serial)
		}
		if !slices.Equal(got, want) {
			t.Errorf("issuer %q: %q, want %q", issuer, got, want)
		}
	}
}

// The revocation service may be where it cannot be reached while the SCEP
// service answers: that is a NetworkError of a connection, nothing was sent.
func TestRevocationServiceUnreachable(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	w.cloud.SetServices([]intunetest.Service{
		{Provider: "ScepRequestValidationFEService", URI: w.cloud.ServiceURL()}, {Provider: "PkiConnectorFEService", URI: "https://127.0.0.1:1/x"},
	})
	_, err := w.client.DownloadRevocations(t.Context(), 1, "")
	if e, ok := errors.AsType[*intune.NetworkError](err); !ok || !e.Connect || !intune.Retryable(err) {
		t.Errorf("error %v, want a NetworkError of a connection", err)
	}
	if n := w.counts()[intunetest.Discovery]; n != 2 {
		t.Errorf("%d look-ups, want 2", n)
	}
	if err := w.validate(t, "t"); err != nil {
		t.Errorf("the SCEP service: %v", err)
	}
}

// A download that hangs ends with its time, and is not repeated.
func TestDownloadHangs(t *testing.T) {
	for _, limit := range []time.Duration{500 * time.Millisecond, 5 * time.Second, time.Minute} {
		w := newWorld(t, intunetest.Options{}, func(c *intune.Config) { c.Timeouts.Revocation = limit })
		if err := w.validate(t, "t"); err != nil { // tokens and addresses are there
			t.Fatal(err)
		}
		w.cloud.Fail(intunetest.Download, intunetest.Always, intunetest.Fault{Delay: time.Hour})
		_, err := w.client.DownloadRevocations(t.Context(), 1, "")
		if _, ok := errors.AsType[*intune.NetworkError](err); !ok || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want a NetworkError of time", err)
		}
		switch n := w.counts()[intunetest.Download]; {
		case n > 1:
			t.Errorf("%d downloads", n)
		case n == 1:
			return
		} // a machine so busy that the question did not get there
	}
	t.Error("the cloud was not asked within a minute")
}
