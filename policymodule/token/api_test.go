package token_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/policymodule/token"
)

// apiDocument is docs/openapi/challenges.yaml.
var apiDocument = sync.OnceValues(func() (routers.Router, error) {
	doc, err := openapi3.NewLoader().LoadFromFile(filepath.Join("..", "..", "docs", "openapi", "challenges.yaml"))
	if err != nil {
		return nil, err
	}
	if err := doc.Validate(context.Background()); err != nil {
		return nil, err
	}
	doc.Servers = nil // every host will do
	return legacy.NewRouter(doc)
})

// failing is a challenger that cannot.
type failing struct{ err error }

func (f failing) GenerateChallenge(context.Context, policymodule.Principal, policymodule.ChallengeWish) (policymodule.MadeChallenge, error) {
	return policymodule.MadeChallenge{}, f.err
}

// onetime is a challenger without claims, as policymodule/onetime is.
type onetime struct{}

func (onetime) GenerateChallenge(_ context.Context, _ policymodule.Principal, wish policymodule.ChallengeWish) (policymodule.MadeChallenge, error) {
	if wish.Subject != "" {
		return policymodule.MadeChallenge{}, fmt.Errorf("%w: only a lifetime may be wished for", policymodule.ErrNoRight)
	}
	return policymodule.MadeChallenge{Challenge: secret.Text("0123456789ABCDEF"), ID: "1", Expires: noon.Add(wish.Lifetime)}, nil
}

// tooFast is ErrTooFast that knows when trying again can help.
type tooFast struct{}

func (tooFast) Error() string             { return "too fast" }
func (tooFast) Unwrap() error             { return policymodule.ErrTooFast }
func (tooFast) RetryAfter() time.Duration { return 1500 * time.Millisecond }

var errUnknownCaller = errors.New("no password")

// service is the API over a world's module and the challengers above. Who
// sends the header Caller is known by its value.
func service(t *testing.T, w *world, log *zap.Logger) http.Handler {
	t.Helper()
	return token.NewAPI(token.APIConfig{
		Challengers: map[string]policymodule.Challenger{
			"corp": w.module, "passwords": onetime{},
			"full": failing{fmt.Errorf("recording: %w", policymodule.ErrLedgerFull)},
			"fast": failing{tooFast{}}, "broken": failing{errors.New("the disk is on fire")},
		},
		Authenticate: func(r *http.Request) (policymodule.Principal, error) {
			if r.Header.Get("Caller") == "" {
				return policymodule.Principal{}, errUnknownCaller
			}
			return policymodule.Principal{Name: r.Header.Get("Caller"), Rights: ops().Rights}, nil
		},
		Refuse: func(w http.ResponseWriter, _ *http.Request, err error) {
			if !errors.Is(err, errUnknownCaller) {
				t.Errorf("Refuse is given %v", err)
			}
			w.Header().Set("WWW-Authenticate", "Basic")
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusUnauthorized)
			io.WriteString(w, `{"title":"Unauthorized","status":401}`)
		},
		Log: log,
	})
}

// post asks and holds the answer against the document.
func post(t *testing.T, h http.Handler, endpoint, body string, header map[string]string) *httptest.ResponseRecorder {
	t.Helper()
	build := func() *http.Request {
		r := httptest.NewRequest(http.MethodPost, "https://connector.corp.example/challenges/"+endpoint, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Caller", "ops")
		for name, value := range header {
			if r.Header.Set(name, value); value == "" {
				r.Header.Del(name)
			}
		}
		return r
	}
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, build())
	router, err := apiDocument()
	if err != nil {
		t.Fatal(err)
	}
	r := build()
	route, parameters, err := router.FindRoute(r)
	if err != nil {
		t.Fatalf("served and not described: %v", err)
	}
	options := &openapi3filter.Options{IncludeResponseStatus: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc}
	input := &openapi3filter.RequestValidationInput{Request: r, Route: route, PathParams: parameters, Options: options}
	if err := openapi3filter.ValidateRequest(t.Context(), input); err != nil && answer.Code == http.StatusCreated {
		t.Errorf("served what the document does not allow: %v", err)
	}
	output := &openapi3filter.ResponseValidationInput{RequestValidationInput: input, Status: answer.Code, Header: answer.Header(), Options: options}
	output.SetBodyBytes(answer.Body.Bytes())
	if err := openapi3filter.ValidateResponse(t.Context(), output); err != nil {
		t.Errorf("answered %d, which the document does not describe so: %v", answer.Code, err)
	}
	if answer.Header().Get("Cache-Control") != "no-store" {
		t.Error("the answer may be cached")
	}
	return answer
}

