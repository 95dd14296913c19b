package adcs

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/ca"
)

// Issue implements ca.Authority.
func (c *CA) Issue(ctx context.Context, req ca.Request) (*ca.Issued, error) {
	ctx, cancel := c.within(ctx)
	defer cancel()
	text, err := attributes(req, c.validity)
	if err != nil {
		return nil, &ca.Denied{HResult: ca.HResultFail, Text: "the request cannot be put to the CA: " + err.Error()}
	}
	digest := req.CSR.Digest()
	c.remember(digest)
	r, err := c.submit(ctx, submission{csr: req.CSR.Raw, attributes: text})
	if err != nil {
		if !errors.Is(err, ca.ErrOutcomeUnknown) {
			c.forget(digest)
		}
		return nil, err
	}
	issued, err := c.decide(r, "submission")
	if !errors.Is(err, ca.ErrOutcomeUnknown) {
		c.forget(digest)
	}
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(issued.Certificate.RawSubjectPublicKeyInfo, req.CSR.RawSubjectPublicKeyInfo) {
		return nil, c.unknown("submission", errOtherKey, 0)
	}
	c.warnOfValidity(req, issued.Certificate)
	return issued, nil
}

// errOtherKey is a certificate that is somebody else's. It is never released
// and, unlike one that merely says too much, never revoked.
var errOtherKey = errors.New("the CA returned a certificate for another key; it is left alone")

// Collect implements ca.Collector.
func (c *CA) Collect(ctx context.Context, requestID string) (*ca.Issued, error) {
	id, err := strconv.ParseUint(requestID, 10, 32)
	if err != nil || id == 0 {
		return nil, fmt.Errorf("CA %s: request ID %q is no number of this CA: %w", c.name, requestID, ca.ErrNotFound)
	}
	ctx, cancel := c.within(ctx)
	defer cancel()
	r, err := c.submit(ctx, submission{id: uint32(id)})
	if err != nil {
		return nil, err
	}
	if uint32(r.ret) == codePropertyEmpty || r.disposition == codePropertyEmpty {
		return nil, &problem{ca: c.name, step: "collecting request " + requestID, kind: ca.ErrNotFound, code: codePropertyEmpty}
	}
	r.id = uint32(id)
	return c.decide(r, "collecting request "+requestID)
}

// submit makes the call on the first road that gets through. What was perhaps
// written is not repeated; a retrieval may be, but its caller does that.
func (c *CA) submit(ctx context.Context, s submission) (reply, error) {
	var last error
	for _, road := range c.roads {
		r, sent, err := c.submitOn(ctx, road, s)
		if err == nil {
			c.noteRoad(road)
			return r, nil
		}
		last = err
		if sent || ctx.Err() != nil {
			break
		}
	}
	return reply{}, last
}

// submitOn makes the call on one road. A kept connection that turns out dead
// before anything was written is replaced once.
func (c *CA) submitOn(ctx context.Context, road Road, s submission) (r reply, sent bool, err error) {
	p := c.requests[road]
	for range 2 {
		k, reused, err := p.get(ctx)
		if err != nil {
			return reply{}, false, c.unreachable("connecting over "+string(road), err, 0)
		}
		r, err := k.conn.request(ctx, s)
		if err == nil {
			p.give(k)
			return r, true, nil
		}
		sent, fault := k.conn.wire().outcome()
		p.drop(k)
		switch {
		case sent && fault == codeAccessFault:
			// The call was refused at the door: the CA did not see it.
			return reply{ret: accessDenied, message: err.Error()}, true, nil
		case sent:
			return reply{}, true, c.unknown("waiting for the answer over "+string(road), err, fault)
		case !reused || ctx.Err() != nil:
			return reply{}, false, c.unreachable("sending over "+string(road), err, fault)
		}
	}
	return reply{}, false, c.unreachable("sending over "+string(road), errors.New("connections end as soon as they are used"), 0)
}

