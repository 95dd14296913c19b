package crphttp

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/webauth"
	"github.com/certconnector/certconnector/policymodule"
)

// The names of the rules that stand in a problem document (RFC 9457), in its
// member rule; those of internal/webauth stand there too.
const (
	RuleCaller          policymodule.Reason = "caller_not_identified"
	RuleTenant          policymodule.Reason = "tenant_not_allowed"
	RuleBody            policymodule.Reason = "body_malformed"
	RuleNoVerdict       policymodule.Reason = "notify_without_verdict"
	RuleNotifyRefused   policymodule.Reason = "notify_refused"
	RuleOutcomeDiffers  policymodule.Reason = "outcome_differs"
	RuleCertificate     policymodule.Reason = "certificate_not_of_request"
	RuleCouldNotAsk     policymodule.Reason = "could_not_ask"
	RuleCouldNotTell    policymodule.Reason = "could_not_tell"
	RuleBusy            policymodule.Reason = "too_many_requests"
	RuleTooManyFailures policymodule.Reason = "too_many_failures"
)

const (
	jsonType    = "application/json"
	problemType = "application/problem+json"
)

// rootPage is what a browser sees that opens the service, as with Microsoft's.
const rootPage = `<!DOCTYPE html><html><head><title>403 Forbidden</title></head><body><h1>403 Forbidden</h1><p>The certificate registration point runs. It answers registered front ends only.</p></body></html>
`

// exchange is one HTTP request on its way to an answer.
type exchange struct {
	*Handler
	w        http.ResponseWriter
	r        *http.Request
	log      *zap.Logger
	start    time.Time
	frontEnd FrontEnd
	tenant   string
	request  []zap.Field // what audit lines say about it
	status   int
}

// problem is an answer of status 4xx or 5xx (RFC 9457) in place of the one
// that was asked for.
type problem struct {
	status int
	rule   policymodule.Reason
	detail string        // for the caller: nothing secret, nothing of the caller's own bytes
	after  time.Duration // of a 503
	cause  error         // for the log
	fault  bool          // the front end itself is to blame
}

// serve finds the method and answers it.
func (x *exchange) serve() {
	path := x.r.URL.Path
	var do func([]byte) *problem
	switch {
	case strings.EqualFold(path, VerifyPath):
		do = x.verify
	case strings.EqualFold(path, NotifyPath):
		do = x.notify
	case strings.EqualFold(strings.TrimSuffix(path, "/"), Root):
		x.respond(http.StatusForbidden, "text/html; charset=utf-8", []byte(rootPage))
		return
	default:
		x.refuse(&problem{status: http.StatusNotFound, rule: "not_found", detail: "the registration point has no such method"})
		return
	}
	if x.r.Method != http.MethodPost {
		x.w.Header().Set("Allow", http.MethodPost)
		x.refuse(&problem{status: http.StatusMethodNotAllowed, rule: "method_not_allowed", detail: "use POST"})
		return
	}
	if p := x.answer(do); p != nil {
		x.refuse(p)
	}
}

// answer identifies the caller before it reads a byte of the body: strangers
// take up nothing.
func (x *exchange) answer(do func([]byte) *problem) *problem {
	if p := x.identify(); p != nil {
		return p
	}
	if !x.failures.allows(x.frontEnd.Name) {
		return x.later(RuleTooManyFailures, "this front end sent too much that was wrong", nil)
	}
	select {
	case x.slots <- struct{}{}:
		defer func() { <-x.slots }()
	default:
		return x.later(RuleBusy, "too many requests are under way", nil)
	}
	body, p := x.body()
	if p == nil {
		p = do(body)
	}
	if p != nil && p.fault {
		x.failures.count(x.frontEnd.Name)
	}
	return p
}

func (x *exchange) identify() *problem {
	name, err := x.config.Identify(x.r)
	known := false
	if err == nil {
		x.frontEnd, known = x.frontEnds[name]
	}
	switch refusal, ok := errors.AsType[*webauth.Refusal](err); {
	case ok:
		return &problem{status: http.StatusForbidden, rule: policymodule.Reason(refusal.Rule), detail: "the client certificate breaks this rule", cause: err}
	case err != nil:
		return &problem{status: http.StatusForbidden, rule: RuleCaller, detail: "who asks cannot be told", cause: err}
	case !known:
		return &problem{status: http.StatusForbidden, rule: webauth.RuleName, detail: "no such front end is configured", cause: fmt.Errorf("front end %q is not configured", name)}
	}
	x.log = x.log.With(zap.String("front_end", name))
	return nil
}

