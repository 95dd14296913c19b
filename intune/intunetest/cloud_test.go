package intunetest_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/AzureAD/microsoft-authentication-library-for-go/apps/confidential"

	"github.com/certconnector/certconnector/internal/retry"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/intune/intunetest"
)

var start = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

func newCloud(t *testing.T, options intunetest.Options) *intunetest.Cloud {
	t.Helper()
	c, err := intunetest.New(options)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func httpClient(c *intunetest.Cloud) *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.Roots()}}}
}

func newClient(t *testing.T, c *intunetest.Cloud) *intune.Client {
	t.Helper()
	cfg := c.ClientConfig()
	cfg.Backoff = retry.Schedule{First: time.Millisecond, Most: time.Millisecond}
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
	return client
}

// Microsoft's own library gets tokens, with a secret and with a certificate.
func TestMSAL(t *testing.T) {
	c := newCloud(t, intunetest.Options{})
	key := testkeys.RSA2048(3)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "msal"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	secretCred, err := confidential.NewCredFromSecret(intunetest.ContosoSecret.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	certCred, err := confidential.NewCredFromCert([]*x509.Certificate{cert}, key)
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := confidential.NewCredFromSecret("wrong")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetCertificates(intunetest.ContosoID, intunetest.ContosoClient, cert); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name string
		cred confidential.Credential
		ok   bool
	}{{"secret", secretCred, true}, {"certificate", certCred, true}, {"wrong secret", wrong, false}} {
		t.Run(row.name, func(t *testing.T) {
			client, err := confidential.New(c.AuthorityURL()+"contoso.example", intunetest.ContosoClient, row.cred,
				confidential.WithHTTPClient(httpClient(c)), confidential.WithInstanceDiscovery(false))
			if err != nil {
				t.Fatal(err)
			}
			for _, scope := range []string{
				"https://api.manage.microsoft.com//.default", "https://api.manage.microsoft.com/.default", "https://graph.microsoft.com/.default",
			} {
				result, err := client.AcquireTokenByCredential(t.Context(), []string{scope})
				if (err == nil) != row.ok {
					t.Fatalf("%s: %v", scope, err)
				}
				if !row.ok {
					continue
				}
				parts := strings.Split(result.AccessToken, ".")
				payload, err := base64.RawURLEncoding.DecodeString(parts[1])
				if err != nil {
					t.Fatal(err)
				}
				if want := `"aud":"` + strings.TrimSuffix(scope, "/.default") + `"`; !bytes.Contains(payload, []byte(want)) {
					t.Errorf("%s: claims %s", scope, payload)
				}
			}
		})
	}
}

