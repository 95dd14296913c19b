package intune_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/certconnector/certconnector/internal/retry"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/intune/intunetest"
)

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is a cloud, a client of it, and everything that the client logged.
type world struct {
	cloud  *intunetest.Cloud
	clock  *clock
	client *intune.Client
	logs   *observer.ObservedLogs
}

func newWorld(t *testing.T, options intunetest.Options, change ...func(*intune.Config)) *world {
	t.Helper()
	w := &world{clock: newClock()}
	options.Clock = w.clock.Now
	cloud, err := intunetest.New(options)
	if err != nil {
		t.Fatal(err)
	}
	if err := cloud.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cloud.Close() })
	w.cloud = cloud
	w.client = w.newClient(t, change...)
	return w
}

// patient is for machines that are busy with something else: an attempt that
// ends early is made again, and counted.
var patient = intune.Timeouts{
	Token: 2 * time.Minute, Discovery: 2 * time.Minute, Validate: 2 * time.Minute, Notify: 2 * time.Minute,
	Revocation: 2 * time.Minute, Graph: 2 * time.Minute, Renewal: 2 * time.Minute, Total: 4 * time.Minute,
}

func (w *world) newClient(t *testing.T, change ...func(*intune.Config)) *intune.Client {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	w.logs = logs
	cfg := w.cloud.ClientConfig()
	cfg.Log = zap.New(core)
	cfg.Backoff = retry.Schedule{First: time.Millisecond, Most: 5 * time.Millisecond}
	cfg.Timeouts = patient
	for _, f := range change {
		f(&cfg)
	}
	c, err := intune.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// csr returns the request that a device makes.
func (w *world) csr(t *testing.T, ask intunetest.Ask) []byte {
	t.Helper()
	return makeCSR(t, w.challenge(t, ask))
}

func (w *world) challenge(t *testing.T, ask intunetest.Ask) intunetest.Challenge {
	t.Helper()
	ch, err := w.cloud.Challenge(ask)
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

func makeCSR(t *testing.T, ch intunetest.Challenge) []byte {
	t.Helper()
	der, err := ch.CSR(testkeys.RSA2048(0))
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (w *world) validate(t *testing.T, id string) error {
	t.Helper()
	return w.client.Validate(t.Context(), intune.ValidateRequest{TransactionID: id, CSR: w.csr(t, intunetest.Ask{})})
}

// counts are the calls that the endpoints have had.
func (w *world) counts() map[intunetest.Endpoint]int {
	m := map[intunetest.Endpoint]int{}
	for _, c := range w.cloud.Calls() {
		m[c.Endpoint]++
	}
	return m
}

// certificate is one that a CA might issue.
func certificate(t *testing.T, serial *big.Int) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "device"},
		NotBefore: time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC), NotAfter: time.Date(2028, 3, 1, 13, 14, 15, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, testkeys.P256(0).Public(), testkeys.P256(0))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// J1, C1: two tokens, one look-up, one question.
func TestValidationSuccess(t *testing.T) {
	w := newWorld(t, intunetest.Options{Strict: true})
	if err := w.validate(t, "t1"); err != nil {
		t.Fatal(err)
	}
	n := w.counts()
	if n[intunetest.Token] != 2 || n[intunetest.Discovery] != 1 || n[intunetest.Validate] != 1 {
		t.Errorf("calls %v, want 2 tokens, 1 discovery, 1 validation", n)
	}
	for i := range 3 {
		if err := w.validate(t, "again"+string(rune('0'+i))); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.counts(); n[intunetest.Token] != 2 || n[intunetest.Discovery] != 1 || n[intunetest.Validate] != 4 {
		t.Errorf("calls %v: tokens and addresses were not kept", n)
	}
	for _, c := range w.cloud.Calls() {
		if c.Endpoint != intunetest.Validate {
			continue
		}
		for name, want := range map[string]string{
			"Api-Version": "2018-02-20", "Content-Type": "application/json; charset=utf-8",
			"User-Agent": "certconnector-test/1.0", "Useragent": "certconnector-test/1.0", "Accept": "application/json",
		} {
			if got := c.Header.Get(name); got != want {
				t.Errorf("header %s is %q, want %q", name, got, want)
			}
		}
		if len(c.Header.Get("Client-Request-Id")) != 36 {
			t.Errorf("activity ID %q is no GUID", c.Header.Get("Client-Request-Id"))
		}
	}
}

// J2, C2: every documented code comes back as a final refusal of that code.
func TestValidationRefused(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	for _, code := range intune.Codes() {
		if code == intune.Success {
			continue
		}
		t.Run(string(code), func(t *testing.T) {
			w.cloud.Fail(intunetest.Validate, 1, intunetest.Fault{Code: string(code), Description: "why"})
			err := w.validate(t, "t-"+string(code))
			e, ok := errors.AsType[*intune.ScepError](err)
			if !ok || e.Code != code || e.Description != "why" || e.TransactionID != "t-"+string(code) || e.ActivityID == "" {
				t.Fatalf("error %#v", err)
			}
			if !intune.Final(err) || intune.Retryable(err) {
				t.Error("a refusal must be final")
			}
		})
	}
	if n := w.counts()[intunetest.Validate]; n != len(intune.Codes())-1 {
		t.Errorf("%d validations, want one for each code", n)
	}
}

// J3: a token without the role is an HTTP error, after one renewal.
func TestServiceRoleMismatch(t *testing.T) {
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		w := newWorld(t, intunetest.Options{RoleStatus: status})
		_ = w.cloud.SetRoles(intunetest.ContosoID, intunetest.ContosoClient, intunetest.RoleGraph)
		err := w.validate(t, "t")
		e, ok := errors.AsType[*intune.HTTPError](err)
		if !ok || e.Status != status {
			t.Fatalf("error %v, want HTTP %d", err, status)
		}
		if !strings.Contains(err.Error(), "grant scep_challenge_provider") {
			t.Errorf("error %q tells no way out", err)
		}
		if n := w.counts(); n[intunetest.Validate] != 2 || n[intunetest.Token] != 3 {
			t.Errorf("calls %v, want 2 validations and 3 tokens", n)
		}
		// The administrator consents; within the minute the old token stays.
		_ = w.cloud.SetRoles(intunetest.ContosoID, intunetest.ContosoClient, intunetest.RoleGraph, intunetest.RoleIntune)
		if err := w.validate(t, "t"); err == nil {
			t.Error("token was renewed twice within a minute")
		}
		w.clock.Advance(time.Minute)
		if err := w.validate(t, "t"); err != nil {
			t.Errorf("after consent: %v", err)
		}
	}
}

// J4, C7, TestMatrix 25: no token, no call, and no certificate.
func TestNoToken(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	_ = w.cloud.SetSecrets(intunetest.ContosoID, intunetest.ContosoClient, "another")
	err := w.validate(t, "t")
	e, ok := errors.AsType[*intune.AuthError](err)
	if !ok || e.AADSTS != 7000215 || e.Retryable {
		t.Fatalf("error %v, want AADSTS7000215 that is not retryable", err)
	}
	if !strings.Contains(err.Error(), "not its ID") {
		t.Errorf("error %q tells no way out", err)
	}
	if n := w.counts(); n[intunetest.Token] != 1 || n[intunetest.Discovery]+n[intunetest.Validate] != 0 {
		t.Errorf("calls %v, want one token request", n)
	}
}

// J5: without the service in the list nothing is sent.
func TestServiceNotFound(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	w.cloud.SetServices([]intunetest.Service{{Provider: "Other", URI: w.cloud.ServiceURL()}})
	for range 3 {
		if _, ok := errors.AsType[*intune.ServiceNotFoundError](w.validate(t, "t")); !ok {
			t.Fatal("want a ServiceNotFoundError")
		}
	}
	if n := w.counts(); n[intunetest.Discovery] != 1 || n[intunetest.Validate] != 0 {
		t.Errorf("calls %v, want one look-up within the minute", n)
	}
	w.cloud.SetServices(nil)
	w.clock.Advance(time.Minute)
	if err := w.validate(t, "t"); err != nil {
		t.Errorf("after a minute: %v", err)
	}
}

// J6, C8: an address that cannot be reached, or that moved, is looked up again
// once, at most once a minute.
func TestScaleUnitMoves(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	dead := "https://127.0.0.1:1/RACerts"
	w.cloud.SetServices([]intunetest.Service{{Provider: "ScepRequestValidationFEService", URI: dead}})
	if e, ok := errors.AsType[*intune.NetworkError](w.validate(t, "t")); !ok || !e.Connect {
		t.Fatalf("want a NetworkError of a connection, have %v", e)
	}
	if n := w.counts()[intunetest.Discovery]; n != 2 {
		t.Errorf("%d look-ups, want 2", n)
	}
	w.cloud.SetServices(nil)
	w.clock.Advance(time.Minute)
	if err := w.validate(t, "t"); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(time.Minute)
	before := w.counts()
	w.cloud.MoveScaleUnit()
	if err := w.validate(t, "t"); err != nil {
		t.Fatalf("after the move: %v", err)
	}
	after := w.counts()
	if after[intunetest.Discovery]-before[intunetest.Discovery] != 1 || after["unknown"]-before["unknown"] != 1 {
		t.Errorf("calls %v then %v, want one 404 and one look-up", before, after)
	}
	w.cloud.MoveScaleUnit()
	if e, ok := errors.AsType[*intune.HTTPError](w.validate(t, "t")); !ok || e.Status != http.StatusNotFound {
		t.Error("a second move within a minute must surface as 404")
	}
}

// R5: one renewal and one retry on a 401.
func TestTokenRenewedOnce(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	w.cloud.Fail(intunetest.Validate, 1, intunetest.Fault{Status: http.StatusUnauthorized})
	if err := w.validate(t, "t"); err != nil {
		t.Fatal(err)
	}
	if n := w.counts(); n[intunetest.Validate] != 2 || n[intunetest.Token] != 3 {
		t.Errorf("calls %v, want 2 validations and 3 tokens", n)
	}
	w.cloud.Fail(intunetest.Discovery, 1, intunetest.Fault{Status: http.StatusUnauthorized})
	w.clock.Advance(31 * time.Minute)
	if err := w.validate(t, "t"); err != nil {
		t.Fatal(err)
	}
	if n := w.counts(); n[intunetest.Discovery] != 3 || n[intunetest.Token] != 4 {
		t.Errorf("calls %v, want 3 look-ups and 4 tokens", n)
	}
}

// R6: a hundred enrolments at once make one look-up and two token requests.
func TestSingleFlight(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	csr := w.csr(t, intunetest.Ask{})
	w.cloud.Fail(intunetest.Token, 1, intunetest.Fault{Delay: 50 * time.Millisecond})
	var wg sync.WaitGroup
	errs := make(chan error, 100)
	for range 100 {
		wg.Go(func() {
			errs <- w.client.Validate(t.Context(), intune.ValidateRequest{TransactionID: "t", CSR: csr})
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
	n := w.counts()
	if n[intunetest.Token] != 2 || n[intunetest.Discovery] != 1 || n[intunetest.Validate] != 100 {
		t.Errorf("calls %v, want 2 tokens, 1 look-up, 100 validations", n)
	}
}

// A caller that gives up does not take the others with it.
func TestSingleFlightSurvivesCancellation(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	csr := w.csr(t, intunetest.Ask{})
	// The first token request is never answered: only giving up ends it.
	w.cloud.Fail(intunetest.Token, 1, intunetest.Fault{Delay: time.Hour})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first, second := make(chan error, 1), make(chan error, 1)
	go func() {
		first <- w.client.Validate(ctx, intune.ValidateRequest{TransactionID: "a", CSR: csr})
	}()
	waitFor(t, func() bool { return w.counts()[intunetest.Token] == 1 })
	go func() {
		second <- w.client.Validate(t.Context(), intune.ValidateRequest{TransactionID: "b", CSR: csr})
	}()
	cancel()
	if err := <-second; err != nil {
		t.Errorf("the second caller: %v", err)
	}
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first caller: %v, want its own cancellation", err)
	}
}

// waitFor waits until something is so that a goroutine does.
func waitFor(t *testing.T, so func() bool) {
	t.Helper()
	for range 60_000 {
		if so() {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("it did not come to be within a minute")
}
