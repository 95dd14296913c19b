// Package certsrv is the bridge to a Microsoft CA through its web enrollment
// pages (/certsrv/). They issue, park, hand out certificates, the chain and
// revocation lists; they cannot revoke: for that the CA needs a second road,
// DCOM.
//
// The pages are made for browsers and every outcome has status 200. This
// package goes by links, element names and codes, never by words, which a
// server translates.
package certsrv

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/negotiate"
)

// Config describes one CA behind web enrollment.
type Config struct {
	Name string // of the CA, for errors and the log
	URL  string // https://host/certsrv/, or without the path

	// Issuer is the certificate of the CA that must have signed whatever it
	// issues; nil: the one that the web server shows.
	Issuer *x509.Certificate
	// Roots are what the web server's certificate must chain to; nil: the system's.
	Roots *x509.CertPool
	// Dial opens connections below TLS, as through a proxy; nil: TCP.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// At most one of Kerberos, NTLM, SSPI and Basic; a client certificate alone or
	// besides.
	Kerberos    *negotiate.Kerberos
	NTLM        *negotiate.NTLM
	SSPI        *negotiate.SSPI // Windows only
	Basic       *negotiate.Basic
	Certificate *negotiate.Certificate

	// SendValidity asks for the wished life time by request attributes. The CA
	// obeys only with EDITF_ATTRIBUTEENDDATE, and only to shorten.
	SendValidity bool
	// SubmitTimeout is how long a submission may take; default 60 s.
	SubmitTimeout time.Duration
	// Connections is how many there are at most; default 8.
	Connections int

	Log *zap.Logger      // nil: none
	Now func() time.Time // nil: time.Now
}

// CA is a ca.Authority, ca.Collector, ca.Finder and ca.Publisher. It is safe
// for concurrent use.
type CA struct {
	Config
	base      *url.URL // ends with /certsrv/
	transport *negotiate.Transport
	client    *http.Client

	// lastID is the highest request ID that the CA has told us: where a search
	// begins.
	lastID atomic.Uint32
	search chan struct{} // one search at a time

	answersMu sync.Mutex
	answers   map[uint32][32]byte // request IDs that we were answered with, and the digest of the CSR

	chainBusy chan struct{} // of one place: held by who looks at the rest, and may wait for the server
	chain     []*x509.Certificate
	chainAt   time.Time
	renewal   int // of the CA's certificate: which key signs
}

var (
	_ ca.Authority = (*CA)(nil)
	_ ca.Collector = (*CA)(nil)
	_ ca.Finder    = (*CA)(nil)
	_ ca.Publisher = (*CA)(nil)
)

// New makes the bridge. It connects to nobody yet.
func New(c Config) (*CA, error) {
	base, err := url.Parse(c.URL)
	switch {
	case err == nil && base.User != nil:
		return nil, fmt.Errorf("CA %s: the address of web enrollment holds a user: give it as one of basic, kerberos or ntlm", c.Name)
	case err != nil || base.Scheme != "https" || base.Host == "" || base.RawQuery != "": // it may hold a password
		return nil, fmt.Errorf("CA %s: url is not the address of web enrollment, https://host/certsrv/", c.Name)
	}
	if strings.Trim(base.Path, "/") == "" {
		base.Path = "/certsrv"
	}
	base.Path = strings.TrimSuffix(base.Path, "/") + "/"
	c.SubmitTimeout = cmp.Or(c.SubmitTimeout, time.Minute)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	transport, err := negotiate.NewTransport(negotiate.TransportConfig{
		Host: base.Host, Roots: c.Roots,
		Kerberos: c.Kerberos, NTLM: c.NTLM, SSPI: c.SSPI, Basic: c.Basic, Certificate: c.Certificate,
		Connections: c.Connections, Dial: c.Dial,
	})
	if err != nil {
		return nil, fmt.Errorf("CA %s: %w", c.Name, err)
	}
	if transport.Mechanism() == "none" {
		return nil, fmt.Errorf("CA %s: no way to sign in: name kerberos, ntlm, basic or a client certificate", c.Name)
	}
	return &CA{
		Config: c, base: base, transport: transport, search: make(chan struct{}, 1), chainBusy: make(chan struct{}, 1), answers: map[uint32][32]byte{},
		client: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // credentials and requests stay where they were configured to go
		}},
	}, nil
}

// Mechanism names how the bridge signs in.
func (c *CA) Mechanism() string { return c.transport.Mechanism() }

// Close closes the connections; calls under way end first.
func (c *CA) Close() error { return c.transport.Close() }

// Probe checks that the web server lets us in.
func (c *CA) Probe(ctx context.Context) error {
	_, err := c.get(ctx, "signing in", "")
	return err
}

