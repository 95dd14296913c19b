package scephttp

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/admission"
	"github.com/certconnector/certconnector/internal/eventid"
	"github.com/certconnector/certconnector/scep"
)

// statusGone is what a device that hung up is logged with; it never sees it.
const statusGone = 499

// pkiOperation takes one message from its octets to its CertRep.
func (x *exchange) pkiOperation() {
	// 1. Cheap refusals: the source, the number of exchanges, the size.
	if !x.failures.allows(x.source) {
		x.limited(limitFailures, x.endpoint.RetryAfter)
		return
	}
	leave := x.room()
	if leave == nil {
		return
	}
	defer leave()
	raw, release, ok := x.message()
	defer release()
	if !ok {
		return
	}
	ra := x.endpoint.RA()
	if ra == nil {
		x.unavailable("RA keys are not ready", x.endpoint.RetryAfter)
		return
	}

	// 2. The outer layer says who comes; in one slot, outer signature, then
	// envelope.
	u, err := scep.Read(raw)
	if err != nil {
		x.undecodable(err.Error(), eventid.NoInformation)
		return
	}
	x.identify(u)
	v := x.transactions.visit(x.endpoint.Name, u, time.Now())
	m, request, result, ok := x.read(u, v, ra)
	if !ok {
		return
	}

	// 3. The decision; no slot is taken while an Enroller holds the exchange.
	// The server's write timeout began with the request: it starts anew with
	// the answer.
	control := http.NewResponseController(x.w)
	control.SetWriteDeadline(time.Time{})
	if result != nil {
		x.transactions.forget(v) // its next message is a newcomer's
	} else if result, ok = x.enroll(request, v); !ok {
		return
	}

	// 4. The signed answer.
	control.SetWriteDeadline(time.Now().Add(x.limits.BodyTime))
	x.reply(ra, m, result)
}

// message returns the octets of the message. Release gives back what a large
// body took; it is never nil.
func (x *exchange) message() (raw []byte, release func(), ok bool) {
	release = func() {}
	if x.r.Method == http.MethodPost {
		return x.body()
	}
	value, _ := parameter(x.r.URL.RawQuery, "message")
	raw, err := decodeMessage(value)
	if err != nil {
		x.undecodable(err.Error(), eventid.NotDecodable)
		return nil, release, false
	}
	if x.r.Method == http.MethodHead { // nothing may happen on a HEAD
		x.respond(http.StatusOK, "application/x-pki-message", nil)
		return nil, release, false
	}
	return raw, release, true
}

// body reads a POST. Its Content-Type is of no interest: devices send DER as
// anything, even as a form.
func (x *exchange) body() (raw []byte, release func(), ok bool) {
	release = func() {}
	if x.r.ContentLength > x.limits.MaxBody {
		x.text(http.StatusRequestEntityTooLarge, "message too large")
		return nil, release, false
	}
	control := http.NewResponseController(x.w)
	control.SetReadDeadline(time.Now().Add(x.limits.BodyTime)) // a test's recorder has none
	limited := http.MaxBytesReader(x.w, x.r.Body, x.limits.MaxBody)
	buffer := bytes.NewBuffer(make([]byte, 0, min(max(x.r.ContentLength, 4096), largeBody)+bytes.MinRead))
	n, err := buffer.ReadFrom(io.LimitReader(limited, largeBody))
	if err == nil && n == largeBody {
		select {
		case x.large <- struct{}{}:
			release = func() { <-x.large }
		default:
			x.limited(limitLarge, x.endpoint.RetryAfter)
			return nil, release, false
		}
		_, err = buffer.ReadFrom(limited)
	}
	if err != nil {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			x.text(http.StatusRequestEntityTooLarge, "message too large")
		} else {
			x.reason = "reading the body: " + err.Error()
			x.text(http.StatusBadRequest, "body cut off")
		}
		return nil, release, false
	}
	raw = buffer.Bytes()
	if len(raw) > 0 && raw[0] != 0x30 { // base64 in place of DER
		if decoded, err := decodeBase64(string(raw)); err == nil {
			raw = decoded
		}
	}
	return raw, release, true
}

// undecodable answers octets that are no message at all.
func (x *exchange) undecodable(reason string, event eventid.NDES) {
	x.reason, x.ndes = reason, event
	if x.endpoint.NDESCompatible && x.r.Method != http.MethodPost {
		x.html(http.StatusOK, servicePage(x.endpoint.AdminPath))
		return
	}
	x.text(http.StatusBadRequest, "not a SCEP message")
}

