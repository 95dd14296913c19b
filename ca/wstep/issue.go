package wstep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/ca"
)

// clockSlack is how far a certificate's end may lie from what was asked for.
const clockSlack = 10 * time.Minute

// Issue implements ca.Authority. An answer with another key, or from another
// CA, is ca.ErrOutcomeUnknown: our certificate may exist beside it.
func (c *CA) Issue(ctx context.Context, req ca.Request) (*ca.Issued, error) {
	if !isText(req.Template) {
		return nil, &ca.Denied{HResult: ca.HResultUnknownTemplate, Text: "the template's name has control characters"}
	}
	ctx, cancel := context.WithTimeout(ctx, c.config.SubmitWithin)
	defer cancel()
	addresses, err := c.addresses(ctx)
	if err != nil {
		return nil, fmt.Errorf("wstep: %w", err)
	}
	r, err := c.askOneOf(ctx, addresses, issueQuestion(req.CSR.Raw, c.attributes(req)))
	if err != nil {
		return nil, c.issueError(err)
	}
	a, err := readAnswer(r.body, req.CSR.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, fmt.Errorf("wstep: %w", unknown(err))
	}
	if a.certificate == nil {
		return nil, &ca.Pending{RequestID: a.requestID}
	}
	if !bytes.Equal(a.certificate.RawSubjectPublicKeyInfo, req.CSR.RawSubjectPublicKeyInfo) {
		return nil, fmt.Errorf("wstep: %w", unknown(fmt.Errorf("the certificate in the answer (request ID %q) has another key than the request", a.requestID)))
	}
	issued, err := c.accept(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("wstep: %w", unknown(err))
	}
	c.compareValidity(req, issued)
	return issued, nil
}

// Collect implements ca.Collector. The request's key is not known here: the
// caller compares it. Nothing is submitted, so that whatever goes wrong is
// ca.ErrUnavailable: ask again.
func (c *CA) Collect(ctx context.Context, requestID string) (*ca.Issued, error) {
	if !isRequestID(requestID) {
		return nil, fmt.Errorf("wstep: %w: %q is no request ID", ca.ErrNotFound, plain(requestID))
	}
	ctx, cancel := context.WithTimeout(ctx, c.config.SubmitWithin)
	defer cancel()
	addresses, err := c.addresses(ctx)
	if err != nil {
		return nil, fmt.Errorf("wstep: %w", err)
	}
	r, err := c.askOneOf(ctx, addresses, statusQuestion(requestID))
	if f, ok := errors.AsType[*fault](err); ok && uint32(f.hresult) == codePropertyEmpty {
		return nil, fmt.Errorf("wstep: %w: %w", ca.ErrNotFound, f)
	}
	if err != nil {
		return nil, c.issueError(asQuestion(err))
	}
	a, err := readAnswer(r.body, nil)
	if err == nil && a.requestID != "" && a.requestID != requestID {
		err = errors.New("the answer is about another request ID")
	}
	if err != nil {
		return nil, fmt.Errorf("wstep: %w", unavailable(err))
	}
	if a.certificate == nil {
		return nil, &ca.Pending{RequestID: requestID}
	}
	a.requestID = requestID
	issued, err := c.accept(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("wstep: %w", asQuestion(err))
	}
	return issued, nil
}

// accept checks who issued the certificate of an answer.
func (c *CA) accept(ctx context.Context, a *answer) (*ca.Issued, error) {
	if a.certificate.IsCA {
		return nil, errors.New("the certificate in the answer is one of a CA")
	}
	if err := c.checkIssuer(ctx, a.certificate); err != nil {
		return nil, err
	}
	c.learn(a.others)
	return &ca.Issued{Certificate: a.certificate, RequestID: a.requestID}, nil
}

// askOneOf asks one service after the other, as long as the request surely
// reached none.
func (c *CA) askOneOf(ctx context.Context, addresses []string, content tokenRequest) (*reply, error) {
	var failed error
	for _, address := range addresses {
		r, err := c.ask(ctx, question{
			address: address, action: actionToken, replyAction: actionTokenReply, content: content, limit: maxReply,
		})
		if f, ok := errors.AsType[*fault](err); ok && (!errors.Is(f.outcome(), ca.ErrUnavailable) || f.refusesCredentials()) {
			return nil, err
		} else if ok {
			err = f.outcome()
		}
		if err == nil || !errors.Is(err, ca.ErrUnavailable) {
			return r, err
		}
		failed = errors.Join(failed, err)
		if isDone(ctx) {
			break
		}
	}
	return nil, failed
}

// issueError is the error for the caller.
func (c *CA) issueError(err error) error {
	if f, ok := errors.AsType[*fault](err); ok {
		err = f.outcome()
	}
	if denied, ok := errors.AsType[*ca.Denied](err); ok {
		return denied
	}
	return fmt.Errorf("wstep: %w", err)
}

// life is the life time that a request wishes for, within its cap.
func life(req ca.Request) time.Duration {
	switch {
	case req.Validity <= 0:
		return max(req.MaxValidity, 0)
	case req.MaxValidity <= 0:
		return req.Validity
	}
	return min(req.Validity, req.MaxValidity)
}

// attributes are the request attributes ([MS-WCCE], section 2.2.2.7). There is
// never one named SAN: a CA that honours it lets anybody be anybody.
func (c *CA) attributes(req ca.Request) []contextItem {
	var list []contextItem
	if req.Template != "" {
		list = append(list, contextItem{"CertificateTemplate", req.Template})
	}
	wish := life(req)
	if !c.config.SendValidity || wish <= 0 {
		return list
	}
	const day = 24 * time.Hour
	unit, count := "Hours", max(wish/time.Hour, 1)
	if wish%day == 0 {
		unit, count = "Days", wish/day
	}
	return append(list, contextItem{"ValidityPeriod", unit}, contextItem{"ValidityPeriodUnits", strconv.FormatInt(int64(count), 10)})
}

// compareValidity warns of a certificate that lives longer than asked for: the
// CA ignores the wish without its flag EDITF_ATTRIBUTEENDDATE.
func (c *CA) compareValidity(req ca.Request, issued *ca.Issued) {
	wish := life(req)
	if end := issued.Certificate.NotAfter; wish > 0 && end.After(c.config.Clock().Add(wish+clockSlack)) {
		c.config.Log.Warn("certificate lives longer than asked for; the CA takes a wish only with EDITF_ATTRIBUTEENDDATE",
			zap.String("request_id", issued.RequestID), zap.Duration("asked", wish), zap.Time("not_after", end), zap.Bool("sent", c.config.SendValidity))
	}
}
