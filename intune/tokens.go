package intune

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/retry"
)

const (
	tokenRefresh  = 5 * time.Minute // before it ends, a token is renewed
	tokenReserve  = time.Minute     // an old token that is valid this long is still used when no new one can be had
	tokenAttempts = 3
	renewEvery    = 30 * time.Second // between attempts to renew a token that still serves
	dropEvery     = time.Minute      // at most so often a token is dropped or an address looked up anew
)

// token is an access token with what its claims say about it.
type token struct {
	value    string
	expires  time.Time
	roles    []string
	audience string
}

// tokens keeps the tokens of one scope.
type tokens struct {
	client *Client
	scope  string
	role   string // the application role that the calls need

	mu       sync.Mutex
	current  *token
	dropped  time.Time
	tried    time.Time // last renewal that failed while a token was held
	inFlight flight[*token]
}

// get returns a token that is good for a while.
func (t *tokens) get(ctx context.Context) (*token, error) {
	now := t.client.config.Clock()
	t.mu.Lock()
	held, tried := t.current, t.tried
	t.mu.Unlock()
	if held != nil && now.Add(tokenRefresh).Before(held.expires) {
		return held, nil
	}
	serves := held != nil && now.Add(tokenReserve).Before(held.expires)
	if serves && !tried.IsZero() && now.Sub(tried) < renewEvery {
		return held, nil
	}
	fresh, err := t.inFlight.do(ctx, func(ctx context.Context) (*token, error) { return t.renew(ctx, held, serves) })
	if err != nil && serves {
		t.client.log.Warn("token not renewed, using the old one", zap.String("scope", t.scope), zap.Error(err))
		return held, nil
	}
	return fresh, err
}

// renew fetches a token, unless another caller did since held was seen. Where
// the old one still serves, a sign-in that hangs must not use up the time of
// the call that waits.
func (t *tokens) renew(ctx context.Context, held *token, serves bool) (*token, error) {
	t.mu.Lock()
	cur := t.current
	t.mu.Unlock()
	if cur != nil && cur != held {
		return cur, nil
	}
	limited := ctx
	if serves {
		var cancel context.CancelFunc
		limited, cancel = context.WithTimeout(ctx, t.client.config.Timeouts.Renewal)
		defer cancel()
	}
	fresh, err := t.fetch(limited)
	if err != nil && serves {
		t.mu.Lock()
		t.tried = t.client.config.Clock()
		t.mu.Unlock()
	}
	return fresh, err
}

// fetch asks for a new token, and again when the cause may pass.
func (t *tokens) fetch(ctx context.Context) (*token, error) {
	for attempt := 1; ; attempt++ {
		start := t.client.config.Clock()
		at, err := t.client.signIn(ctx, t.scope)
		if err == nil {
			// The life time counts from our clock, which may be injected.
			tok := readToken(at.Token, start.Add(time.Until(at.ExpiresOn)))
			t.mu.Lock()
			t.current = tok
			t.mu.Unlock()
			t.client.log.Debug("token received", zap.String("scope", t.scope),
				zap.Strings("roles", tok.roles), zap.Time("expires", tok.expires))
			if !tok.has(t.role) {
				t.client.log.Warn("token lacks a role: grant it with admin consent",
					zap.String("scope", t.scope), zap.String("role", t.role))
			}
			return tok, nil
		}
		wait := t.client.config.Backoff.Delay(attempt)
		if attempt == tokenAttempts || !worthRepeating(err) || !t.client.pause(ctx, err, wait) {
			return nil, err
		}
	}
}

// drop forgets a token that a service did not take, so that the next get asks
// for another. It reports whether another can be had: not more than one a
// minute, for too many sign-ins get an application blocked (AADSTS50196).
func (t *tokens) drop(bad *token) bool {
	now := t.client.config.Clock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current != bad {
		return true // dropped by another caller already
	}
	if !t.dropped.IsZero() && now.Sub(t.dropped) < dropEvery {
		return false
	}
	t.current, t.dropped = nil, now
	return true
}

// readToken reads the claims of an access token. They are not verified: they
// only explain to an operator what a service will see.
func readToken(value string, expires time.Time) *token {
	t := &token{value: value, expires: expires}
	parts := strings.Split(value, ".")
	if len(parts) != 3 {
		return t
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return t
	}
	var claims struct {
		Roles    []string `json:"roles"`
		Audience string   `json:"aud"`
	}
	if json.Unmarshal(payload, &claims) == nil {
		for _, r := range claims.Roles {
			t.roles = append(t.roles, clean(r))
		}
		t.audience = clean(claims.Audience)
	}
	return t
}

func (t *token) has(role string) bool {
	for _, r := range t.roles {
		if r == role {
			return true
		}
	}
	return false
}

// worthRepeating tells whether a call that had no answer, or one of trouble
// that passes, should be repeated at once.
func worthRepeating(err error) bool {
	if e, ok := errors.AsType[*AuthError](err); ok {
		return e.Retryable && e.After <= patience
	}
	_, ok := errors.AsType[*NetworkError](err)
	return ok
}

// pause waits before the next attempt. It reports false when ctx ends first,
// or would.
func (c *Client) pause(ctx context.Context, cause error, wait time.Duration) bool {
	wait = max(wait, RetryAfter(cause))
	if ctx.Err() != nil {
		return false
	}
	if end, ok := ctx.Deadline(); ok && time.Until(end) < wait {
		return false
	}
	c.log.Warn("call to the cloud failed, trying again", zap.Error(cause), zap.Duration("delay", wait))
	return retry.Wait(ctx, wait) == nil
}