// Issue implements ca.Authority. The names of the steps are those of the
// errors.
func (c *CA) Issue(ctx context.Context, req ca.Request) (*ca.Issued, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("CA %s: %w: %w", c.Name, ca.ErrUnavailable, err)
	}
	form, err := c.form(req)
	if err != nil {
		return nil, &ca.Denied{HResult: ca.HResultUnknownTemplate, Text: err.Error()}
	}
	ctx, cancel := context.WithTimeout(ctx, c.SubmitTimeout)
	defer cancel()

	// 0. Know the CA first: what it issues could not be checked otherwise.
	if _, err := c.Chain(ctx); err != nil {
		return nil, fmt.Errorf("%w: not submitted: %v", ca.ErrUnavailable, err)
	}
	// 1. Submit. Up to here and after a code that says so, nothing was made.
	reply, err := c.post(ctx, "submitting the request", form)
	if err != nil {
		return nil, err
	}
	// 2. What became of it?
	v := readVerdict(reply)
	if v.outcome != unclear {
		c.answered(v.requestID, req.CSR.Digest())
	}
	switch v.outcome {
	case refused:
		return nil, c.refusal(v)
	case parked:
		return nil, c.confirm(ctx, v)
	case unclear:
		return nil, c.unknown("submitting the request", "the answer is no page of web enrollment", reply)
	}
	// 3. Fetch it. Whatever goes wrong now, there is a certificate.
	issued, err := c.fetch(ctx, v.requestID, req.CSR.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, fmt.Errorf("CA %s issued request %d, but %w: %v", c.Name, v.requestID, ca.ErrOutcomeUnknown, err)
	}
	c.warnOfValidity(req, issued)
	return issued, nil
}

// saw remembers the highest request ID.
func (c *CA) saw(id uint32) {
	for {
		last := c.lastID.Load()
		if id <= last || c.lastID.CompareAndSwap(last, id) {
			return
		}
	}
}

// maxAnswers bounds what is remembered of answers.
const maxAnswers = 4096

// answered remembers which request an ID belongs to. A search tells by it
// requests with the same key apart.
func (c *CA) answered(id uint32, csr [32]byte) {
	if id == 0 {
		return // a refusal tells none that could be read
	}
	c.saw(id)
	c.answersMu.Lock()
	defer c.answersMu.Unlock()
	if len(c.answers) >= maxAnswers {
		for old := range c.answers {
			if old < id-min(id, maxAnswers/2) {
				delete(c.answers, old)
			}
		}
	}
	if len(c.answers) < 2*maxAnswers {
		c.answers[id] = csr
	}
}

// belongsTo returns the digest of an ID's request, where we know it.
func (c *CA) belongsTo(id uint32) ([32]byte, bool) {
	c.answersMu.Lock()
	defer c.answersMu.Unlock()
	digest, ok := c.answers[id]
	return digest, ok
}

// confirm makes sure of a pending request whose ID was found in a page that
// says nothing in plain codes: the CA must know such a request.
func (c *CA) confirm(ctx context.Context, v verdict) error {
	id := v.requestID
	if !v.certain {
		_, err := c.fetch(ctx, id, nil)
		if _, pending := errors.AsType[*ca.Pending](err); !pending {
			return fmt.Errorf("CA %s, reading the answer to a submission: %w: it looks like pending request %d, which the CA does not confirm", c.Name, ca.ErrOutcomeUnknown, id)
		}
	}
	return &ca.Pending{RequestID: fmt.Sprint(id)}
}

// refusal is the error of a code: later, or final.
func (c *CA) refusal(v verdict) error {
	switch uint32(v.code) {
	case 0x800706BA, 0x800706BB, 0x800706D9, 0x80094006, 0x8009400F:
		// The web server did not reach the CA, or the CA took no request.
		return fmt.Errorf("CA %s: %w: %s", c.Name, ca.ErrUnavailable, ca.Advice(v.code))
	}
	if ca.IsTransient(v.code) {
		return fmt.Errorf("CA %s: %w: %s", c.Name, ca.ErrOutcomeUnknown, ca.Advice(v.code))
	}
	return &ca.Denied{HResult: v.code, Text: ca.Advice(v.code)}
}

// warnOfValidity tells when a CA took no notice of the wished life time. A
// CA without EDITF_ATTRIBUTEENDDATE says nothing itself.
func (c *CA) warnOfValidity(req ca.Request, issued *ca.Issued) {
	wish := wished(req)
	if !c.SendValidity || wish <= 0 {
		return
	}
	if end := c.Now().Add(wish); issued.Certificate.NotAfter.After(end.Add(time.Hour)) {
		c.Log.Warn("certificate lives longer than asked for: is EDITF_ATTRIBUTEENDDATE set at the CA?",
			zap.String("ca", c.Name), zap.String("request_id", issued.RequestID),
			zap.Time("not_after", issued.Certificate.NotAfter), zap.Time("asked", end))
	}
}
