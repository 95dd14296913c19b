package crphttp_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"github.com/certconnector/certconnector/crp/crphttp"
)

// document is docs/openapi/registration-point.yaml.
var document = sync.OnceValues(func() (routers.Router, error) {
	doc, err := openapi3.NewLoader().LoadFromFile(filepath.Join("..", "..", "docs", "openapi", "registration-point.yaml"))
	if err != nil {
		return nil, err
	}
	doc.Servers = nil // every host will do
	return legacy.NewRouter(doc)
})

// conform stands in front of the service in every test over the network: what
// is served must be what the document says, and what is answered too.
func conform(t testing.TB, h http.Handler) http.Handler {
	t.Helper()
	router, err := document()
	if err != nil {
		t.Fatal(err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("reading the body: %v", err)
		}
		r.Body = io.NopCloser(bytes.NewReader(content))
		answer := httptest.NewRecorder()
		h.ServeHTTP(answer, r)
		check(t, router, r, content, answer)
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.Code)
		if answer.Body.Len() > 0 {
			_, _ = w.Write(answer.Body.Bytes())
		}
	})
}

func check(t testing.TB, router routers.Router, r *http.Request, content []byte, answer *httptest.ResponseRecorder) {
	t.Helper()
	described := r.Clone(r.Context())
	for _, path := range []string{crphttp.VerifyPath, crphttp.NotifyPath} {
		if strings.EqualFold(described.URL.Path, path) {
			described.URL.Path = path
		}
	}
	described.Body = io.NopCloser(bytes.NewReader(content))
	route, _, err := router.FindRoute(described)
	if err != nil {
		if answer.Code != http.StatusNotFound && answer.Code != http.StatusForbidden && answer.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s %s is served with %d, and described nowhere: %v", r.Method, r.URL.Path, answer.Code, err)
		}
		return
	}
	options := &openapi3filter.Options{IncludeResponseStatus: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc}
	input := &openapi3filter.RequestValidationInput{Request: described, Route: route, Options: options}
	if err := openapi3filter.ValidateRequest(r.Context(), input); err != nil && answer.Code/100 == 2 {
		t.Errorf("%s served with %d what the document does not allow: %v", r.URL.Path, answer.Code, err)
	}
	response := &openapi3filter.ResponseValidationInput{RequestValidationInput: input, Status: answer.Code, Header: answer.Header(), Options: options}
	response.SetBodyBytes(answer.Body.Bytes())
	if err := openapi3filter.ValidateResponse(r.Context(), response); err != nil {
		t.Errorf("%s answered what the document does not say: %v", r.URL.Path, err)
	}
}

// The document refuses what the service refuses, as far as a schema can say it.
func TestDocumentRefuses(t *testing.T) {
	s := newStand(t)
	router, err := document()
	if err != nil {
		t.Fatal(err)
	}
	o := notifyMembers(issued(t, s.request, 1))
	for _, row := range []struct {
		name, path string
		body       []byte
	}{
		{"no endpoint", crphttp.VerifyPath, question(t, s.request, "endpoint", absent{})},
		{"an empty endpoint", crphttp.VerifyPath, question(t, s.request, "endpoint", "")},
		{"no transaction ID", crphttp.VerifyPath, question(t, s.request, "transactionId", absent{})},
		{"a long transaction ID", crphttp.VerifyPath, question(t, s.request, "transactionId", encode(make([]byte, 256)))},
		{"no CSR", crphttp.VerifyPath, question(t, s.request, "certificateRequest", absent{})},
		{"a tenant that is null", crphttp.VerifyPath, question(t, s.request, "tenant", nil)},
		{"a template that is a number", crphttp.VerifyPath, question(t, s.request, "template", 1)},
		{"an unknown outcome", crphttp.NotifyPath, body(t, o, "outcome", "pending")},
		{"an HRESULT of 33 bits", crphttp.NotifyPath, body(t, o, "hresult", int64(1)<<32)},
		{"a CA without a name", crphttp.NotifyPath, body(t, o, "issuingCa", "")},
	} {
		t.Run(row.name, func(t *testing.T) {
			if answer := s.as("scep", row.path, row.body); answer.Code != http.StatusBadRequest {
				t.Errorf("the service answers %d", answer.Code)
			}
			r := httptest.NewRequest(http.MethodPost, "https://crp.corp.example:8443"+row.path, bytes.NewReader(row.body))
			r.Header.Set("Content-Type", "application/json")
			route, _, err := router.FindRoute(r)
			if err != nil {
				t.Fatal(err)
			}
			err = openapi3filter.ValidateRequest(t.Context(), &openapi3filter.RequestValidationInput{
				Request: r, Route: route, Options: &openapi3filter.Options{AuthenticationFunc: openapi3filter.NoopAuthenticationFunc},
			})
			if err == nil {
				t.Error("the document allows it")
			}
		})
	}
}
