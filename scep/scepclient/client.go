package scepclient

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/certconnector/certconnector/scep"
)

// Client talks to one SCEP endpoint as one platform. It keeps nothing between
// calls and is safe for concurrent use.
type Client struct {
	URL        string       // of the endpoint, without query; the platform's suffix is added
	HTTP       *http.Client // nil: one with a timeout of a minute; redirects are never followed
	Quirks     Quirks
	DelayScale float64 // multiplies the platform's waiting times; 0 counts as 1
}

// StatusError is an answer other than HTTP 200.
type StatusError struct {
	Operation  string
	Code       int
	RetryAfter time.Duration // 0: not said
}

// Error names operation and status.
func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: HTTP status %d %s", e.Operation, e.Code, http.StatusText(e.Code))
}

// Capabilities asks GetCACaps (RFC 8894, section 3.5.1). Its Content-Type is
// not looked at.
func (c *Client) Capabilities(ctx context.Context) (Capabilities, error) {
	a, err := c.ask(ctx, "GetCACaps")
	if err != nil {
		return nil, err
	}
	if len(a.body) > 1024 { // certmonger refuses more
		return nil, fmt.Errorf("GetCACaps: %d octets, at most 1024 are read by all clients", len(a.body))
	}
	return strings.Fields(string(a.body)), nil
}

// CACerts asks GetCACert (RFC 8894, section 4.2) and returns the certificates
// in the order of the answer.
func (c *Client) CACerts(ctx context.Context) ([]*x509.Certificate, error) {
	a, err := c.ask(ctx, "GetCACert")
	if err != nil {
		return nil, err
	}
	switch a.contentType {
	case "application/x-x509-ca-cert":
		one, err := x509.ParseCertificate(a.body)
		if err != nil {
			return nil, fmt.Errorf("GetCACert: %w", err)
		}
		return []*x509.Certificate{one}, nil
	case "application/x-x509-ca-ra-cert":
		bag, err := parseCMS(a.body)
		if err != nil {
			return nil, fmt.Errorf("GetCACert: %w", err)
		}
		return bag.Certificates(), nil
	}
	return nil, fmt.Errorf("GetCACert: Content-Type %q, clients want application/x-x509-ca-cert or application/x-x509-ca-ra-cert", a.contentType)
}

// NextCACerts asks GetNextCACert (RFC 8894, section 4.7) and verifies the
// answer with a certificate already known from GetCACert.
func (c *Client) NextCACerts(ctx context.Context, known []*x509.Certificate) ([]*x509.Certificate, error) {
	a, err := c.ask(ctx, "GetNextCACert")
	if err != nil {
		return nil, err
	}
	if a.contentType != "application/x-x509-next-ca-cert" {
		return nil, fmt.Errorf("GetNextCACert: Content-Type %q, clients want application/x-x509-next-ca-cert", a.contentType)
	}
	outer, err := parseCMS(a.body)
	if err != nil {
		return nil, fmt.Errorf("GetNextCACert: %w", err)
	}
	if _, err := verify(outer, known); err != nil {
		return nil, fmt.Errorf("GetNextCACert: %w", err)
	}
	bag, err := parseCMS(outer.Content())
	if err != nil {
		return nil, fmt.Errorf("GetNextCACert: %w", err)
	}
	return bag.Certificates(), nil
}

// Discover asks GetCACaps and GetCACert and makes the platform's choices.
// ErrNotServed means that the platform would end here.
func (c *Client) Discover(ctx context.Context) (*Service, error) {
	capabilities, err := c.Capabilities(ctx)
	if err != nil {
		return nil, err
	}
	certificates, err := c.CACerts(ctx)
	if err != nil {
		return nil, err
	}
	s := &Service{Capabilities: capabilities, Certificates: certificates}
	if err := s.negotiate(c.Quirks); err != nil {
		return nil, err
	}
	if err := s.choose(c.Quirks.RA); err != nil {
		return nil, err
	}
	return s, nil
}

// Send sends a built message and reads the reply, checked against the
// message. A message may be sent again and its Raw may have been changed. On
// an HTTP status other than 200 both a Reply with HTTPStatus and a
// *StatusError are returned; on a reply that is not believed, what was read.
func (c *Client) Send(ctx context.Context, m *Message) (*Reply, error) {
	if m.Service == nil {
		s, err := c.Discover(ctx)
		if err != nil {
			return nil, err
		}
		m.Service = s
	}
	if m.Raw == nil {
		if _, err := m.Build(); err != nil {
			return nil, err
		}
	}
	start := time.Now()
	post := m.Service.Capabilities.Has("POSTPKIOperation") && !c.Quirks.AlwaysGET
	a, err := c.operate(ctx, m.Raw, post)
	elapsed := time.Since(start)
	if err != nil {
		if status, ok := errors.AsType[*StatusError](err); ok {
			return &Reply{HTTPStatus: status.Code, RetryAfter: status.RetryAfter, Elapsed: elapsed}, err
		}
		return nil, err
	}
	if a.contentType != "application/x-pki-message" {
		return &Reply{HTTPStatus: http.StatusOK, Raw: a.body, Elapsed: elapsed},
			fmt.Errorf("PKIOperation: Content-Type %q, clients want application/x-pki-message", a.contentType)
	}
	r, err := m.read(a.body, m.Service)
	r.HTTPStatus, r.Elapsed = http.StatusOK, elapsed
	return r, err
}

// GetCert fetches a certificate by issuer and serial number (RFC 8894, section
// 3.3.4). By is a certificate of that CA and its key.
func (c *Client) GetCert(ctx context.Context, by Identity, of *x509.Certificate) (*Reply, error) {
	r, err := c.fetch(ctx, scep.GetCert, by, of)
	if err == nil && r.Status == scep.Success && r.Certificate.SerialNumber.Cmp(of.SerialNumber) != 0 {
		return r, errors.New("GetCert: another certificate than asked for")
	}
	return r, err
}

// GetCRL fetches the revocation list that covers a certificate (RFC 8894,
// section 3.3.5).
func (c *Client) GetCRL(ctx context.Context, by Identity, of *x509.Certificate) (*Reply, error) {
	return c.fetch(ctx, scep.GetCRL, by, of)
}

func (c *Client) fetch(ctx context.Context, what scep.MessageType, by Identity, of *x509.Certificate) (*Reply, error) {
	s, err := c.Discover(ctx)
	if err != nil {
		return nil, err
	}
	id, err := NewTransactionID(&by.Key.PublicKey, c.Quirks.TransactionID)
	if err != nil {
		return nil, err
	}
	m := &Message{
		Type: what, TransactionID: id, Signer: by, Service: s, Quirks: c.Quirks,
		Content: sequence(slices.Clone(of.RawIssuer), integer(of.SerialNumber)),
	}
	return c.Send(ctx, m)
}
