package crphttp_test

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/certconnector/certconnector/crp/crphttp"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/policymodule"
)

func ruleField(rule string) zapcore.Field { return zap.String("rule", rule) }

func encode(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// members of a good VerifyRequest.
func verifyMembers(r policymodule.Request) map[string]any {
	return map[string]any{
		"endpoint": r.Endpoint, "transactionId": encode([]byte(r.TransactionID)), "certificateRequest": encode(r.CSR.Raw), "template": r.Template,
	}
}

// members of a good Notify.
func notifyMembers(o policymodule.Outcome) map[string]any {
	m := map[string]any{
		"endpoint": o.Endpoint, "transactionId": encode([]byte(o.TransactionID)), "certificateRequest": encode(o.CSR),
	}
	if o.Certificate != nil {
		m["outcome"], m["certificate"], m["issuingCa"] = "issued", encode(o.Certificate.Raw), o.IssuingCA
	} else {
		m["outcome"], m["hresult"], m["description"] = "failed", o.HResult, o.Description
	}
	return m
}

// change is a pair of a member's name and its value; absent removes it.
type absent struct{}

func body(t testing.TB, members map[string]any, change ...any) []byte {
	t.Helper()
	members = maps.Clone(members)
	for i := 0; i+1 < len(change); i += 2 {
		members[change[i].(string)] = change[i+1]
		if change[i+1] == (absent{}) {
			delete(members, change[i].(string))
		}
	}
	b, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func question(t testing.TB, r policymodule.Request, change ...any) []byte {
	t.Helper()
	return body(t, verifyMembers(r), change...)
}

// What is malformed is 400 with a rule, and what is too much is cut off.
func TestMalformedBodies(t *testing.T) {
	w := newWorld(t, func(c *crphttp.Config) { c.Limits.FailuresPerMinute = -1 })
	r := w.request(t)
	mustGrant(t, w.client(t, "scep"), r)
	o := issued(t, r, 1)
	verify := func(change ...any) []byte { return question(t, r, change...) }
	notify := func(change ...any) []byte { return body(t, notifyMembers(o), change...) }
	inside := func(good []byte, more string) []byte { return []byte(strings.TrimSuffix(string(good), "}") + more) }
	for _, row := range []struct {
		name, path string
		body       []byte
		status     int
	}{
		{"empty", crphttp.VerifyPath, nil, 400},
		{"not JSON", crphttp.VerifyPath, []byte("<verify/>"), 400},
		{"an array", crphttp.VerifyPath, []byte("[]"), 400},
		{"null", crphttp.VerifyPath, []byte("null"), 400},
		{"an empty object", crphttp.VerifyPath, []byte("{}"), 400},
		{"two objects", crphttp.VerifyPath, append(verify(), "{}"...), 400},
		{"a byte-order mark", crphttp.VerifyPath, append([]byte("\xef\xbb\xbf"), verify()...), 400},
		{"not UTF-8", crphttp.VerifyPath, inside(verify(), ",\"x\":\"\xff\"}"), 400},
		{"a member twice", crphttp.VerifyPath, inside(verify(), `,"endpoint":"other"}`), 400},
		{"a member twice, escaped", crphttp.VerifyPath, inside(verify(), `,"endpoin\u0074":"other"}`), 400},
		{"an unknown member twice inside", crphttp.VerifyPath, inside(verify(), `,"x":{"y":1,"y":2}}`), 400},
		{"nine deep", crphttp.VerifyPath, inside(verify(), `,"x":`+strings.Repeat("[", 8)+strings.Repeat("]", 8)+"}"), 400},
		{"eight deep", crphttp.VerifyPath, inside(verify(), `,"x":`+strings.Repeat("[", 7)+strings.Repeat("]", 7)+"}"), 201},
		{"100,000 deep", crphttp.VerifyPath, []byte(strings.Repeat("[", 100_000)), 400},
		{"an unknown member", crphttp.VerifyPath, verify("future", []any{1, nil, map[string]any{"a": true}}), 201},
		{"brackets in text", crphttp.VerifyPath, verify("x", strings.Repeat(`[{\"`, 20)), 201},
		{"no endpoint", crphttp.VerifyPath, verify("endpoint", absent{}), 400},
		{"an endpoint that is a number", crphttp.VerifyPath, verify("endpoint", 7), 400},
		{"a tenant that is null", crphttp.VerifyPath, verify("tenant", nil), 400},
		{"a line break in a name", crphttp.VerifyPath, verify("template", "a\nb"), 400},
		{"no transaction ID", crphttp.VerifyPath, verify("transactionId", ""), 400},
		{"256 octets of transaction ID", crphttp.VerifyPath, verify("transactionId", encode(make([]byte, 256))), 400},
		{"base64 without padding", crphttp.VerifyPath, verify("transactionId", "YQ"), 400},
		{"base64 of URLs", crphttp.VerifyPath, verify("transactionId", "_-8="), 400},
		{"base64 with loose bits", crphttp.VerifyPath, verify("transactionId", "YR=="), 400},
		{"base64 in lines", crphttp.VerifyPath, verify("transactionId", "YWJj\nYWJj"), 400},
		{"no CSR", crphttp.VerifyPath, verify("certificateRequest", absent{}), 400},
		{"PEM", crphttp.VerifyPath, verify("certificateRequest", "-----BEGIN CERTIFICATE REQUEST-----"), 400},
		{"a renewal that is no certificate", crphttp.VerifyPath, verify("renewalCertificate", "AAAA"), 400},
		{"a renewal", crphttp.VerifyPath, verify("renewalCertificate", encode(o.Certificate.Raw)), 201},
		{"256 KiB and one octet", crphttp.VerifyPath, verify("x", strings.Repeat("x", 256<<10)), 413},
		{"no outcome", crphttp.NotifyPath, notify("outcome", absent{}), 400},
		{"an unknown outcome", crphttp.NotifyPath, notify("outcome", "pending"), 400},
		{"issued without a certificate", crphttp.NotifyPath, notify("certificate", absent{}), 400},
		{"issued without a CA", crphttp.NotifyPath, notify("issuingCa", absent{}), 400},
		{"no certificate of X.509", crphttp.NotifyPath, notify("certificate", "AAAA"), 400},
		{"failed with a certificate", crphttp.NotifyPath, notify("outcome", "failed"), 400},
		{"an HRESULT of 33 bits", crphttp.NotifyPath, notify("outcome", "failed", "certificate", absent{}, "hresult", int64(1)<<32), 400},
		{"an HRESULT that is text", crphttp.NotifyPath, notify("outcome", "failed", "certificate", absent{}, "hresult", "1"), 400},
		{"an HRESULT with a fraction", crphttp.NotifyPath, notify("outcome", "failed", "certificate", absent{}, "hresult", 1.5), 400},
		{"never granted", crphttp.NotifyPath, notify("certificateRequest", "AAAA"), 403},
		{"good", crphttp.NotifyPath, notify(), 204},
	} {
		t.Run(row.name, func(t *testing.T) {
			answer, members := w.post(t, frontEnd(t, "scep"), row.path, row.body)
			if answer.StatusCode != row.status {
				t.Errorf("status %d, want %d: %v", answer.StatusCode, row.status, members)
			}
			if row.status == 400 && members["rule"] != "body_malformed" {
				t.Errorf("rule %v", members["rule"])
			}
		})
	}
}

func TestContentTypes(t *testing.T) {
	w := newWorld(t)
	for _, row := range []struct {
		name, contentType, encoding string
		status                      int
	}{
		{"with a charset", `application/json; charset="UTF-8"`, "", 400},
		{"none", "", "", 415},
		{"a form", "application/x-www-form-urlencoded", "", 415},
		{"another charset", "application/json; charset=utf-16", "", 415},
		{"compressed", "application/json", "gzip", 415},
	} {
		t.Run(row.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+w.address+crphttp.VerifyPath, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			for name, value := range map[string]string{"Content-Type": row.contentType, "Content-Encoding": row.encoding} {
				if value != "" {
					r.Header.Set(name, value)
				}
			}
			if answer, members := w.do(t, frontEnd(t, "scep"), r); answer.StatusCode != row.status {
				t.Errorf("status %d, want %d: %v", answer.StatusCode, row.status, members)
			}
		})
	}
}

// A request that no key signed, or over SHA-1, is a refusal: the device is to
// blame, and hears so.
func TestRequestsThatAreRefusedHere(t *testing.T) {
	rule := policymodule.Refuse("sid_extension", policymodule.BadRequest, "no")
	w := newWorld(t, func(c *crphttp.Config) {
		c.FrontEnds[1].Check = func(*pkcs10.Request) *policymodule.Decision { return &rule }
	})
	r := w.request(t)
	forged := append([]byte{}, r.CSR.Raw...)
	forged[len(forged)-1] ^= 1
	for _, row := range []struct {
		name, frontEnd string
		csr            []byte
		rule, failInfo string
	}{
		{"no PKCS #10", "scep", []byte("hello"), "certificate_request_malformed", "badRequest"},
		{"another signature", "scep", forged, "key_proof", "badMessageCheck"},
		{"a rule of the front end", "dmz", r.CSR.Raw, "sid_extension", "badRequest"},
	} {
		t.Run(row.name, func(t *testing.T) {
			answer, members := w.post(t, frontEnd(t, row.frontEnd), crphttp.VerifyPath, question(t, r, "certificateRequest", encode(row.csr)))
			if answer.StatusCode != 201 || members["verdict"] != "refused" || members["rule"] != row.rule || members["failInfoName"] != row.failInfo {
				t.Errorf("status %d, %v", answer.StatusCode, members)
			}
		})
	}
	if n := len(w.cloud.Calls()); n != 0 {
		t.Errorf("the cloud was called %d times", n)
	}
}

// A front end that goes wrong is slowed down; the others are not.
func TestFailuresOfAFrontEnd(t *testing.T) {
	w := newWorld(t, func(c *crphttp.Config) { c.Limits.FailuresPerMinute = 3 })
	for i := range 4 {
		answer, members := w.post(t, frontEnd(t, "scep"), crphttp.VerifyPath, []byte("{}"))
		if want := map[bool]int{true: 400, false: 503}[i < 3]; answer.StatusCode != want {
			t.Errorf("time %d: status %d, want %d: %v", i+1, answer.StatusCode, want, members)
		}
		if i == 3 && (members["rule"] != "too_many_failures" || answer.Header.Get("Retry-After") == "") {
			t.Errorf("%v", members)
		}
	}
	mustGrant(t, w.client(t, "dmz"), w.request(t))
	w.advance(minute)
	mustGrant(t, w.client(t, "scep"), w.request(t))
}

// pond is a handler for bytes that need no network.
func pond(t testing.TB) (*crphttp.Handler, policymodule.Request) {
	t.Helper()
	cloud, err := intunetest.New(intunetest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ch, err := cloud.Challenge(intunetest.Ask{Platform: "ios"})
	if err != nil {
		t.Fatal(err)
	}
	der, err := ch.CSR(testkeys.RSA2048(0))
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pkcs10.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	h, err := crphttp.New(crphttp.Config{
		FrontEnds: []crphttp.FrontEnd{{Name: "scep", Tenants: []string{"contoso"}}},
		Modules:   map[string]policymodule.Module{"contoso": &fakeModule{}},
		Verdicts:  &fakeVerdicts{}, Identify: func(*http.Request) (string, error) { return "scep", nil },
		Limits: crphttp.Limits{FailuresPerMinute: -1},
	})
	if err != nil {
		t.Fatal(err)
	}
	return h, policymodule.Request{Endpoint: "corp", TransactionID: "1", CSR: csr}
}

// send posts a body past any server.
func send(h http.Handler, path string, body []byte) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(string(body)))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// understood wants an answer that is no accident: JSON, or nothing at all.
func understood(t *testing.T, answer *httptest.ResponseRecorder, statuses ...int) {
	t.Helper()
	for _, status := range statuses {
		if answer.Code == status {
			if status != 204 && !json.Valid(answer.Body.Bytes()) {
				t.Errorf("status %d with %q", status, answer.Body)
			}
			return
		}
	}
	t.Errorf("status %d: %s", answer.Code, answer.Body)
}

func FuzzVerifyBody(f *testing.F) {
	h, r := pond(f)
	f.Add(question(f, r))
	f.Add([]byte(`{"endpoint":"corp","transactionId":"MQ==","certificateRequest":"MAA=","x":[{"y":null}]}`))
	f.Fuzz(func(t *testing.T, b []byte) { understood(t, send(h, crphttp.VerifyPath, b), 201, 400, 403, 413) })
}

func FuzzNotifyBody(f *testing.F) {
	h, r := pond(f)
	if answer := send(h, crphttp.VerifyPath, question(f, r)); answer.Code != 201 {
		f.Fatal(answer.Body)
	}
	f.Add(body(f, notifyMembers(failed(r))))
	f.Add(body(f, notifyMembers(issued(f, r, 1))))
	f.Fuzz(func(t *testing.T, b []byte) { understood(t, send(h, crphttp.NotifyPath, b), 204, 400, 403, 409, 413) })
}
