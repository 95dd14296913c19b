package scephttp

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/eventid"
	"github.com/certconnector/certconnector/scep"
)

// The operations as RFC 8894, section 4.1 spells them.
const (
	getCACaps     = "GetCACaps"
	getCACert     = "GetCACert"
	getNextCACert = "GetNextCACert"
	pkiOperation  = "PKIOperation"
	unknown       = "unknown"
)

// operations maps what devices and scripts ask for, lower case. GetCACerts is
// what Microsoft's validation script says, GetCACertChain an old draft.
var operations = map[string]string{
	"getcacaps": getCACaps, "getcacert": getCACert, "getcacerts": getCACert, "getcacertchain": getCACert,
	"getnextcacert": getNextCACert, "pkioperation": pkiOperation,
}

// exchange is one HTTP request on its way to an answer.
type exchange struct {
	*Handler
	w        http.ResponseWriter
	r        *http.Request
	endpoint *Endpoint
	log      *zap.Logger
	start    time.Time
	source   netip.Addr
	event    Event
	written  bool

	id     string       // transactionID as it came
	reason string       // of a refusal or an error, for the log
	ndes   eventid.NDES // the nearest event of NDES, 0 for none
}

// serve finds the operation and answers it.
func (x *exchange) serve() {
	if len(x.r.RequestURI) > x.limits.MaxURL || len(x.r.URL.RawQuery) > x.limits.MaxURL {
		x.text(http.StatusRequestURITooLong, "URL too long")
		return
	}
	if x.endpoint == nil {
		x.text(http.StatusNotFound, "not found")
		return
	}
	x.event.Endpoint = x.endpoint.Name
	x.source = x.limits.Source(x.r)
	switch x.r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
	default:
		x.w.Header().Set("Allow", "GET, POST, HEAD")
		x.text(http.StatusMethodNotAllowed, "method not allowed")
		return
	}
	name, found := parameter(x.r.URL.RawQuery, "operation")
	if name = strings.TrimSpace(unescape(name)); !found || name == "" {
		x.bare()
		return
	}
	x.event.Operation = cmp.Or(operations[strings.ToLower(name)], unknown)
	switch x.event.Operation {
	case getCACaps:
		x.caCaps()
	case getCACert:
		x.caCert()
	case getNextCACert:
		x.nextCACert()
	case pkiOperation:
		x.pkiOperation()
	default:
		if x.endpoint.NDESCompatible && x.r.Method != http.MethodPost {
			x.bare()
			return
		}
		x.text(http.StatusBadRequest, "unknown operation")
	}
}

func (x *exchange) caCaps() {
	ra := x.endpoint.RA()
	if ra == nil {
		x.unavailable("RA keys are not ready", x.endpoint.RetryAfter)
		return
	}
	var body string
	if x.endpoint.Capabilities != nil {
		body = x.endpoint.Capabilities()
	} else {
		body = scep.Capabilities(x.endpoint.Algorithms, ra.Next != nil)
	}
	x.respond(http.StatusOK, "text/plain", []byte(body))
}

// caCert answers with the RA and CA certificates. The CA identifier in message
// is ignored: devices send anything, and certmonger counts 0, 1, 2 … until
// answers repeat.
func (x *exchange) caCert() {
	ra := x.endpoint.RA()
	if ra == nil {
		x.ndes = eventid.NoCACertificates
		x.unavailable("RA keys are not ready", x.endpoint.RetryAfter)
		return
	}
	body, contentType := ra.CACert()
	x.respond(http.StatusOK, contentType, body)
}

// unavailable answers 503: devices come again, and unlike 429 all of them
// understand it.
func (x *exchange) unavailable(reason string, after time.Duration) {
	x.unavailableWith("service unavailable", reason, after)
}

// unavailableWith is unavailable with words of its own.
func (x *exchange) unavailableWith(line, reason string, after time.Duration) {
	x.reason = reason
	seconds := max(1, int((after+time.Second-1)/time.Second))
	x.w.Header().Set("Retry-After", strconv.Itoa(seconds))
	x.text(http.StatusServiceUnavailable, line)
}

// limited answers 503 for a limit, and says for which. Nothing of the message
// was opened yet, so nothing of it can show.
func (x *exchange) limited(which string, after time.Duration) {
	x.event.Limited = which
	x.unavailableWith("service unavailable: "+which, "limit: "+which, after)
}

// text answers with one line for people.
func (x *exchange) text(status int, line string) {
	if x.reason == "" {
		x.reason = line
	}
	x.respond(status, "text/plain", []byte(line+"\n"))
}

func (x *exchange) html(status int, page string) { x.respond(status, "text/html", []byte(page)) }

// respond sends the one answer of the exchange. Content types go out without
// parameters, because some clients compare them exactly; nothing is cached and
// nothing redirected.
func (x *exchange) respond(status int, contentType string, body []byte) {
	header := x.w.Header()
	header["Content-Type"] = []string{contentType}
	header["Content-Length"] = []string{strconv.Itoa(len(body))}
	header["Cache-Control"] = []string{"no-store"}
	header["X-Content-Type-Options"] = []string{"nosniff"}
	x.event.HTTPStatus, x.written = status, true
	x.w.WriteHeader(status)
	if x.r.Method != http.MethodHead {
		x.w.Write(body) // a device that hung up is no error of ours
	}
}

// finish survives a panic, logs and counts.
func (x *exchange) finish() {
	if v := recover(); v != nil {
		if v == http.ErrAbortHandler {
			panic(v)
		}
		x.log.Error("scep exchange panicked", zap.String("endpoint", x.event.Endpoint), zap.String("operation", x.event.Operation),
			zap.String("panic", fmt.Sprint(v)), zap.StackSkip("stack", 1))
		if x.written {
			defer panic(http.ErrAbortHandler) // the answer is cut off
		} else {
			x.text(http.StatusInternalServerError, "internal error")
		}
	}
	x.event.Duration = time.Since(x.start)
	x.access()
	if x.observer != nil {
		x.observer.Observe(x.event)
	}
}