// Each code of the service has its cause, in the order of the checks.
func TestCodesHaveTheirCauses(t *testing.T) {
	now := start
	key := testkeys.RSA2048(0)
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	c := newCloud(t, intunetest.Options{Clock: func() time.Time { return now }, Strict: true})
	client := newClient(t, c)
	device := intunetest.Device{ID: "de71ce00-0000-4000-8000-0000000000ff", Platform: "ios", UserID: "u"}
	registered := intunetest.Profile{Name: "registered", Platform: "ios", Subject: "CN=x", RegisteredKey: true}
	for _, err := range []error{c.AddDevice(intunetest.ContosoID, device), c.AddProfile(intunetest.ContosoID, registered)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	type change func(*intunetest.Challenge)
	for i, row := range []struct {
		ask    intunetest.Ask
		change change
		want   intune.Code
	}{
		{want: intune.Success},
		{change: func(ch *intunetest.Challenge) { ch.Challenge = "" }, want: intune.ChallengePasswordMissing},
		{ask: intunetest.Ask{Flaw: intunetest.Garbled}, want: intune.ChallengeDecodingError},
		{change: func(ch *intunetest.Challenge) { ch.Challenge = "%%%" }, want: intune.ChallengeDecodingError},
		{ask: intunetest.Ask{Flaw: intunetest.OtherSigner}, want: intune.SigningCertThumbprintMismatch},
		{ask: intunetest.Ask{Flaw: intunetest.Forged}, want: intune.SignatureValidationFailed},
		{ask: intunetest.Ask{Flaw: intunetest.OtherKey}, want: intune.ChallengeDecryptionError},
		{ask: intunetest.Ask{Flaw: intunetest.NotJSON}, want: intune.ChallengeDeserializationError},
		{ask: intunetest.Ask{Flaw: intunetest.Backwards}, want: intune.ChallengeInvalidTimestamp},
		{change: func(*intunetest.Challenge) { now = now.Add(time.Hour) }, want: intune.ChallengeExpired},
		{change: func(*intunetest.Challenge) { now = now.Add(time.Hour - time.Second) }, want: intune.Success},
		{ask: intunetest.Ask{Flaw: intunetest.NoRequestID}, want: intune.BadCertificateRequestIDInChallenge},
		{ask: intunetest.Ask{Flaw: intunetest.NoDevice}, want: intune.BadDeviceIDInChallenge},
		{ask: intunetest.Ask{Flaw: intunetest.NoUser}, want: intune.BadUserIDInChallenge},
		{change: func(ch *intunetest.Challenge) {
			if err := c.Target(intunetest.ContosoID, ch.Profile, ch.Device, false); err != nil {
				t.Fatal(err)
			}
		}, want: intune.ScepProfileNoLongerTargetedToTheClient},
		{ask: intunetest.Ask{Platform: "macos"}, change: func(ch *intunetest.Challenge) { ch.Subject = "" }, want: intune.SubjectNameMissing},
		{ask: intunetest.Ask{Platform: "macos"}, change: func(ch *intunetest.Challenge) { ch.Subject += ",O=Other" }, want: intune.SubjectNameMismatch},
		{ask: intunetest.Ask{Platform: "macos"}, change: func(ch *intunetest.Challenge) { ch.SAN = intunetest.Names{} }, want: intune.SubjectAltNameMissing},
		{ask: intunetest.Ask{Platform: "macos", Profile: "macos-user"}, want: intune.Success},
		{ask: intunetest.Ask{Platform: "macos", Profile: "macos-user"}, change: func(ch *intunetest.Challenge) {
			ch.SAN.UPN = []string{"administrator@contoso.example"}
		}, want: intune.SubjectAltNameMismatch},
		{ask: intunetest.Ask{Platform: "macos"}, change: func(ch *intunetest.Challenge) { ch.KeyUsage = int(x509.KeyUsageDigitalSignature) }, want: intune.KeyUsageMismatch},
		{ask: intunetest.Ask{Platform: "macos"}, change: func(ch *intunetest.Challenge) { ch.KeySize = 1024 }, want: intune.KeyLengthMismatch},
		{ask: intunetest.Ask{Platform: "macos"}, change: func(ch *intunetest.Challenge) { ch.EKU = nil }, want: intune.EnhancedKeyUsageMissing},
		{ask: intunetest.Ask{Platform: "macos"}, change: func(ch *intunetest.Challenge) { ch.EKU = []string{"1.3.6.1.5.5.7.3.1"} }, want: intune.EnhancedKeyUsageMismatch},
		{ask: intunetest.Ask{Platform: "macos"}, change: func(ch *intunetest.Challenge) { ch.Hash = "SHA-1" }, want: intune.Success},
		{ask: intunetest.Ask{Profile: "registered", Device: device.ID}, want: intune.AadKeyIdentifierListMissing},
		{ask: intunetest.Ask{Profile: "registered", Device: device.ID}, change: func(*intunetest.Challenge) {
			device.Keys = []string{strings.Repeat("00", 32)}
			_ = c.AddDevice(intunetest.ContosoID, device)
		}, want: intune.RegisteredKeyMismatch},
		{ask: intunetest.Ask{Profile: "registered", Device: device.ID}, change: func(*intunetest.Challenge) {
			device.Keys = []string{hex.EncodeToString(sum[:])}
			_ = c.AddDevice(intunetest.ContosoID, device)
		}, want: intune.Success},
	} {
		if row.ask == (intunetest.Ask{}) || row.ask.Flaw != "" {
			row.ask.Platform = "windows"
		}
		ch, err := c.Challenge(row.ask)
		if err != nil {
			t.Fatal(err)
		}
		if row.change != nil {
			row.change(&ch)
		}
		signer := key
		if ch.KeySize == 1024 {
			signer = testkeys.RSA1024()
		}
		csr, err := ch.CSR(signer)
		if err != nil {
			t.Fatal(err)
		}
		id := "row " + string(rune('A'+i))
		err = client.Validate(t.Context(), intune.ValidateRequest{TransactionID: id, CSR: csr})
		all := c.Transactions()
		if got := all[len(all)-1]; got.TransactionID != id || got.Verdict != string(row.want) {
			t.Errorf("row %d: verdict %s, want %s (%v)", i, got.Verdict, row.want, err)
		}
		if (err == nil) != (row.want == intune.Success) {
			t.Errorf("row %d: the client says %v", i, err)
		}
	}
	if err := client.Validate(t.Context(), intune.ValidateRequest{TransactionID: "no request", CSR: []byte("x")}); err == nil ||
		!strings.Contains(err.Error(), string(intune.CertificateRequestDecodingFailed)) {
		t.Errorf("no request: %v", err)
	}
}

func TestChallengesAreLong(t *testing.T) {
	c := newCloud(t, intunetest.Options{})
	ch, err := c.Challenge(intunetest.Ask{})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(ch.Challenge); n < 2048 || n > 8192 {
		t.Errorf("a challenge of %d characters", n)
	}
	raw, err := base64.StdEncoding.DecodeString(ch.Challenge)
	if err != nil || !bytes.HasPrefix(raw, []byte("CERTLAB-CHALLENGE")) {
		t.Error("it does not say whose it is")
	}
}

// A strict cloud takes a report only of what it validated.
func TestStrict(t *testing.T) {
	for _, strict := range []bool{false, true} {
		c := newCloud(t, intunetest.Options{Strict: strict})
		client := newClient(t, c)
		err := client.NotifyFailure(t.Context(), intune.FailureNotification{TransactionID: "never seen", CSR: []byte{1}, Description: "no"})
		if (err != nil) != strict {
			t.Errorf("strict %v: %v", strict, err)
		}
	}
}

// The control API does from another process what a test does by calls, and
// the state file can be read after a kill.
func TestControl(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state.jsonl")
	c := newCloud(t, intunetest.Options{StateFile: state})
	var info intunetest.Info
	control(t, c, "GET", "info", nil, &info)
	if info.Authority != c.AuthorityURL() || info.Tenant != intunetest.ContosoID || !strings.Contains(info.RootPEM, "CERTIFICATE") {
		t.Errorf("info %+v", info)
	}
	var ch intunetest.Challenge
	control(t, c, "POST", "challenges", map[string]string{"platform": "ios", "profile": "ios-user"}, &ch)
	if ch.Profile != "ios-user" || ch.Subject != "CN=user2,E=user2@contoso.example" || len(ch.SAN.UPN) != 1 {
		t.Fatalf("challenge for %s: %s", ch.Profile, ch.Subject)
	}
	csr, err := ch.CSR(testkeys.RSA2048(0))
	if err != nil {
		t.Fatal(err)
	}
	client := newClient(t, c)
	validate := func() error {
		return client.Validate(t.Context(), intune.ValidateRequest{TransactionID: "t", CSR: csr})
	}
	control(t, c, "POST", "faults", map[string]any{"endpoint": "validate", "times": 1, "fault": map[string]any{"code": "ChallengeExpired"}}, nil)
	if validate() == nil {
		t.Error("the fault did not happen")
	}
	if err := validate(); err != nil {
		t.Fatal(err)
	}
	control(t, c, "PUT", "outage", map[string]bool{"on": true}, nil)
	if validate() == nil {
		t.Error("the outage did not happen")
	}
	control(t, c, "PUT", "outage", map[string]bool{"on": false}, nil)
	if err := client.NotifyFailure(t.Context(), intune.FailureNotification{TransactionID: "t", CSR: csr, HResult: -1, Description: "no"}); err != nil {
		t.Fatal(err)
	}
	key := testkeys.RSA2048(2)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "connector"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	control(t, c, "PUT", "certificates", map[string]string{"pem": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}, nil)
	cfg := c.ClientConfig()
	cfg.Credential = intune.Credential{Certificates: intune.Fixed(intune.Certificate{Certificate: cert, Signer: key})}
	if client, err = intune.New(cfg); err != nil {
		t.Fatal(err)
	}
	if err := validate(); err != nil {
		t.Errorf("with a registered certificate: %v", err)
	}
	control(t, c, "POST", "targeting", map[string]any{"profile": "ios-user", "targeted": false}, nil)
	if err := validate(); err == nil || !strings.Contains(err.Error(), "NoLongerTargeted") {
		t.Errorf("not targeted: %v", err)
	}
	var notifications []intunetest.Notification
	control(t, c, "GET", "notifications", nil, &notifications)
	if len(notifications) != 1 || notifications[0].HResult != -1 {
		t.Errorf("notifications %+v", notifications)
	}
	var calls []intunetest.Call
	control(t, c, "GET", "calls", nil, &calls)
	for _, call := range calls {
		if a := call.Header.Get("Authorization"); a != "" && a != "[redacted]" {
			t.Error("the journal has a token")
		}
	}
	f, err := os.Open(state)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := 0
	for s := bufio.NewScanner(f); s.Scan(); lines++ {
		var n intunetest.Notification
		if err := json.Unmarshal(s.Bytes(), &n); err != nil || n.TransactionID != "t" {
			t.Errorf("line %q: %v", s.Text(), err)
		}
	}
	if lines != 1 {
		t.Errorf("%d lines in the state file", lines)
	}
}

func control(t *testing.T, c *intunetest.Cloud, method, path string, body, answer any) {
	t.Helper()
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		r = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, c.ControlURL()+path, r)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s", method, path, resp.Status)
	}
	if answer != nil {
		if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
			t.Fatal(err)
		}
	}
}

