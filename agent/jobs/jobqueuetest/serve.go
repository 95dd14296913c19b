package jobqueuetest

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The paths, below whatever address the queue has.
const (
	DownloadPath = "/CertificateJobs/download"
	UploadPath   = "/CertificateJobs/uploadResults"
)

// Faults are what goes wrong from now on, until Fail is called again.
type Faults struct {
	Status     int           // answered to everything; 0: no fault
	RetryAfter time.Duration // sent with Status
	Times      int           // how many exchanges fail; 0: all

	// LoseAnswers does what is asked and breaks the connection in place of the
	// answer.
	LoseAnswers bool
	// TakeNothing answers uploads with false.
	TakeNothing bool
	// Body is answered to everything in place of the right one; "": no fault.
	Body string
}

// Fail sets what goes wrong.
func (q *Queue) Fail(f Faults) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.faults = f
}

// fault takes the fault for one exchange.
func (q *Queue) fault() Faults {
	f := q.faults
	if f.Times > 0 {
		if q.faults.Times--; q.faults.Times == 0 {
			q.faults = Faults{}
		}
	}
	return f
}

// ServeHTTP answers downloads and uploads of allowed clients.
func (q *Queue) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.served(r) {
		q.counts.Forbidden++
		problem(w, http.StatusForbidden, "client_certificate", 0)
		return
	}
	download, upload := strings.HasSuffix(r.URL.Path, DownloadPath), strings.HasSuffix(r.URL.Path, UploadPath)
	switch {
	case !download && !upload:
		problem(w, http.StatusNotFound, "unknown_path", 0)
		return
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		problem(w, http.StatusMethodNotAllowed, "method", 0)
		return
	}
	fault := q.fault()
	if fault.Status != 0 {
		problem(w, fault.Status, "fault_on_demand", fault.RetryAfter)
		return
	}
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<20))
	if err != nil {
		q.counts.Malformed++
		problem(w, http.StatusRequestEntityTooLarge, "body_too_large", 0)
		return
	}
	if fault.Body != "" {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, fault.Body)
		return
	}
	if fault.LoseAnswers {
		w = lost{w}
	}
	if download {
		q.download(w, content)
		return
	}
	q.upload(w, content, fault.TakeNothing)
}

// lost breaks the connection when something is about to be answered.
type lost struct{ http.ResponseWriter }

func (lost) WriteHeader(int)           { panic(http.ErrAbortHandler) }
func (lost) Write([]byte) (int, error) { panic(http.ErrAbortHandler) }

// served wants a certificate that is allowed, valid and for client authentication.
func (q *Queue) served(r *http.Request) bool {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return false
	}
	cert := r.TLS.PeerCertificates[0]
	now := q.options.Clock()
	return q.allowed[sha256.Sum256(cert.Raw)] && slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageClientAuth) &&
		!now.Before(cert.NotBefore) && !now.After(cert.NotAfter)
}

func (q *Queue) download(w http.ResponseWriter, content []byte) {
	var question struct {
		Parameters *struct {
			Max *int `json:"maxRequests"`
		} `json:"downloadParameters"`
	}
	if json.Unmarshal(content, &question) != nil || question.Parameters == nil || question.Parameters.Max == nil ||
		*question.Parameters.Max < 1 || *question.Parameters.Max > 500 {
		q.counts.Malformed++
		problem(w, http.StatusBadRequest, "body_malformed", 0)
		return
	}
	if left := q.lastDownload.Add(q.options.CoolDown).Sub(q.options.Clock()); left > 0 && !q.lastDownload.IsZero() {
		q.counts.Early++
		problem(w, http.StatusTooManyRequests, "cool_down", left)
		return
	}
	list, err := q.offer(*question.Parameters.Max)
	if err != nil {
		problem(w, http.StatusServiceUnavailable, "state", time.Second)
		return
	}
	q.counts.Downloads++
	q.counts.Offered += len(list)
	reply(w, map[string]any{"value": list})
}

func (q *Queue) upload(w http.ResponseWriter, content []byte, takeNothing bool) {
	results, ok := readUpload(content)
	if !ok {
		q.counts.Malformed++
		problem(w, http.StatusBadRequest, "body_malformed", 0)
		return
	}
	if takeNothing {
		reply(w, map[string]any{"value": false})
		return
	}
	rule, err := q.take(results)
	switch {
	case err != nil:
		problem(w, http.StatusServiceUnavailable, "state", time.Second)
	case rule != "":
		problem(w, http.StatusConflict, rule, 0)
	default:
		q.counts.Uploads++
		reply(w, map[string]any{"value": true})
	}
}

// readUpload wants each member, and no success that looks like a failure.
func readUpload(content []byte) ([]Result, bool) {
	var body struct {
		Results []struct {
			Context   *string `json:"requestContext"`
			Succeeded *bool   `json:"succeeded"`
			Code      *string `json:"errorCode"`
			Message   string  `json:"errorMessage"`
			Sealed    *string `json:"cmsEnvelopedPfx"`
			Imported  string  `json:"importedThumbprint"`
		} `json:"results"`
	}
	if json.Unmarshal(content, &body) != nil || len(body.Results) == 0 || len(body.Results) > 500 {
		return nil, false
	}
	var results []Result
	for _, r := range body.Results {
		if r.Context == nil || *r.Context == "" || r.Succeeded == nil || r.Code == nil ||
			*r.Succeeded != (*r.Code == "None") || !*r.Succeeded && r.Message == "" {
			return nil, false
		}
		if handed := r.Sealed != nil; handed && r.Imported != "" || *r.Succeeded != (handed || r.Imported != "") {
			return nil, false
		}
		result := Result{Context: *r.Context, Succeeded: *r.Succeeded, ErrorCode: *r.Code, ErrorMessage: r.Message, Imported: r.Imported}
		if r.Sealed != nil {
			der, err := base64.StdEncoding.DecodeString(*r.Sealed)
			if err != nil || len(der) == 0 {
				return nil, false
			}
			result.Sealed = der
		}
		results = append(results, result)
	}
	return results, true
}

func reply(w http.ResponseWriter, body any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(body)
}

func problem(w http.ResponseWriter, status int, rule string, wait time.Duration) {
	if wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"rule": rule, "status": status, "title": http.StatusText(status), "detail": "simulated job queue"})
}
