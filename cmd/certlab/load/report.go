package load

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// Report is what one run says. Times are in milliseconds, sizes as named.
type Report struct {
	URL         string `json:"url"`
	Method      string `json:"method"`
	Cipher      string `json:"cipher"`
	Requests    int    `json:"requests"`
	Concurrency int    `json:"concurrency"`
	Warmup      int    `json:"warmup"`

	OK     int            `json:"ok"`
	Failed int            `json:"failed"`
	Errors map[string]int `json:"errors,omitempty"` // of the failed, by reason

	WallSeconds float64 `json:"wall_s"`
	PerSecond   float64 `json:"req_per_s"` // of those that are OK
	P50         float64 `json:"p50_ms"`
	P90         float64 `json:"p90_ms"`
	P95         float64 `json:"p95_ms"`
	P99         float64 `json:"p99_ms"`
	Max         float64 `json:"max_ms"`

	RequestBytes  int    `json:"request_bytes_avg"`
	ReplyBytes    int    `json:"reply_bytes_avg"`
	CertSignature string `json:"cert_signature,omitempty"`

	Load1           float64 `json:"load1_at_start"`
	ClientCPU       float64 `json:"client_cpu_ms_per_req"`
	ServerCPU       float64 `json:"server_cpu_ms_per_req,omitempty"`
	ServerUser      float64 `json:"server_user_ms_per_req,omitempty"`
	ServerSystem    float64 `json:"server_sys_ms_per_req,omitempty"`
	ServerRSS       int64   `json:"server_rss_kib,omitempty"`
	ServerPeak      int64   `json:"server_peak_rss_kib,omitempty"`
	ServerThreads   int     `json:"server_threads,omitempty"`
	ServerWritten   float64 `json:"server_write_bytes_per_req,omitempty"`
	ServerWriteCall float64 `json:"server_write_calls_per_req,omitempty"`

	// Serials are those of the certificates received, as upper-case hex.
	Serials []string `json:"-"`
}

// judge verifies every answer and counts.
func (r *Report) judge(ctx context.Context, client *scepclient.Client, service *scepclient.Service, shots []*shot) {
	var mu sync.Mutex
	seen := make(map[string]bool, len(shots))
	fail := func(err error) {
		r.Failed++
		r.Errors[reason(err)]++
	}
	_ = parallel(context.WithoutCancel(ctx), len(shots), func(i int) error {
		c, err := shots[i].verify(client, service)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			fail(err)
			return nil
		}
		serial := fmt.Sprintf("%X", c.SerialNumber)
		r.Serials = append(r.Serials, serial)
		if seen[serial] {
			fail(errors.New("serial number issued twice"))
			return nil
		}
		seen[serial] = true
		r.OK++
		r.CertSignature = c.SignatureAlgorithm.String()
		return nil
	})
	if r.WallSeconds > 0 {
		r.PerSecond = float64(r.OK) / r.WallSeconds
	}
}

// verify says whether the answer is the CertRep with SUCCESS for this request.
// The client checks message type, signer (known from GetCACert), transaction
// ID, nonce and that the device's key opens the envelope; here it is what is
// in there: the device's key and names, vouched for by a CA known from
// GetCACert.
func (s *shot) verify(client *scepclient.Client, service *scepclient.Service) (*x509.Certificate, error) {
	if s.err != nil {
		return nil, s.err
	}
	c := *client
	c.HTTP = &http.Client{Transport: s}
	reply, err := c.Send(context.Background(), s.message)
	switch {
	case err != nil:
		return nil, err
	case reply.Status == scep.Pending:
		return nil, errors.New("PENDING")
	case reply.Status != scep.Success:
		return nil, fmt.Errorf("FAILURE %v", reply.FailInfo)
	}
	cert := reply.Certificate
	if !s.key.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("the certificate is for another key")
	}
	csr, err := s.profile.CSR()
	if err != nil {
		return nil, err
	}
	if string(csr.RawSubject) != string(cert.RawSubject) {
		return nil, errors.New("the certificate is for another subject")
	}
	if !slices.Equal(s.profile.DNS, cert.DNSNames) {
		return nil, errors.New("the certificate has other DNS names")
	}
	for _, issuer := range service.Certificates {
		if string(issuer.RawSubject) == string(cert.RawIssuer) && cert.CheckSignatureFrom(issuer) == nil {
			return cert, nil
		}
	}
	return nil, errors.New("the certificate is not signed by a CA of GetCACert")
}

// reason reduces an error to what is common to all of its kind.
func reason(err error) string {
	text := err.Error()
	for _, kind := range []string{
		"connection refused", "connection reset", "broken pipe", "EOF", "Client.Timeout", "context deadline exceeded", "out of time",
	} {
		if strings.Contains(text, kind) {
			return kind
		}
	}
	return text[:min(len(text), 120)]
}
