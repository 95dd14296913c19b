package jobqueuetest_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"

	"github.com/certconnector/certconnector/agent/jobs/jobqueue"
	"github.com/certconnector/certconnector/agent/jobs/jobqueuetest"
	"github.com/certconnector/certconnector/internal/testkeys"
)

// document is docs/openapi/jobs.yaml.
var document = sync.OnceValues(func() (routers.Router, error) {
	doc, err := openapi3.NewLoader().LoadFromFile(filepath.Join("..", "..", "..", "docs", "openapi", "jobs.yaml"))
	if err != nil {
		return nil, err
	}
	doc.Servers = nil // every host will do
	return legacy.NewRouter(doc)
})

// conform stands between client and queue: what either sends must be what the
// document says.
func conform(t *testing.T, h http.Handler) http.Handler {
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
		described := r.Clone(r.Context())
		described.Body = io.NopCloser(bytes.NewReader(content))
		route, _, err := router.FindRoute(described)
		if err != nil {
			t.Errorf("%s %s is described nowhere: %v", r.Method, r.URL.Path, err)
			return
		}
		options := &openapi3filter.Options{IncludeResponseStatus: true, AuthenticationFunc: openapi3filter.NoopAuthenticationFunc}
		input := &openapi3filter.RequestValidationInput{Request: described, Route: route, Options: options}
		if err := openapi3filter.ValidateRequest(r.Context(), input); err != nil {
			t.Errorf("the client sent what the document does not allow: %v", err)
		}
		response := &openapi3filter.ResponseValidationInput{RequestValidationInput: input, Status: answer.Code, Header: answer.Header(), Options: options}
		response.SetBodyBytes(answer.Body.Bytes())
		if err := openapi3filter.ValidateResponse(r.Context(), response); err != nil {
			t.Errorf("the queue answered what the document does not say: %v", err)
		}
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	})
}

// stand is a queue behind mutual TLS and a client of it. The clock is set by hand.
type stand struct {
	t       *testing.T
	options jobqueuetest.Options
	queue   *jobqueuetest.Queue
	server  *httptest.Server
	client  *jobqueue.Client

	mu    sync.Mutex
	now   time.Time
	shown *tls.Certificate
}

func certificate(t *testing.T, name string, key crypto.Signer, usage x509.ExtKeyUsage) *tls.Certificate {
	t.Helper()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(100 * time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{usage},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func newStand(t *testing.T, options jobqueuetest.Options, described bool) *stand {
	t.Helper()
	s := &stand{t: t, now: time.Now(), options: options}
	s.options.Clock = s.clock
	s.open(described)
	s.show(certificate(t, "connector", testkeys.RSA2048(0), x509.ExtKeyUsageClientAuth))
	s.queue.Allow(s.shown.Leaf)
	return s
}

func (s *stand) open(described bool) {
	s.t.Helper()
	var err error
	if s.queue, err = jobqueuetest.New(s.options); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = s.queue.Close() })
	var handler http.Handler = s.queue
	if described {
		handler = conform(s.t, handler)
	}
	server := certificate(s.t, "queue", testkeys.P256(0), x509.ExtKeyUsageServerAuth)
	s.server = httptest.NewUnstartedServer(handler)
	s.server.TLS = jobqueuetest.TLSConfig(*server)
	s.server.Config.ErrorLog = quiet
	s.server.StartTLS()
	s.t.Cleanup(s.server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Leaf)
	s.client = s.newClient(s.server.URL, func(c *jobqueue.Config) { c.RootCAs = roots })
}

func (s *stand) newClient(url string, change func(*jobqueue.Config)) *jobqueue.Client {
	s.t.Helper()
	config := jobqueue.Config{URL: url, Clock: s.clock, Certificate: func() (*tls.Certificate, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.shown, nil
	}}
	change(&config)
	c, err := jobqueue.New(config)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Reconnect)
	return c
}

func (s *stand) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *stand) later(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

func (s *stand) show(c *tls.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shown = c
}

// download wants these contexts, in this order.
func (s *stand) download(most int, want ...string) jobqueue.Batch {
	s.t.Helper()
	b, err := s.client.Download(s.t.Context(), most)
	if err != nil {
		s.t.Fatalf("Download: %v", err)
	}
	if len(b.Jobs) != len(want) {
		s.t.Fatalf("%d jobs, want %d: %+v", len(b.Jobs), len(want), b)
	}
	for i, j := range b.Jobs {
		if j.Context != want[i] {
			s.t.Errorf("job %d is %q, want %q", i, j.Context, want[i])
		}
	}
	return b
}
