package scepclient

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/certconnector/certconnector/scep"
)

// EnrollRequest asks for one certificate.
type EnrollRequest struct {
	Key  *rsa.PrivateKey  // of the certificate
	CSR  CSR              // the platform's string type and validity pair are added
	DER  []byte           // a finished certification request, in place of CSR
	Type scep.MessageType // 0: PKCSReq, for a renewal what the platform sends

	Renew         *Identity // the old certificate and its key: a renewal
	TransactionID string    // empty: in the platform's form
	Service       *Service  // from Discover; nil: asked anew, as every platform does
}

// Transaction is one enrolment under way: its message may be sent again and
// Poll goes on with it.
type Transaction struct {
	Service *Service
	Message *Message // PKCSReq or RenewalReq, built
	DER     []byte   // the certification request
	Key     *rsa.PrivateKey
}

// Enroll enrols or renews as the platform does: capabilities, certificates,
// request, and polls while the answer is PENDING and the platform's patience
// lasts. A refusal is a Reply, not an error.
func (c *Client) Enroll(ctx context.Context, req EnrollRequest) (*Reply, error) {
	t, err := c.Prepare(ctx, req)
	if err != nil {
		return nil, err
	}
	r, err := c.submit(ctx, t, t.Message)
	for attempt := range c.Quirks.Retries {
		if err != nil || r.Status != scep.Pending {
			break
		}
		if attempt > 0 || !c.Quirks.FirstRetryAtOnce {
			if err := c.wait(ctx); err != nil {
				return r, err
			}
		}
		r, err = c.Poll(ctx, t)
	}
	return r, err
}

// Prepare asks what the server can do and builds the request without sending
// it.
func (c *Client) Prepare(ctx context.Context, req EnrollRequest) (*Transaction, error) {
	service := req.Service
	if service == nil {
		var err error
		if service, err = c.Discover(ctx); err != nil {
			return nil, err
		}
	}
	if req.Renew != nil && c.Quirks.NeedRenewal && !service.Capabilities.Has("Renewal") {
		return nil, fmt.Errorf("%w: GetCACaps does not list Renewal", ErrNotServed)
	}
	der := req.DER
	if der == nil {
		csr := req.CSR
		csr.ChallengeUTF8 = csr.ChallengeUTF8 || c.Quirks.ChallengeUTF8
		csr.Pair = cmp.Or(csr.Pair, c.Quirks.Validity)
		var err error
		if der, err = csr.Encode(req.Key); err != nil {
			return nil, err
		}
	}
	m := &Message{Type: cmp.Or(req.Type, scep.PKCSReq), TransactionID: req.TransactionID, Content: der, Service: service, Quirks: c.Quirks}
	if err := m.sender(req, der); err != nil {
		return nil, err
	}
	if _, err := m.Build(); err != nil {
		return nil, err
	}
	return &Transaction{Service: service, Message: m, DER: der, Key: req.Key}, nil
}

// sender sets who signs: the old certificate in a renewal, else a self-signed
// one, and the transaction ID that follows from the key.
func (m *Message) sender(req EnrollRequest, der []byte) error {
	if m.TransactionID == "" {
		id, err := NewTransactionID(&req.Key.PublicKey, m.Quirks.TransactionID)
		if err != nil {
			return err
		}
		m.TransactionID = id
	}
	if req.Renew != nil {
		m.Type = cmp.Or(req.Type, m.Quirks.Renewal, scep.RenewalReq)
		m.Signer = *req.Renew
		return nil
	}
	subject, err := subjectOf(der)
	if err != nil {
		return err
	}
	m.Signer, err = SelfSigned(req.Key, subject, m.Quirks)
	return err
}

// Poll asks once what became of a transaction, in the platform's style.
func (c *Client) Poll(ctx context.Context, t *Transaction) (*Reply, error) {
	m := *t.Message
	if c.Quirks.Poll != PollByRequest {
		issuer := t.Service.Issuer.RawSubject
		if c.Quirks.Poll == PollByCertPollRA {
			issuer = t.Service.Recipient.RawSubject
		}
		subject, err := subjectOf(t.DER)
		if err != nil {
			return nil, err
		}
		m.Type, m.Content = scep.CertPoll, sequence(issuer, subject)
	}
	m.SenderNonce = nil
	if _, err := m.Build(); err != nil {
		return nil, err
	}
	return c.submit(ctx, t, &m)
}

// submit sends a message of a transaction and checks that a certificate that
// comes back is for its key.
func (c *Client) submit(ctx context.Context, t *Transaction, m *Message) (*Reply, error) {
	r, err := c.Send(ctx, m)
	if r != nil {
		r.Transaction = t
	}
	if err != nil || r.Status != scep.Success {
		return r, err
	}
	spki, err := x509.MarshalPKIXPublicKey(&t.Key.PublicKey)
	if err != nil {
		return r, err
	}
	if !bytes.Equal(r.Certificate.RawSubjectPublicKeyInfo, spki) {
		return r, errors.New("the first certificate of the reply is not for the key of the request")
	}
	return r, nil
}

// wait sleeps for the platform's delay between two polls.
func (c *Client) wait(ctx context.Context) error {
	timer := time.NewTimer(time.Duration(float64(c.Quirks.RetryDelay) * cmp.Or(c.DelayScale, 1)))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// subjectOf returns the encoded subject of a certification request.
func subjectOf(der []byte) ([]byte, error) {
	fields := der
	for range 2 { // CertificationRequest, CertificationRequestInfo
		e, _, err := readElement(fields)
		if err != nil {
			return nil, fmt.Errorf("certification request: %w", err)
		}
		fields = e.content
	}
	members, err := readElements(fields)
	if err != nil || len(members) < 3 {
		return nil, errors.New("certification request: not PKCS #10")
	}
	return members[1].full, nil
}
