package intunetest_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/intune/intunetest"
)

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

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

func newTimedCloud(t *testing.T, options intunetest.Options) (*intunetest.Cloud, *intune.Client, *clock) {
	t.Helper()
	now := &clock{now: time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)}
	options.Clock = now.Now
	c := newCloud(t, options)
	return c, newClient(t, c), now
}

// enrol has a device of a platform ask for a certificate, which is reported.
func enrol(t *testing.T, c *intunetest.Cloud, client *intune.Client, platform string, serial int64, ca string) intunetest.Challenge {
	t.Helper()
	ch, err := c.Challenge(intunetest.Ask{Platform: platform})
	if err != nil {
		t.Fatal(err)
	}
	csr, err := ch.CSR(testkeys.RSA2048(0))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "device"}, NotAfter: time.Date(2028, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, testkeys.P256(0).Public(), testkeys.P256(0))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	id := fmt.Sprintf("%s-%x", platform, serial)
	if err := client.Validate(t.Context(), intune.ValidateRequest{TransactionID: id, CSR: csr}); err != nil {
		t.Fatal(err)
	}
	if err := client.NotifySuccess(t.Context(), intune.SuccessNotification{TransactionID: id, CSR: csr, Certificate: cert, IssuingCA: ca}); err != nil {
		t.Fatal(err)
	}
	return ch
}

func contexts(t *testing.T, client *intune.Client, most int, issuer string) []string {
	t.Helper()
	batch, err := client.DownloadRevocations(t.Context(), most, issuer)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, r := range batch.Requests {
		list = append(list, r.Context)
	}
	return list
}

func report(t *testing.T, client *intune.Client, context string, code intune.RevocationCode) {
	t.Helper()
	r := intune.RevocationResult{Context: context, Succeeded: code == 0, Code: code}
	if code != 0 {
		r.Message = "why"
	}
	if err := client.UploadRevocations(t.Context(), []intune.RevocationResult{r}); err != nil {
		t.Fatal(err)
	}
}