const goodBody = `{"subject":"CN=phone 7,O=Corp","san":["dns:phone7.corp.example","upn:anna@corp.example"],
	"key_usage":["digitalSignature","keyEncipherment"],"ext_key_usage":["1.3.6.1.5.5.7.3.2"],
	"key":{"type":"rsa","min_bits":2048},"hash":"sha256","template":"Devices","max_validity":86400,"lifetime":600}`

func TestAPIMakesChallenges(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	w := newWorld(t, func(w *world) { w.config.Log = zap.New(core) })
	h := service(t, w, zap.New(core))
	answer := post(t, h, "corp", goodBody, nil)
	var made struct {
		Challenge, ID string
		Expires       time.Time
	}
	if err := json.Unmarshal(answer.Body.Bytes(), &made); answer.Code != http.StatusCreated || err != nil {
		t.Fatalf("%d, %v", answer.Code, err)
	}
	if !made.Expires.Equal(noon.Add(10*time.Minute)) || made.ID == "" {
		t.Errorf("expires %s, ID %q", made.Expires, made.ID)
	}
	d := verify(t, w.module, request(t, goodCSR(), secret.Text(made.Challenge)))
	if !d.Granted || d.MaxValidity != 24*time.Hour {
		t.Errorf("decision %+v", d)
	}
	if logs.FilterMessage("challenge made").FilterField(zap.String("challenge_id", made.ID)).Len() != 1 || logs.Len() != 1 {
		t.Errorf("%d lines, want the audit line alone", logs.Len())
	}
	if answer := post(t, h, "passwords", `{"lifetime":60}`, nil); answer.Code != http.StatusCreated || !strings.Contains(answer.Body.String(), "0123456789ABCDEF") {
		t.Errorf("another challenger: %d", answer.Code)
	}
}

func TestAPIRefuses(t *testing.T) {
	for _, row := range []struct {
		name, endpoint, body string
		header               map[string]string
		status               int
		rule                 string
	}{
		{"an unknown caller", "corp", goodBody, map[string]string{"Caller": ""}, 401, ""},
		{"an unknown caller, of an unknown endpoint", "nowhere", goodBody, map[string]string{"Caller": ""}, 401, ""},
		{"an unknown endpoint", "nowhere", goodBody, nil, 404, "challenge_unknown_endpoint"},
		{"a caller without a right", "corp", goodBody, map[string]string{"Caller": "guest"}, 403, "challenge_no_right"},
		{"a wish that only claims could hold", "passwords", goodBody, nil, 403, "challenge_no_right"},
		{"a page of another site", "corp", goodBody, map[string]string{"Sec-Fetch-Site": "cross-site"}, 403, "challenge_cross_site"},
		{"a page of another site, older browser", "corp", goodBody, map[string]string{"Origin": "https://evil.example"}, 403, "challenge_cross_site"},
		{"a form", "corp", goodBody, map[string]string{"Content-Type": "text/plain"}, 415, "challenge_media_type"},
		{"no type", "corp", goodBody, map[string]string{"Content-Type": ""}, 415, "challenge_media_type"},
		{"a long wish", "corp", `{"subject":"` + strings.Repeat("x", 17<<10) + `"}`, nil, 413, "challenge_too_large"},
		{"no JSON", "corp", "subject=x", nil, 400, "challenge_malformed"},
		{"nothing", "corp", "", nil, 400, "challenge_malformed"},
		{"an array", "corp", "[]", nil, 400, "challenge_malformed"},
		{"an unknown member", "corp", `{"subjects":"CN=x"}`, nil, 400, "challenge_malformed"},
		{"a member twice", "corp", `{"subject":"CN=a","subject":"CN=b"}`, nil, 400, "challenge_malformed"},
		{"null", "corp", `{"subject":null}`, nil, 400, "challenge_malformed"},
		{"deep", "corp", `{"san":` + strings.Repeat("[", 9) + strings.Repeat("]", 9) + `}`, nil, 400, "challenge_malformed"},
		{"a negative lifetime", "corp", `{"lifetime":-1}`, nil, 400, "challenge_bad_wish"},
		{"a lifetime beyond time", "corp", `{"lifetime":9223372036854775807}`, nil, 400, "challenge_bad_wish"},
		{"a name for an EKU", "corp", `{"ext_key_usage":["clientAuth"]}`, nil, 400, "challenge_bad_wish"},
		{"a subject that is no name", "corp", `{"subject":"phone"}`, nil, 400, "challenge_bad_wish"},
		{"too long a lifetime", "corp", `{"subject":"CN=x","lifetime":3601}`, nil, 403, "challenge_no_right"},
		{"too fast", "fast", `{}`, nil, 429, "challenge_too_fast"},
		{"a full ledger", "full", `{}`, nil, 503, "challenge_ledger_full"},
		{"a fault of ours", "broken", `{}`, nil, 500, "challenge_failed"},
	} {
		t.Run(row.name, func(t *testing.T) {
			core, logs := observer.New(zap.DebugLevel)
			answer := post(t, service(t, newWorld(t), zap.New(core)), row.endpoint, row.body, row.header)
			var p struct {
				Status       int
				Rule, Detail string
			}
			if err := json.Unmarshal(answer.Body.Bytes(), &p); err != nil {
				t.Fatal(err)
			}
			if answer.Code != row.status || p.Status != row.status || p.Rule != row.rule || answer.Header().Get("Content-Type") != "application/problem+json" {
				t.Errorf("%d %s", answer.Code, answer.Body)
			}
			if strings.Contains(answer.Body.String(), "fire") {
				t.Error("the caller is told what broke here")
			}
			want := 1
			if row.rule == "" {
				want = 0 // whoever authenticates has told
			}
			if got := logs.FilterMessage("challenge refused").Len(); got != want {
				t.Errorf("%d lines about the refusal, want %d", got, want)
			}
			if row.status == 429 && answer.Header().Get("Retry-After") != "2" {
				t.Errorf("Retry-After %q, want 2", answer.Header().Get("Retry-After"))
			}
		})
	}
}

