package intunetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"time"
)

// Call is one call of the journal.
type Call struct {
	Time     time.Time   `json:"time"`
	Endpoint Endpoint    `json:"endpoint"`
	Method   string      `json:"method"`
	Path     string      `json:"path"`
	Header   http.Header `json:"header"`    // without the token
	BodyHash string      `json:"body_hash"` // SHA-256, hexadecimal
	Status   int         `json:"status"`    // 0: no answer was sent
	Verdict  string      `json:"verdict"`   // what the endpoint decided
	Injected bool        `json:"injected"`
}

// Notification is a report that the cloud has taken.
type Notification struct {
	Time          time.Time `json:"time"`
	Tenant        string    `json:"tenant"`
	TransactionID string    `json:"transaction_id"`
	CSRHash       string    `json:"csr_hash"` // SHA-256 of the DER, hexadecimal
	Success       bool      `json:"success"`

	Thumbprint           string `json:"thumbprint,omitempty"`
	SerialNumber         string `json:"serial_number,omitempty"`
	Expires              string `json:"expires,omitempty"`
	IssuingCA            string `json:"issuing_ca,omitempty"`
	CAConfiguration      string `json:"ca_configuration,omitempty"`
	CertificateAuthority string `json:"certificate_authority,omitempty"`

	HResult     int64  `json:"hresult,omitempty"`
	Description string `json:"description,omitempty"`

	CallerInfo string `json:"caller_info"`
}

// Transaction is what the cloud knows of one request.
type Transaction struct {
	Tenant        string `json:"tenant"`
	TransactionID string `json:"transaction_id"`
	CSRHash       string `json:"csr_hash"`
	Verdict       string `json:"verdict"` // code of the last validation
	Validations   int    `json:"validations"`
	Successes     int    `json:"successes"` // success notifications taken
	Failures      int    `json:"failures"`
	Device        string `json:"device,omitempty"` // whom the challenge was for
}

// records is what the cloud remembers. Its owner holds c.mu.
type records struct {
	notifications []Notification
	transactions  []*Transaction
	byID          map[[2]string]*Transaction
	revocations   []*Revocation
	byContext     map[[2]string]*Revocation // by tenant and context
	contradictory []Contradiction
	cooling       map[string]time.Time // by tenant: until then downloads are empty
	pfx           []*PFX
	file          *os.File
}

func (s *records) open(path string) error {
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("opening the simulator's state file: %w", err)
	}
	s.file = f
	return nil
}

func (s *records) close() error {
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	return f.Close()
}

// save writes a line into the state file, if there is one, and syncs it.
func (s *records) save(line any) error {
	if s.file == nil {
		return nil
	}
	b, err := json.Marshal(line)
	if err != nil {
		return err
	}
	if _, err := s.file.Write(append(b, '\n')); err != nil {
		return err
	}
	return s.file.Sync()
}

// take records a notification, durably if there is a file.
func (s *records) take(n Notification) error {
	if err := s.save(n); err != nil {
		return err
	}
	s.notifications = append(s.notifications, n)
	return nil
}

// transaction finds or makes the record of a transaction.
func (s *records) transaction(tenantID, id string, create bool) *Transaction {
	key := [2]string{tenantID, id}
	if t := s.byID[key]; t != nil || !create {
		return t
	}
	if s.byID == nil {
		s.byID = map[[2]string]*Transaction{}
	}
	t := &Transaction{Tenant: tenantID, TransactionID: id}
	s.byID[key] = t
	s.transactions = append(s.transactions, t)
	return t
}

// Notifications returns the reports taken so far, oldest first.
func (c *Cloud) Notifications() []Notification {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.records.notifications)
}

// Transactions returns what is known of each request, oldest first.
func (c *Cloud) Transactions() []Transaction {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Transaction
	for _, t := range c.records.transactions {
		out = append(out, *t)
	}
	return out
}

// Calls returns the journal of all calls, oldest first.
func (c *Cloud) Calls() []Call {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]Call, len(c.calls))
	for i, call := range c.calls {
		out[i] = *call
	}
	return out
}

// Count returns how many calls an endpoint has had.
func (c *Cloud) Count(e Endpoint) int {
	n := 0
	for _, call := range c.Calls() {
		if call.Endpoint == e {
			n++
		}
	}
	return n
}

// keepCalls is how many calls the journal keeps; a load test makes more.
const keepCalls = 100_000

type noteKey struct{}

// note writes a verdict into the journal's entry for a call. The caller does
// not hold c.mu.
func (c *Cloud) note(r *http.Request, verdict string) {
	if call, ok := r.Context().Value(noteKey{}).(*Call); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		call.Verdict = verdict
	}
}

// at wraps an endpoint: the call goes into the journal, and a fault that is
// due takes the place of the work.
func (c *Cloud) at(e Endpoint, work http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
		if err != nil {
			http.Error(w, "body too long", http.StatusRequestEntityTooLarge)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		hash := sha256.Sum256(body)
		call := &Call{
			Time: c.clock(), Endpoint: e, Method: r.Method, Path: r.URL.Path,
			Header: r.Header.Clone(), BodyHash: hex.EncodeToString(hash[:]),
		}
		if call.Header.Get("Authorization") != "" {
			call.Header.Set("Authorization", "[redacted]")
		}
		r = r.WithContext(context.WithValue(r.Context(), noteKey{}, call))
		f := c.fault(e)
		call.Injected = f != nil
		c.mu.Lock()
		c.calls = append(c.calls, call)
		if len(c.calls) > 2*keepCalls {
			c.calls = slices.Clone(c.calls[keepCalls:])
		}
		c.mu.Unlock()
		seen := &watched{ResponseWriter: w}
		defer func() {
			c.mu.Lock()
			call.Status = seen.status
			c.mu.Unlock()
		}()
		if id := r.Header.Get("client-request-id"); id != "" {
			w.Header().Set("client-request-id", id)
		}
		w.Header().Set("request-id", guid())
		if f != nil {
			c.inject(seen, r, f, work)
			return
		}
		work(seen, r)
	}
}

// watched remembers the status of an answer.
type watched struct {
	http.ResponseWriter
	status int
}

func (w *watched) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *watched) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets a fault take over the connection.
func (w *watched) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// guid returns a random GUID.
func guid() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
