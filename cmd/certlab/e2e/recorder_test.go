//go:build e2e

package e2e

import (
	"bytes"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// exchange is a request and its answer as they went over the wire.
type exchange struct {
	method, path, operation string
	message                 []byte // of PKIOperation
	contentType             string // of the answer
	answer                  []byte
	status                  int
}

// recorder stands between a client and the connector.
type recorder struct {
	*httptest.Server
	mu        sync.Mutex
	exchanges []exchange
}

// record starts a recorder; clients use url in place of the world's.
func (w *world) record() *recorder {
	r := &recorder{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		if err := r.pass(w.base, rw, req); err != nil {
			http.Error(rw, err.Error(), http.StatusBadGateway)
		}
	}))
	w.t.Cleanup(r.Close)
	w.t.Cleanup(func() {
		if w.t.Failed() {
			r.show(w.t)
		}
	})
	return r
}

func (r *recorder) pass(base string, rw http.ResponseWriter, req *http.Request) error {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return err
	}
	// The query goes on as it came: clients differ in how they escape base64.
	out, err := http.NewRequestWithContext(req.Context(), req.Method, base+req.RequestURI, bytes.NewReader(body))
	if err != nil {
		return err
	}
	out.Header = req.Header.Clone()
	resp, err := http.DefaultTransport.RoundTrip(out)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	e := exchange{
		method: req.Method, path: req.URL.Path, message: body, status: resp.StatusCode,
		contentType: resp.Header.Get("Content-Type"), answer: answer,
	}
	for part := range strings.SplitSeq(req.URL.RawQuery, "&") {
		name, value, _ := strings.Cut(part, "=")
		switch name {
		case "operation":
			e.operation = value
		case "message":
			if len(body) == 0 {
				e.message = decodeMessage(value)
			}
		}
	}
	r.mu.Lock()
	r.exchanges = append(r.exchanges, e)
	r.mu.Unlock()
	for name, values := range resp.Header {
		rw.Header()[name] = values
	}
	rw.WriteHeader(resp.StatusCode)
	_, err = rw.Write(answer)
	return err
}

// decodeMessage reads the base64 of a GET, in every form that clients use.
func decodeMessage(value string) []byte {
	text, err := url.PathUnescape(value) // leaves '+' alone
	if err != nil {
		return nil
	}
	text = strings.NewReplacer("\n", "", "\r", "", "-", "+", "_", "/").Replace(text)
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil
	}
	return b
}

// operations are the recorded exchanges of one kind.
func (r *recorder) operations(name string) []exchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []exchange
	for _, e := range r.exchanges {
		if e.operation == name {
			list = append(list, e)
		}
	}
	return list
}

// show writes the exchanges so that one person with a log can see why a client
// failed. The envelopes in them are encrypted.
func (r *recorder) show(t *testing.T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, e := range r.exchanges {
		t.Logf("exchange %d: %s %s %s, %d octets → %d %s\n%x\n→ %x", i, e.method, e.path, e.operation, len(e.message), e.status, e.contentType, e.message, e.answer)
	}
}