// Who is not known is logged, and fills no disk.
func TestAPILogsFewStrangers(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	h := service(t, newWorld(t), zap.New(core))
	for range 30 {
		post(t, h, "corp", goodBody, map[string]string{"Caller": ""})
		post(t, h, "corp", goodBody, map[string]string{"Sec-Fetch-Site": "cross-site"})
	}
	for _, message := range []string{"challenge refused: caller not identified", "challenge refused"} {
		lines := logs.FilterMessage(message)
		if n := lines.FilterLevelExact(zap.WarnLevel).Len(); lines.Len() != 30 || n == 0 || n > 15 {
			t.Errorf("%q: %d of %d lines are warnings", message, n, lines.Len())
		}
	}
	if fields := logs.FilterMessage("challenge refused: caller not identified").All()[0].ContextMap(); fields["remote"] == "" || fields["error"] == nil {
		t.Errorf("fields %v", fields)
	}
}

func TestAPIServesNothingElse(t *testing.T) {
	h := service(t, newWorld(t), nil)
	for _, target := range []string{"GET /challenges/corp", "PUT /challenges/corp", "POST /challenges", "POST /challenges/corp/x", "GET /"} {
		method, path, _ := strings.Cut(target, " ")
		answer := httptest.NewRecorder()
		r := httptest.NewRequest(method, path, bytes.NewReader([]byte(goodBody)))
		r.Header.Set("Caller", "ops")
		h.ServeHTTP(answer, r)
		if answer.Code != http.StatusNotFound && answer.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", target, answer.Code)
		}
	}
}

// TestAPIDocumentRefuses: what the service refuses, the document refuses too,
// as far as a schema can say it.
func TestAPIDocumentRefuses(t *testing.T) {
	router, err := apiDocument()
	if err != nil {
		t.Fatal(err)
	}
	h := service(t, newWorld(t), nil)
	for name, body := range map[string]string{
		"an unknown member":      `{"subjects":"CN=x"}`,
		"a text for a list":      `{"san":"dns:a.example"}`,
		"a name of no kind":      `{"san":["a.example"]}`,
		"an unknown key usage":   `{"key_usage":["keyCertSign"]}`,
		"a name for an EKU":      `{"ext_key_usage":["clientAuth"]}`,
		"an unknown type of key": `{"key":{"type":"dsa"}}`,
		"an unknown hash":        `{"hash":"sha1"}`,
		"a negative lifetime":    `{"lifetime":-1}`,
		"half a second":          `{"lifetime":0.5}`,
		"null":                   `{"subject":null}`,
	} {
		t.Run(name, func(t *testing.T) {
			if answer := post(t, h, "corp", body, nil); answer.Code != http.StatusBadRequest {
				t.Errorf("the service answers %d", answer.Code)
			}
			r := httptest.NewRequest(http.MethodPost, "https://connector.corp.example/challenges/corp", strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			route, parameters, err := router.FindRoute(r)
			if err != nil {
				t.Fatal(err)
			}
			options := &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc}
			err = openapi3filter.ValidateRequest(t.Context(), &openapi3filter.RequestValidationInput{Request: r, Route: route, PathParams: parameters, Options: options})
			if err == nil {
				t.Error("the document allows it")
			}
		})
	}
}