// read verifies and opens a message when its turn has come. A result instead of
// a request is the refusal to sign.
func (x *exchange) read(u *scep.Unverified, v visit, ra *scep.RA) (m *scep.Message, request *scep.Request, result *scep.Result, ok bool) {
	leave := x.slot(admission.Device, x.transactions.deadline(v))
	if leave == nil {
		if x.event.Limited != "" {
			x.transactions.remember(v, u.Signer, false, time.Now())
		}
		return nil, nil, nil, false
	}
	defer leave()

	m, err := u.Verify(x.endpoint.Algorithms)
	if err != nil {
		x.ndes = eventid.NoInformation
		return m, nil, x.refused(err, false), true
	}
	if request, err = m.Open(ra); err != nil {
		x.ndes = eventid.NotDecrypted
		return m, nil, x.refused(err, true), true
	}
	return m, request, nil, true
}

// refused turns an error of package scep into the answer and takes a token
// from the source.
func (x *exchange) refused(err error, opening bool) *scep.Result {
	x.failures.count(x.source, opening)
	if refusal, ok := errors.AsType[*scep.Refusal](err); ok {
		x.reason = refusal.Detail
		return refusal.Result()
	}
	x.reason = err.Error()
	return scep.Refuse(scep.BadMessageCheck, "the message could not be opened")
}

// enroll asks the Enroller. Whoever should come again goes before newcomers then.
func (x *exchange) enroll(request *scep.Request, v visit) (*scep.Result, bool) {
	ctx := WithSource(x.r.Context(), x.source)
	ctx = admission.Until(ctx, x.transactions.deadline(v))
	result, err := x.endpoint.Enroller.Enroll(ctx, request)
	switch {
	case err != nil && ctx.Err() != nil:
		x.reason = err.Error()
		x.gone()
		return nil, false
	case err != nil:
		x.transactions.remember(v, request.Signer, false, time.Now())
		after := x.endpoint.RetryAfter
		if own, ok := errors.AsType[interface {
			error
			RetryAfterer
		}](err); ok {
			// An error that may say so need not: 0 is no wish.
			if d := own.RetryAfter(); d > 0 {
				after = d
			}
		}
		x.unavailable(err.Error(), after)
		return nil, false
	case result == nil:
		x.reason = "the enroller returned neither a result nor an error"
		x.text(http.StatusInternalServerError, "internal error")
		return nil, false
	}
	switch result.Status {
	case scep.Pending:
		x.transactions.remember(v, request.Signer, true, time.Now())
	case scep.Failure:
		x.reason = result.FailText
		x.failures.count(x.source, false)
		x.transactions.forget(v)
	default:
		x.transactions.forget(v)
	}
	return result, true
}

// reply signs and sends the CertRep. It waits for its slot as long as it
// takes, and goes before all others: the decision has been made.
func (x *exchange) reply(ra *scep.RA, m *scep.Message, result *scep.Result) {
	leave := x.slot(admission.Answer, time.Time{})
	if leave == nil {
		return
	}
	body, err := func() ([]byte, error) {
		defer leave()
		return ra.Reply(m, result)
	}()
	if err != nil {
		x.reason = "building the CertRep: " + err.Error()
		x.text(http.StatusInternalServerError, "internal error")
		return
	}
	x.event.Replied, x.event.Status, x.event.FailInfo = true, result.Status, result.FailInfo
	x.respond(http.StatusOK, "application/x-pki-message", body)
}

// gone ends an exchange whose device hung up.
func (x *exchange) gone() {
	x.event.HTTPStatus, x.written = statusGone, true
	if x.reason == "" {
		x.reason = "the device hung up"
	}
}

// nextCACert signs the next CA certificates, so it takes a slot too.
func (x *exchange) nextCACert() {
	ra := x.endpoint.RA()
	if ra == nil {
		x.unavailable("RA keys are not ready", x.endpoint.RetryAfter)
		return
	}
	if ra.Next == nil {
		x.text(http.StatusNotFound, "no next CA certificate")
		return
	}
	leave := x.slot(admission.Device, time.Time{})
	if leave == nil {
		return
	}
	body, err := func() ([]byte, error) {
		defer leave()
		return ra.NextCACert()
	}()
	switch {
	case errors.Is(err, scep.ErrNoNextCA):
		x.text(http.StatusNotFound, "no next CA certificate")
	case err != nil:
		x.reason = "building the answer to GetNextCACert: " + err.Error()
		x.text(http.StatusInternalServerError, "internal error")
	default:
		x.respond(http.StatusOK, "application/x-x509-next-ca-cert", body)
	}
}

// identify puts the transaction into the logger as soon as it is known.
func (x *exchange) identify(u *scep.Unverified) {
	x.event.MessageType = known(u.MessageType)
	x.id = u.TransactionID
	x.log = x.log.WithLazy(zap.String("endpoint", x.endpoint.Name), zap.String("transaction_id", printable(x.id)))
}

// known maps the message types nobody knows to 0: the type is chosen by a
// stranger and must not become the label of a metric.
func known(t scep.MessageType) scep.MessageType {
	switch t {
	case scep.CertRep, scep.RenewalReq, scep.PKCSReq, scep.CertPoll, scep.GetCert, scep.GetCRL:
		return t
	}
	return 0
}