// decide reads an answer. The disposition decides: the return value may be 0
// although the request was refused, and any disposition but issued and pending
// may be the HRESULT itself.
func (c *CA) decide(r reply, step string) (*ca.Issued, error) {
	if r.ret < 0 {
		return nil, c.refused(step, uint32(r.ret), r)
	}
	id := strconv.FormatUint(uint64(r.id), 10)
	switch r.disposition {
	case dispositionIssued:
		return c.issued(r, id, step)
	case dispositionPending:
		if r.id == 0 {
			return nil, c.unknown(step, errors.New("pending without a request ID"), 0)
		}
		c.seen(r.id)
		return nil, &ca.Pending{RequestID: id}
	case dispositionNothing, dispositionOutBand:
		return nil, c.unknown(step, fmt.Errorf("disposition %d says neither issued nor refused", r.disposition), 0)
	case dispositionDenied:
		return nil, c.refused(step, 0x80094014, r)
	case dispositionError:
		return nil, c.refused(step, 0x80004005, r)
	case dispositionRevoked:
		return nil, c.refused(step, codeRevoked, r)
	}
	return nil, c.refused(step, r.disposition, r)
}

func (c *CA) issued(r reply, id, step string) (*ca.Issued, error) {
	cert, err := x509.ParseCertificate(r.cert)
	if err != nil {
		return nil, c.unknown(step, fmt.Errorf("request %s is issued, but its certificate does not read: %w", id, err), 0)
	}
	c.seen(r.id)
	return &ca.Issued{Certificate: cert, RequestID: id}, nil
}

// refused turns a code into Denied, or, where it speaks of the CA and not of
// the request and no row was made, into ErrUnavailable.
func (c *CA) refused(step string, code uint32, r reply) error {
	if r.id == 0 && (ca.IsTransient(int32(code)) || code == codeInvalid) {
		// E_INVALIDARG without a row is the name of the CA in our configuration.
		return c.unreachable(step, errors.New("the CA takes no request"), code)
	}
	if ca.IsTransient(int32(code)) {
		return c.unknown(step, errors.New("the CA gave up on the request"), code)
	}
	if code == codeAccessFault || code == codeAccessICPR {
		code = codeAccessDenied
	}
	c.seen(r.id)
	text := clean(r.message)
	if text == "" {
		text = ca.Advice(int32(code))
	}
	c.log.Warn("the CA refused a request", zap.String("step", step), zap.Uint32("request_id", r.id), zap.String("text", text),
		zap.String("advice", ca.Advice(int32(code))))
	return &ca.Denied{HResult: int32(code), Text: text}
}

// warnOfValidity says when the CA ignores the wish, as it does without its
// EDITF_ATTRIBUTEENDDATE. It is no failure.
func (c *CA) warnOfValidity(req ca.Request, cert *x509.Certificate) {
	wish := wished(req)
	if wish == 0 || !cert.NotAfter.After(c.now().Add(wish+time.Hour)) {
		return
	}
	c.log.Warn("the CA issued for longer than was wished: set EDITF_ATTRIBUTEENDDATE and the connector's validity option, or shorten the template",
		zap.Duration("wished", wish), zap.Time("not_after", cert.NotAfter))
}

// seen keeps the largest request ID, from which a walk can start.
func (c *CA) seen(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.newest = max(c.newest, id)
}

const maxRemembered = 10_000

// remember notes a submission until its answer: the CA goes on when our
// connection dies, so that its row may come later than our question.
func (c *CA) remember(digest [32]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.sent) >= maxRemembered {
		for d, at := range c.sent {
			if c.now().Sub(at) > c.settled() {
				delete(c.sent, d)
			}
		}
	}
	c.sent[digest] = c.now()
}

func (c *CA) forget(digest [32]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.sent, digest)
}

// settled is how long after a submission its row may still appear.
func (c *CA) settled() time.Duration { return c.deadline + 30*time.Second }

func (c *CA) noteRoad(road Road) {
	c.mu.Lock()
	was := c.last
	c.last = road
	c.mu.Unlock()
	if was != road {
		c.log.Info("the CA is reached", zap.String("road", string(road)), zap.String("mechanism", c.mechanism.Name()))
	}
}

// isNetwork reports whether a connection failed, rather than a conversation.
func isNetwork(err error) bool {
	var operation *net.OpError
	return errors.As(err, &operation) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded)
}