// What a careless client sends is refused, each with a status of its own.
func TestCarelessClients(t *testing.T) {
	c := newCloud(t, intunetest.Options{})
	client := httpClient(c)
	token := func(scope string) string {
		resp, err := client.PostForm(c.AuthorityURL()+"contoso.example/oauth2/v2.0/token", map[string][]string{
			"grant_type": {"client_credentials"}, "client_id": {intunetest.ContosoClient},
			"client_secret": {intunetest.ContosoSecret.Reveal()}, "scope": {scope},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var answer struct {
			Token string `json:"access_token"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
			t.Fatal(err)
		}
		return answer.Token
	}
	good, graph := token("https://api.manage.microsoft.com//.default"), token("https://graph.microsoft.com/.default")
	const body = `{"request":{"transactionId":"t","certificateRequest":"AAAA","callerInfo":"c"}}`
	for _, row := range []struct {
		name, token, kind, version, path, body string
		want                                   int
	}{
		{"all is well", good, "application/json", "2018-02-20", "/ScepActions/validateRequest", body, 200},
		{"names in another case", good, "application/json", "2018-02-20", "/ScepActions/validateRequest", strings.Replace(body, "transactionId", "TransactionId", 1), 200},
		{"no token", "", "application/json", "2018-02-20", "/ScepActions/validateRequest", body, 401},
		{"Graph's token", graph, "application/json", "2018-02-20", "/ScepActions/validateRequest", body, 401},
		{"a changed token", good[:len(good)-6] + "AAAAAA", "application/json", "2018-02-20", "/ScepActions/validateRequest", body, 401},
		{"a form", good, "application/x-www-form-urlencoded", "2018-02-20", "/ScepActions/validateRequest", body, 415},
		{"another version", good, "application/json", "2018-02-21", "/ScepActions/validateRequest", body, 400},
		{"two slashes", good, "application/json", "2018-02-20", "//ScepActions/validateRequest", body, 404},
		{"no JSON", good, "application/json", "2018-02-20", "/ScepActions/validateRequest", "x", 400},
		{"no transaction", good, "application/json", "2018-02-20", "/ScepActions/validateRequest", `{"request":{"certificateRequest":"AAAA","callerInfo":"c"}}`, 400},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.ServiceURL()+row.path, strings.NewReader(row.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+row.token)
		req.Header.Set("Content-Type", row.kind)
		req.Header.Set("api-version", row.version)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != row.want {
			t.Errorf("%s: HTTP %d, want %d", row.name, resp.StatusCode, row.want)
		}
	}
	for _, path := range []string{"servicePrincipals/appId=", "servicePrincipals(appId='"} {
		end := "/endpoints"
		if strings.Contains(path, "(") {
			end = "')/endpoints"
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.GraphURL()+"v1.0/"+path+"0000000a-0000-0000-c000-000000000000"+end, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+graph)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("%s: HTTP %d", path, resp.StatusCode)
		}
	}
}
