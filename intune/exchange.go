package intune

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"
)

// exchange is one request with a bearer token and its answer.
type exchange struct {
	call        string
	token       *token
	limit       int64
	transaction string   // for the log
	secrets     []string // what the answer must not be quoted with
}

// exchange sends a request with a bearer token and an activity ID of its own
// and returns the body of a 2xx answer, and the activity ID. It logs what
// support asks for.
func (c *Client) exchange(req *http.Request, x exchange) (body []byte, activity string, err error) {
	defer c.observe(x.call, time.Now(), &err)
	activity = newGUID()
	req.Header.Set("Authorization", "Bearer "+x.token.value)
	req.Header.Set("client-request-id", activity)
	req.Header.Set("User-Agent", c.config.Provider)
	req.Header.Set("Accept", "application/json")

	start := time.Now()
	resp, body, err := c.send(req, x.limit)
	fields := []zap.Field{
		zap.String("call", x.call), zap.String("activity_id", activity),
		zap.String("host", req.URL.Host), zap.Duration("latency", time.Since(start)),
	}
	if x.transaction != "" {
		fields = append(fields, zap.String("transaction_id", x.transaction))
	}
	if err != nil {
		c.log.Info("cloud did not answer", append(fields, zap.Error(err))...)
		return nil, activity, networkError(x.call, req.URL.Host, err)
	}
	c.log.Info("cloud answered", append(fields, zap.Int("status", resp.StatusCode))...)
	if resp.StatusCode/100 == 2 {
		return body, activity, nil
	}
	e := &HTTPError{
		Call: x.call, Host: req.URL.Host, Status: resp.StatusCode, ActivityID: activity,
		RequestID: clean(resp.Header.Get("request-id")), After: retryAfter(resp.Header, c.config.Clock()),
	}
	e.Code, e.Message = parseErrorBody(body)
	secrets := append(append(c.secrets(), x.token.value), x.secrets...)
	e.Code, e.Message = clean(e.Code, secrets...), clean(e.Message, secrets...)
	return nil, activity, e
}

// parseErrorBody finds code and message in the bodies that Graph and Intune
// send with an error. A body of another form, such as a proxy's page, has
// neither.
func parseErrorBody(body []byte) (code, message string) {
	var b struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
		Old struct {
			Code    string `json:"code"`
			Message struct {
				Value string `json:"value"`
			} `json:"message"`
		} `json:"odata.error"`
		Message string `json:"Message"`
	}
	if json.Unmarshal(body, &b) != nil {
		return "", ""
	}
	code, message = b.Error.Code, b.Error.Message
	if code == "" {
		code = b.Old.Code
	}
	for _, m := range []string{b.Old.Message.Value, b.Message} {
		if message == "" {
			message = m
		}
	}
	// Intune's front ends put a JSON text into the message.
	var inner struct {
		Message string `json:"Message"`
	}
	if json.Unmarshal([]byte(message), &inner) == nil && inner.Message != "" {
		message = inner.Message
	}
	return code, message
}

// post is one action of a discovered service.
type post struct {
	call        string // last segment of the suffix, for errors and logs
	service     string
	suffix      string
	version     string // api-version header
	transaction string
	body        []byte
	secrets     []string
	limit       int64         // bytes of the answer, 0: maxAnswer
	timeout     time.Duration // of one attempt
	total       time.Duration // of all attempts, 0: Timeouts.Total
	attempts    int           // in all, for trouble that passes
	on500       int           // how often a 500 may be answered with another attempt
}

// post sends an action until there is an answer, as long as trying again may
// help: passing trouble by its schedule; an unknown token, a wrong address
// once each, with a new token or address.
func (c *Client) post(ctx context.Context, p post) ([]byte, string, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(p.total, c.config.Timeouts.Total))
	defer cancel()
	var renewed, moved bool
	for attempt := 1; ; {
		uris, dir, err := c.locator.lookup(ctx, p.service)
		if err != nil {
			return nil, "", err
		}
		tok, err := c.intuneTokens.get(ctx)
		if err != nil {
			return nil, "", err
		}
		body, activity, err := c.postAny(ctx, p, dir, uris, tok)
		if err == nil {
			return body, activity, nil
		}
		switch remedy(err) {
		case renewToken:
			if renewed || !c.intuneTokens.drop(tok) {
				return nil, activity, err
			}
			renewed = true
			continue
		case rediscover:
			if moved || !c.locator.distrust(dir) {
				break // as any other trouble
			}
			moved = true
			continue
		}
		if !p.worthRepeating(err) || attempt >= p.attempts || !c.pause(ctx, err, c.config.Backoff.Delay(attempt)) {
			return nil, activity, err
		}
		if e, ok := errors.AsType[*HTTPError](err); ok && e.Status == http.StatusInternalServerError {
			p.on500--
		}
		attempt++
	}
}

// postAny tries the addresses of a service in turn while they cannot be
// reached.
func (c *Client) postAny(ctx context.Context, p post, dir *directory, uris []string, tok *token) (body []byte, activity string, err error) {
	for i, base := range uris {
		body, activity, err = c.postOnce(ctx, p, base, tok)
		e, ok := errors.AsType[*NetworkError](err)
		if !ok || !e.Connect || !Retryable(err) || ctx.Err() != nil {
			if i > 0 {
				c.locator.prefer(dir, p.service, base)
			}
			break
		}
		if i+1 < len(uris) {
			c.log.Warn("address of the service cannot be reached, trying its next", zap.Error(err))
		}
	}
	return body, activity, err
}

func (c *Client) postOnce(ctx context.Context, p post, base string, tok *token) ([]byte, string, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	u, err := url.Parse(base + "/" + p.suffix)
	if err != nil {
		return nil, "", &ProtocolError{Call: p.call, Detail: "malformed address of the service"}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.String(), bytes.NewReader(p.body))
	if err != nil {
		return nil, "", &ProtocolError{Call: p.call, Detail: "malformed address of the service"}
	}
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("api-version", p.version)
	// Microsoft's Java library sends the provider under this name.
	req.Header["UserAgent"] = []string{c.config.Provider}
	return c.exchange(req, exchange{
		call: p.call, token: tok, limit: cmp.Or(p.limit, maxAnswer), transaction: p.transaction, secrets: p.secrets,
	})
}

// A cure is what may be done at once about a failed action.
type cure int

const (
	waitForIt cure = iota
	renewToken
	rediscover
)

func remedy(err error) cure {
	if e, ok := errors.AsType[*HTTPError](err); ok {
		switch e.Status {
		case http.StatusUnauthorized, http.StatusForbidden:
			return renewToken
		case http.StatusNotFound, http.StatusGone, http.StatusMisdirectedRequest,
			http.StatusMovedPermanently, http.StatusFound, http.StatusPermanentRedirect:
			return rediscover
		}
	}
	if e, ok := errors.AsType[*NetworkError](err); ok && e.Connect && Retryable(err) {
		return rediscover
	}
	return waitForIt
}

// worthRepeating tells whether an action may be sent again after err.
func (p post) worthRepeating(err error) bool {
	e, ok := errors.AsType[*HTTPError](err)
	if !ok {
		_, network := errors.AsType[*NetworkError](err)
		return network && Retryable(err)
	}
	switch e.Status {
	case http.StatusInternalServerError:
		return p.on500 > 0
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return e.After <= patience
	}
	return false
}

// suffixName is the last segment of an action's path.
func suffixName(suffix string) string { return suffix[strings.LastIndexByte(suffix, '/')+1:] }