// A wipe asks for all certificates of a device and no other's; what was never
// reported cannot be asked for. The times tell how long each step took.
func TestRevokeDevice(t *testing.T) {
	c, client, now := newTimedCloud(t, intunetest.Options{Strict: true})
	ios := enrol(t, c, client, "ios", 1, "ca-1")
	enrol(t, c, client, "ios", 2, "ca-2")
	enrol(t, c, client, "windows", 3, "ca-1")
	now.Advance(time.Hour)
	list, err := c.RevokeDevice(intunetest.ContosoID, ios.Device)
	if err != nil || len(list) != 2 || list[0].SerialNumber != "01" || list[1].Issuer != "ca-2" || list[1].CAConfiguration != "ca-2" {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, ask := range []func() error{
		func() error { _, err := c.Revoke(intunetest.ContosoID, "FF", ""); return err },
		func() error { _, err := c.Revoke(intunetest.ContosoID, "01", "ca-2"); return err },
		func() error { _, err := c.RevokeDevice(intunetest.ContosoID, ""); return err },
		func() error { _, err := c.Revoke("nobody", "01", ""); return err },
	} {
		if ask() == nil {
			t.Error("a certificate that was not reported is to be revoked")
		}
	}
	now.Advance(time.Minute)
	got := contexts(t, client, 100, "")
	now.Advance(time.Minute)
	report(t, client, got[0], intune.RevocationNone)
	r := c.Revocations()[0]
	start := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	for i, at := range []time.Time{r.Notified, r.Queued, r.FirstSeen, r.Answered} {
		if want := start.Add([]time.Duration{0, 60 * time.Minute, 61 * time.Minute, 62 * time.Minute}[i]); !at.Equal(want) {
			t.Errorf("time %d is %v, want %v", i, at, want)
		}
	}
	if r.State != intunetest.Revoked || r.Device != ios.Device || r.Deliveries != 1 {
		t.Errorf("%+v", r)
	}
}

// A download deletes nothing; a final result does, one of another try does not.
func TestQueue(t *testing.T) {
	c, client, now := newTimedCloud(t, intunetest.Options{Revocation: intunetest.RevocationOptions{Lease: 10 * time.Minute}})
	if _, err := c.Inject(intunetest.ContosoID, intunetest.Injection{Context: "a", SerialNumber: "01"}, intunetest.Injection{Context: "b", SerialNumber: "02"}, intunetest.Injection{Context: "c", SerialNumber: "03"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Inject(intunetest.ContosoID, intunetest.Injection{Context: "a", SerialNumber: "09"}); err == nil {
		t.Error("a context twice")
	}
	want := func(want ...string) {
		t.Helper()
		if got := contexts(t, client, 100, ""); !slices.Equal(got, want) {
			t.Errorf("handed out %q, want %q", got, want)
		}
	}
	want("a", "b", "c")
	want()
	report(t, client, "a", intune.RevocationNone)
	report(t, client, "b", intune.RevocationServiceUnavailableError)
	want("b")
	now.Advance(10 * time.Minute)
	want("b", "c")
	report(t, client, "b", intune.RevocationNotSupportedError)
	now.Advance(10 * time.Minute)
	want("c")
	if b := c.Revocations()[1]; b.State != intunetest.RevocationFailed || b.Retries != 1 || b.Results != 2 || b.Deliveries != 3 {
		t.Errorf("%+v", b)
	}
}

// After a download there is nothing for an hour, if that is asked for, for the
// tenant as a whole.
func TestCoolDown(t *testing.T) {
	c, client, now := newTimedCloud(t, intunetest.Options{Revocation: intunetest.RevocationOptions{CoolDown: time.Hour}})
	if got := contexts(t, client, 1, ""); len(got) != 0 {
		t.Errorf("handed out %q", got)
	}
	if _, err := c.Inject(intunetest.ContosoID, intunetest.Injection{Context: "a", SerialNumber: "01"}); err != nil {
		t.Fatal(err)
	}
	now.Advance(59 * time.Minute)
	if got := contexts(t, client, 1, ""); len(got) != 0 {
		t.Errorf("handed out %q in the cool-down", got)
	}
	now.Advance(time.Minute)
	if got := contexts(t, client, 1, ""); len(got) != 1 {
		t.Error("nothing after the cool-down")
	}
	c.SetCoolDown(0)
	if got := contexts(t, client, 1, ""); len(got) != 1 {
		t.Error("nothing without a cool-down")
	}
}

// What was seen of the real filter, where it is asked for.
func TestFilterBugs(t *testing.T) {
	inject := []intunetest.Injection{
		{Context: "other", SerialNumber: "01", Issuer: "ca-2", CAConfiguration: "ca-1"},
		{Context: "ours", SerialNumber: "02", Issuer: "ca-1", CAConfiguration: "ca-2"},
	}
	for _, row := range []struct {
		name    string
		options intunetest.RevocationOptions
		most    int
		want    []string
	}{
		{"by issuer", intunetest.RevocationOptions{}, 1, []string{"ours"}},
		{"by caConfiguration", intunetest.RevocationOptions{FilterConfiguration: true}, 1, []string{"other"}},
		{"after truncation", intunetest.RevocationOptions{FilterLate: true}, 1, nil},
		{"after truncation, of enough", intunetest.RevocationOptions{FilterLate: true}, 2, []string{"ours"}},
	} {
		c, client, _ := newTimedCloud(t, intunetest.Options{Revocation: row.options})
		if _, err := c.Inject(intunetest.ContosoID, inject...); err != nil {
			t.Fatal(err)
		}
		if got := contexts(t, client, row.most, "ca-1"); !slices.Equal(got, row.want) {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
	}
}

// Requests may come twice in one answer, in odd forms, and by the hundred.
func TestInjections(t *testing.T) {
	c, client, _ := newTimedCloud(t, intunetest.Options{})
	list := []intunetest.Injection{
		{Context: "twice", SerialNumber: "0x00ab", Copies: 2},
		{Context: "raw", Raw: json.RawMessage(`{"requestContext":"raw","serialNumber":"ab:cd"}`)},
	}
	for i := range 600 {
		list = append(list, intunetest.Injection{SerialNumber: fmt.Sprintf("%d", i), Issuer: "foreign"})
	}
	if _, err := c.Inject(intunetest.ContosoID, list...); err != nil {
		t.Fatal(err)
	}
	if got := contexts(t, client, 3, ""); !slices.Equal(got, []string{"twice", "twice", "raw"}) {
		t.Errorf("handed out %q", got)
	}
	if got := contexts(t, client, 500, ""); len(got) != 500 {
		t.Errorf("%d requests", len(got))
	}
	report(t, client, "raw", intune.RevocationParameterDataInvalidError)
	if got := contexts(t, client, 3, ""); got[2] == "raw" {
		t.Error("a settled request came again")
	}
}

// A request that is told two fates is found out; saying the same again is no
// contradiction, and the first final result counts.
func TestContradictions(t *testing.T) {
	c, client, _ := newTimedCloud(t, intunetest.Options{})
	if _, err := c.Inject(intunetest.ContosoID, intunetest.Injection{Context: "a", SerialNumber: "01"}, intunetest.Injection{Context: "b", SerialNumber: "02"}); err != nil {
		t.Fatal(err)
	}
	report(t, client, "a", intune.RevocationServiceTooBusyError)
	report(t, client, "a", intune.RevocationNone)
	report(t, client, "a", intune.RevocationNone)
	report(t, client, "b", intune.RevocationConflictError)
	report(t, client, "b", intune.RevocationCertificateNotFoundError)
	if list := c.Contradictions(); len(list) != 0 {
		t.Fatalf("contradictions %+v", list)
	}
	report(t, client, "a", intune.RevocationServiceTooBusyError)
	report(t, client, "a", intune.RevocationCertificateNotFoundError)
	report(t, client, "b", intune.RevocationNone)
	list := c.Contradictions()
	if len(list) != 3 || list[0].Context != "a" || !list[0].First.Succeeded || list[1].Second.Code != 4004 || list[2].Context != "b" || !list[2].Second.Succeeded {
		t.Errorf("contradictions %+v", list)
	}
	if r := c.Revocations(); r[0].State != intunetest.Revoked || r[1].State != intunetest.RevocationFailed || r[1].Code != 4005 {
		t.Errorf("%+v", r)
	}
}

// send posts an action as a client that is not ours would.
func send(t *testing.T, c *intunetest.Cloud, action, version, body string) (int, string) {
	t.Helper()
	token := tokenFor(t, c)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.RevocationURL()+"/CertificateAuthorityRequests/"+action, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("api-version", version)
	resp, err := httpClient(c).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

func tokenFor(t *testing.T, c *intunetest.Cloud) string {
	t.Helper()
	resp, err := httpClient(c).PostForm(c.AuthorityURL()+intunetest.ContosoID+"/oauth2/v2.0/token", map[string][]string{
		"grant_type": {"client_credentials"}, "client_id": {intunetest.ContosoClient},
		"client_secret": {intunetest.ContosoSecret.Reveal()}, "scope": {c.ResourceURL() + "/.default"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Token == "" {
		t.Fatalf("no token: %v", err)
	}
	return answer.Token
}

// The service takes what both of Microsoft's libraries send, and nothing that
// breaks the rules; an upload counts as a whole or not at all.
func TestRevocationWire(t *testing.T) {
	c, _, _ := newTimedCloud(t, intunetest.Options{})
	for _, context := range []string{"a", "b", "c", "d"} {
		if _, err := c.Inject(intunetest.ContosoID, intunetest.Injection{Context: context, SerialNumber: "01"}); err != nil {
			t.Fatal(err)
		}
	}
	const version = "5019-05-05"
	for _, row := range []struct {
		name, action, version, body string
		status                      int
	}{
		{"no filter", "downloadRevocationRequests", version, `{"downloadParameters":{"maxRequests":1}}`, 200},
		{"null filter", "downloadRevocationRequests", version, `{"downloadParameters":{"maxRequests":500,"issuerName":null}}`, 200},
		{"PascalCase", "downloadRevocationRequests", version, `{"DownloadParameters":{"MaxRequests":1,"IssuerName":"x"}}`, 200},
		{"none", "downloadRevocationRequests", version, `{"downloadParameters":{"maxRequests":0}}`, 400},
		{"501", "downloadRevocationRequests", version, `{"downloadParameters":{"maxRequests":501}}`, 400},
		{"a text", "downloadRevocationRequests", version, `{"downloadParameters":{"maxRequests":"1"}}`, 400},
		{"no number", "downloadRevocationRequests", version, `{"downloadParameters":{}}`, 400},
		{"no parameters", "downloadRevocationRequests", version, `{}`, 400},
		{"issuer of another type", "downloadRevocationRequests", version, `{"downloadParameters":{"maxRequests":1,"issuerName":1}}`, 400},
		{"another version", "downloadRevocationRequests", "2018-02-20", `{"downloadParameters":{"maxRequests":1}}`, 400},
		{"another action", "download", version, `{}`, 404},
		{"name of a code", "uploadRevocationResults", version, `{"results":[{"requestContext":"a","succeeded":false,"errorCode":"certificatenotfounderror","errorMessage":"x"}]}`, 200},
		{"number in a text", "uploadRevocationResults", version, `{"results":[{"requestContext":"b","succeeded":false,"errorCode":"4004","errorMessage":"x"}]}`, 200},
		{"number", "uploadRevocationResults", version, `{"Results":[{"RequestContext":"c","Succeeded":true,"ErrorCode":0}]}`, 200},
		{"unknown code", "uploadRevocationResults", version, `{"results":[{"requestContext":"d","succeeded":false,"errorCode":"4999","errorMessage":"x"}]}`, 400},
		{"no code", "uploadRevocationResults", version, `{"results":[{"requestContext":"d","succeeded":true,"errorMessage":""}]}`, 400},
		{"unknown context beside a known one", "uploadRevocationResults", version, `{"results":[{"requestContext":"d","succeeded":true,"errorCode":"None"},{"requestContext":"z","succeeded":true,"errorCode":"None"}]}`, 400},
		{"success with a code", "uploadRevocationResults", version, `{"results":[{"requestContext":"d","succeeded":true,"errorCode":"ConflictError"}]}`, 400},
		{"success with a message", "uploadRevocationResults", version, `{"results":[{"requestContext":"d","succeeded":true,"errorCode":"None","errorMessage":"x"}]}`, 400},
		{"failure without a code", "uploadRevocationResults", version, `{"results":[{"requestContext":"d","succeeded":false,"errorCode":"None","errorMessage":"x"}]}`, 400},
		{"failure without a message", "uploadRevocationResults", version, `{"results":[{"requestContext":"d","succeeded":false,"errorCode":"4000","errorMessage":null}]}`, 400},
		{"succeeded is a text", "uploadRevocationResults", version, `{"results":[{"requestContext":"d","succeeded":"true","errorCode":"None"}]}`, 400},
		{"no results", "uploadRevocationResults", version, `{"results":[]}`, 400},
	} {
		if status, body := send(t, c, row.action, row.version, row.body); status != row.status {
			t.Errorf("%s: HTTP %d %s, want %d", row.name, status, body, row.status)
		}
	}
	states := c.Revocations()
	if states[0].Code != 4004 || states[1].Code != 4004 || states[2].State != intunetest.Revoked || states[3].Results != 0 {
		t.Errorf("states %+v", states)
	}
}

// The control API queues and tells, and the state file keeps what was taken
// through a kill.
func TestControlOfRevocations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.jsonl")
	tenant := intunetest.Contoso()
	tenant.Apps[0].Roles = append(tenant.Apps[0].Roles, intunetest.RolePFX, intunetest.RoleUsers)
	c, client, _ := newTimedCloud(t, intunetest.Options{StateFile: path, Tenants: []intunetest.Tenant{tenant}})
	ch := enrol(t, c, client, "ios", 0xAB, "ca-1")
	enrol(t, c, client, "windows", 0xCD, "ca-1")

	var list []intunetest.Revocation
	control(t, c, "POST", "revocations", map[string]string{"serial": "ab", "issuer": "ca-1"}, &list)
	control(t, c, "POST", "revocations", map[string]string{"device": ch.Device}, &list)
	control(t, c, "POST", "injections", map[string]any{"requests": []intunetest.Injection{{Context: "x", SerialNumber: "1", Issuer: "foreign", Raw: json.RawMessage(`{"requestContext":"x","serialNumber":"1"}`)}}}, &list)
	control(t, c, "PUT", "cooldown", map[string]int{"seconds": 60}, nil)
	if got := contexts(t, client, 100, ""); len(got) != 3 {
		t.Errorf("handed out %q", got)
	}
	if got := contexts(t, client, 100, ""); len(got) != 0 {
		t.Errorf("handed out %q in the cool-down", got)
	}
	report(t, client, "x", intune.RevocationNone)
	report(t, client, "x", intune.RevocationCertificateNotFoundError)
	control(t, c, "GET", "revocations", nil, &list)
	if len(list) != 3 || list[0].SerialNumber != "AB" || list[1].Device != ch.Device || list[2].State != intunetest.Revoked {
		t.Errorf("revocations %+v", list)
	}
	var contradictions []intunetest.Contradiction
	control(t, c, "GET", "contradictions", nil, &contradictions)
	if len(contradictions) != 1 || contradictions[0].Second.Code != 4004 || contradictions[0].Words == "" {
		t.Errorf("contradictions %+v", contradictions)
	}

	p := intune.UserPFX{
		UserPrincipalName: "user1@contoso.example", Thumbprint: strings.Repeat("ab", 20), Start: time.Unix(0, 0), Expires: time.Unix(1, 0),
		ProviderName: "p", KeyName: "k", EncryptedPFX: []byte("pfx"), EncryptedPassword: make([]byte, 256),
	}
	for _, thumbprint := range []string{strings.Repeat("ab", 20), strings.Repeat("cd", 20)} {
		p.Thumbprint = thumbprint
		if err := client.CreatePFX(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	if err := client.DeletePFX(t.Context(), "05e70000-0000-4000-8000-000000000001", strings.Repeat("ab", 20)); err != nil {
		t.Fatal(err)
	}
	var pfx []intunetest.PFX
	control(t, c, "GET", "pfx", nil, &pfx)
	var keys []intunetest.Key
	control(t, c, "GET", "keys", nil, &keys)
	if len(pfx) != 1 || pfx[0].Thumbprint != strings.Repeat("cd", 20) || len(keys) != 0 {
		t.Errorf("PFX %+v, keys %+v", pfx, keys)
	}

	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.WriteString(`{"kind":"revocation_re`) // as a kill would leave it
	_ = f.Close()
	state, err := intunetest.ReadState(path)
	if err != nil || len(state.Notifications) != 2 || len(state.Results) != 2 || !state.Results[0].Succeeded || state.Results[1].Code != 4004 ||
		len(state.PFX) != 1 || string(state.PFX[0].Blob) != "pfx" {
		t.Errorf("state %+v, %v", state, err)
	}
	for _, call := range c.Calls() {
		for name, values := range call.Header {
			if text := strings.Join(values, ""); strings.Contains(text, "eyJ") {
				t.Errorf("the journal shows a token in %s", name)
			}
		}
	}
}
