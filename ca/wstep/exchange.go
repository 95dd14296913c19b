package wstep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/negotiate"
)

// holdFor is how long a refused password is not tried again. Domains lock
// accounts after a few wrong ones.
const holdFor = time.Minute

// question is one message to one service.
type question struct {
	address     string
	action      string
	replyAction string
	content     any
	limit       int  // bytes of the reply
	loose       bool // a reply may leave out what it relates to
}

// reply is the body of an answer that is no fault.
type reply struct {
	body *element
	date time.Time // the service's clock, zero when it does not tell
}

// unavailable says that a request surely was not carried out.
func unavailable(err error) error { return fmt.Errorf("%w: %w", ca.ErrUnavailable, err) }

// unknown says that it may have been. What lies below is told, and no longer
// there for errors.Is: a question after the submission may itself have been
// "unavailable".
func unknown(err error) error { return fmt.Errorf("%w: %v", ca.ErrOutcomeUnknown, err) }

// ask sends a question once. Its errors are *fault, and those that wrap
// ca.ErrUnavailable or ca.ErrOutcomeUnknown.
func (c *CA) ask(ctx context.Context, q question) (*reply, error) {
	id := newMessageID()
	if c.config.User != nil && c.config.Clock().UnixNano() < c.heldUntil.Load() {
		return nil, unavailable(fmt.Errorf("%w: the password was refused less than %v ago and is not tried again yet", ca.ErrForbidden, holdFor))
	}
	message, err := write(q.action, id, q.address, q.content, c.config.User, c.config.Clock())
	if err != nil {
		return nil, unavailable(err)
	}
	transport, err := c.transport(q.address)
	if err != nil {
		return nil, unavailable(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, q.address, bytes.NewReader(message))
	if err != nil {
		return nil, unavailable(err)
	}
	req.Header.Set("Content-Type", `application/soap+xml; charset=utf-8; action="`+q.action+`"`)
	req.Header.Set("Accept", "application/soap+xml")
	began := c.config.Clock()
	// RoundTrip follows no redirect: the answer to one is an error below.
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return nil, sendError(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(io.LimitReader(resp.Body, int64(q.limit)+1))
	c.config.Log.Debug("enrolment web service asked", zap.String("host", req.URL.Host), zap.String("action", q.action),
		zap.Int("http_status", resp.StatusCode), zap.Duration("duration", c.config.Clock().Sub(began)))
	switch {
	case !isSOAP(resp):
		return nil, statusError(resp)
	case err != nil:
		return nil, unknown(fmt.Errorf("reading the answer: %w", err))
	case len(content) > q.limit:
		return nil, unknown(fmt.Errorf("the answer is longer than %d bytes", q.limit))
	}
	r, err := readReply(content, q, id)
	if f, ok := errors.AsType[*fault](err); ok && f.refusesCredentials() && c.config.User != nil {
		c.heldUntil.Store(c.config.Clock().Add(holdFor).UnixNano())
	}
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, unknown(fmt.Errorf("an answer that is no fault came with HTTP status %d", resp.StatusCode))
	}
	r.date, _ = http.ParseTime(resp.Header.Get("Date"))
	return r, nil
}

// sendError sorts an error of the transport: did the message leave?
func sendError(err error) error {
	switch {
	case errors.Is(err, negotiate.ErrRefused):
		return unavailable(fmt.Errorf("%w: signing in: %w", ca.ErrForbidden, err))
	case errors.Is(err, negotiate.ErrNotSent):
		return unavailable(err)
	}
	return unknown(fmt.Errorf("the service did not answer: %w", err))
}

func isSOAP(resp *http.Response) bool {
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return err == nil && kind == "application/soap+xml"
}

// statusError is for what comes from the web server and not from the service.
// Statuses below 500 mean that the request did not get to the service.
func statusError(resp *http.Response) error {
	status := resp.StatusCode
	err := fmt.Errorf("HTTP status %d and no SOAP message", status)
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return unavailable(fmt.Errorf("%w: %w: check the credentials, that the address is that of this kind of authentication, "+
			"and for Kerberos the service principal name", ca.ErrForbidden, err))
	case status == http.StatusRequestEntityTooLarge:
		return unavailable(fmt.Errorf("%w: with client certificates raise uploadReadAheadSize of the web site", err))
	case status >= 300 && status < 400:
		return unavailable(fmt.Errorf("%w: it redirects, which is not followed; configure the service's own address", err))
	case status >= 400 && status < 500:
		return unavailable(fmt.Errorf("%w: check the address", err))
	case status == http.StatusServiceUnavailable && resp.Header.Get("Server") == "Microsoft-HTTPAPI/2.0":
		// Windows' kernel answers so when no worker takes the request.
		return unavailable(fmt.Errorf("%w: the web site's application pool is stopped", err))
	}
	return unknown(err)
}

// readReply reads an answer to the question with this message ID.
func readReply(content []byte, q question, id string) (*reply, error) {
	top, err := parseXML(content)
	if err != nil {
		return nil, unknown(fmt.Errorf("the answer is %w", err))
	}
	if !top.is(nsSOAP, "Envelope") {
		return nil, unknown(errors.New("the answer is no SOAP 1.2 envelope"))
	}
	head, body := top.only(nsSOAP, "Header"), top.only(nsSOAP, "Body")
	if body == nil {
		return nil, unknown(errors.New("the answer has no SOAP body"))
	}
	relates := head.all(nsAddressing, "RelatesTo")
	for _, r := range relates {
		if r.content() != id {
			return nil, unknown(errors.New("the answer relates to another message"))
		}
	}
	if f := body.only(nsSOAP, "Fault"); f != nil {
		return nil, readFault(f) // one that met a broken header relates to nothing
	}
	if len(relates) != 1 && !(q.loose && len(relates) == 0) {
		return nil, unknown(errors.New("the answer does not say which message it relates to"))
	}
	if action := head.only(nsAddressing, "Action").content(); action != q.replyAction {
		return nil, unknown(fmt.Errorf("the answer has another action than %s", q.replyAction))
	}
	return &reply{body: body}, nil
}
