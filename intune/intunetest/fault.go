package intunetest

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Endpoint is a place where a fault can be put.
type Endpoint string

// The endpoints of a cloud.
const (
	Metadata  Endpoint = "metadata"
	Token     Endpoint = "token"
	Discovery Endpoint = "discovery"
	Validate  Endpoint = "validate"
	Success   Endpoint = "success"
	Failure   Endpoint = "failure"

	Download     Endpoint = "download" // of revocation requests
	Upload       Endpoint = "upload"   // of their results
	Applications Endpoint = "applications"
	AddKey       Endpoint = "addKey"
	RemoveKey    Endpoint = "removeKey"
	Users        Endpoint = "users"
	PFXes        Endpoint = "pfx" // userPfxCertificates, whatever is done with them
)

// Always is the number of times for a fault that stays.
const Always = -1

// Fault is what an endpoint does in place of its work. The first of the
// fields below that is set, after Skip and Delay, is what happens.
type Fault struct {
	Skip  int           `json:"skip,omitempty"`  // calls that pass unharmed first
	Delay time.Duration `json:"delay,omitempty"` // nanoseconds; alone: slow, but right

	Reset     bool   `json:"reset,omitempty"`     // the connection is reset without an answer
	Lose      bool   `json:"lose,omitempty"`      // the work is done, its answer is lost
	Truncated bool   `json:"truncated,omitempty"` // the connection ends in the middle of the answer
	Redirect  string `json:"redirect,omitempty"`  // 302 to this address

	AADSTS       int    `json:"aadsts,omitempty"` // an error of Entra ID, with Status or 401
	Status       int    `json:"status,omitempty"` // HTTP status, with a JSON error or Body
	RetryAfter   string `json:"retry_after,omitempty"`
	RetryAfterMS string `json:"retry_after_ms,omitempty"` // x-ms-retry-after-ms
	Body         string `json:"body,omitempty"`           // 200, or Status, with this body

	Empty              bool   `json:"empty,omitempty"`
	BadJSON            bool   `json:"bad_json,omitempty"`
	Huge               bool   `json:"huge,omitempty"` // 8 MiB
	NumericCode        bool   `json:"numeric_code,omitempty"`
	MissingCode        bool   `json:"missing_code,omitempty"`
	MissingDescription bool   `json:"missing_description,omitempty"` // Success without errorDescription
	LowerCase          bool   `json:"lower_case,omitempty"`          // success
	Code               string `json:"code,omitempty"`                // this code with status 200
	Description        string `json:"description,omitempty"`

	// Value answers an upload of results with this JSON value. They are
	// recorded if it is true or "true" in any case.
	Value string `json:"value,omitempty"`
}

// armed is a Fault that waits for its calls.
type armed struct {
	fault Fault
	skip  int
	times int
}

// Fail puts a fault on an endpoint for a number of calls, or Always. Faults of
// one endpoint happen in the order in which they were put.
func (c *Cloud) Fail(e Endpoint, times int, f Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults[e] = append(c.faults[e], &armed{fault: f, skip: f.Skip, times: times})
}

// Heal takes all faults away.
func (c *Cloud) Heal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.faults)
}

// SetOutage turns the whole cloud off: every connection is reset.
func (c *Cloud) SetOutage(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outage = on
}

// fault takes the fault that is due for a call, if there is one.
func (c *Cloud) fault(e Endpoint) *Fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.outage {
		return &Fault{Reset: true}
	}
	queue := c.faults[e]
	if len(queue) == 0 {
		return nil
	}
	a := queue[0]
	if a.skip > 0 {
		a.skip--
		return nil
	}
	if a.times > 0 {
		a.times--
	}
	if a.times == 0 {
		c.faults[e] = queue[1:]
	}
	return &a.fault
}

// inject does what a fault says in place of, or around, the work.
func (c *Cloud) inject(w http.ResponseWriter, r *http.Request, f *Fault, work http.HandlerFunc) {
	select {
	case <-time.After(f.Delay):
	case <-r.Context().Done():
		// A handler that returns answers 200, and whoever hangs up may still
		// read that while it closes the connection.
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("X-Sim-Injected", "1")
	if f.RetryAfter != "" {
		w.Header().Set("Retry-After", f.RetryAfter)
	}
	if f.RetryAfterMS != "" {
		w.Header().Set("x-ms-retry-after-ms", f.RetryAfterMS)
	}
	switch {
	case f.Reset:
		reset(w)
	case f.Lose:
		work(&discard{header: http.Header{}}, r)
		reset(w)
	case f.Truncated:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte(`{"code":"Succ`))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case f.Redirect != "":
		http.Redirect(w, r, f.Redirect, http.StatusFound)
	case f.AADSTS != 0:
		c.refuseToken(w, &refusal{orElse(f.Status, 401), f.AADSTS, "invalid_client", "Injected."})
	case f.Body != "":
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(orElse(f.Status, 200))
		_, _ = w.Write([]byte(f.Body))
	case f.Value != "":
		if strings.EqualFold(strings.Trim(f.Value, `"`), "true") {
			work(&discard{header: http.Header{}}, r)
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"value":` + f.Value + `}`))
	case f.Status != 0:
		writeJSON(w, f.Status, map[string]any{"error": map[string]any{
			"code": "InternalError", "message": fmt.Sprintf(`{"_version":3,"Message":"Injected - Activity ID: %s"}`, r.Header.Get("client-request-id")),
		}})
	case f.Empty:
		w.WriteHeader(http.StatusOK)
	case f.BadJSON:
		_, _ = w.Write([]byte("<html><body>All is well.</body></html>"))
	case f.Huge:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"code":"Success","errorDescription":"` + strings.Repeat("x", 8<<20) + `"}`))
	default:
		if !f.verdict(w) {
			work(w, r)
		}
	}
}

// verdict answers as a SCEP action, and reports whether it did.
func (f *Fault) verdict(w http.ResponseWriter) bool {
	answer := map[string]any{"code": "Success", "errorDescription": f.Description}
	switch {
	case f.NumericCode:
		answer["code"] = 1
	case f.MissingCode:
		delete(answer, "code")
	case f.MissingDescription:
		delete(answer, "errorDescription")
	case f.LowerCase:
		answer["code"] = "success"
	case f.Code != "":
		answer["code"] = f.Code
	default:
		return false
	}
	writeJSON(w, http.StatusOK, answer)
	return true
}

// reset ends the connection so that the client sees no answer.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	_ = conn.Close()
}

// discard takes an answer that gets lost.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}

func orElse(n, other int) int {
	if n == 0 {
		return other
	}
	return n
}