func (x *exchange) body() ([]byte, *problem) {
	mediaType, parameters, err := mime.ParseMediaType(x.r.Header.Get("Content-Type"))
	charset := parameters["charset"]
	if err != nil || mediaType != jsonType || charset != "" && !strings.EqualFold(charset, "utf-8") || x.r.Header.Get("Content-Encoding") != "" {
		return nil, &problem{status: http.StatusUnsupportedMediaType, rule: "content_type", detail: "send application/json in UTF-8, not compressed", fault: true}
	}
	body, err := io.ReadAll(http.MaxBytesReader(x.w, x.r.Body, x.limits.MaxBody))
	if _, big := errors.AsType[*http.MaxBytesError](err); big {
		return nil, &problem{status: http.StatusRequestEntityTooLarge, rule: "body_too_large", detail: fmt.Sprintf("at most %d octets are read", x.limits.MaxBody), fault: true}
	}
	if err != nil {
		return nil, malformed(errors.New("the body was cut off"))
	}
	return body, nil
}

func malformed(err error) *problem {
	return &problem{status: http.StatusBadRequest, rule: RuleBody, detail: err.Error(), fault: true}
}

// chooseTenant finds whom the caller may ask, and asks.
func (x *exchange) chooseTenant(named string) (policymodule.Module, *problem) {
	x.tenant = named
	if named == "" {
		x.tenant = x.frontEnd.Tenants[0]
	} else if !slices.Contains(x.frontEnd.Tenants, named) {
		return nil, &problem{status: http.StatusForbidden, rule: RuleTenant, detail: "this front end may not ask that tenant", fault: true}
	}
	return x.config.Modules[x.tenant], nil
}

// later is a 503, with the cloud's own Retry-After where it sent one.
func (x *exchange) later(rule policymodule.Reason, detail string, cause error) *problem {
	p := &problem{status: http.StatusServiceUnavailable, rule: rule, detail: detail, cause: cause, after: x.limits.RetryAfter}
	var asks interface{ RetryAfter() time.Duration }
	if errors.As(cause, &asks) && asks.RetryAfter() > 0 {
		p.after = min(asks.RetryAfter(), mostRetryAfter)
	}
	return p
}

// refuse sends a problem document and logs it. Strangers' lines are limited:
// they could fill the disk.
func (x *exchange) refuse(p *problem) {
	if p.after > 0 {
		x.w.Header().Set("Retry-After", strconv.Itoa(max(1, int((p.after+time.Second-1)/time.Second))))
	}
	x.send(p.status, problemType, struct {
		Rule   policymodule.Reason `json:"rule"`
		Status int                 `json:"status"`
		Title  string              `json:"title"`
		Detail string              `json:"detail"`
	}{p.rule, p.status, http.StatusText(p.status), p.detail})
	stranger := x.frontEnd.Name == ""
	if stranger && !x.failures.allows("") {
		return
	}
	if stranger {
		x.failures.count("")
	}
	x.log.Warn("registration point request not served", zap.String("source", x.r.RemoteAddr), zap.String("rule", string(p.rule)),
		zap.Int("http_status", p.status), zap.String("detail", p.detail), zap.Error(p.cause))
}

func (x *exchange) send(status int, contentType string, answer any) {
	body, err := json.Marshal(answer)
	if err != nil { // answers are made of text, numbers and truth values
		panic(fmt.Sprintf("answer: %v", err))
	}
	x.respond(status, contentType, body)
}

// respond sends the one answer of the exchange.
func (x *exchange) respond(status int, contentType string, body []byte) {
	header := x.w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	if body != nil {
		header.Set("Content-Type", contentType)
		header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	x.status = status
	x.w.WriteHeader(status)
	if body != nil && x.r.Method != http.MethodHead {
		x.w.Write(body) // a caller that hung up asks again
	}
}

// finish survives a panic.
func (x *exchange) finish() {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v)
	}
	x.log.Error("registration point request panicked", zap.String("panic", fmt.Sprint(v)), zap.StackSkip("stack", 1))
	if x.status != 0 {
		panic(http.ErrAbortHandler) // the answer is cut off
	}
	x.refuse(&problem{status: http.StatusInternalServerError, rule: "internal_error", detail: "see the registration point's log"})
}
