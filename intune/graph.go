package intune

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Names of the calls of Microsoft Graph, in errors and logs.
const (
	callApplication = "application"
	callAddKey      = "addKey"
	callRemoveKey   = "removeKey"
	callUser        = "users"
	callCreatePFX   = "createUserPfxCertificate"
	callReadPFX     = "readUserPfxCertificate"
	callDeletePFX   = "deleteUserPfxCertificate"
)

// graphPermissions are the application permissions that Graph's documentation
// asks for.
var graphPermissions = map[string]string{
	callApplication: "Application.Read.All",
	callAddKey:      "Application.ReadWrite.OwnedBy",
	callRemoveKey:   "Application.ReadWrite.OwnedBy",
	callUser:        "User.Read.All",
	callCreatePFX:   "DeviceManagementConfiguration.ReadWrite.All",
	callReadPFX:     "DeviceManagementConfiguration.ReadWrite.All",
	callDeletePFX:   "DeviceManagementConfiguration.ReadWrite.All",
}

// ErrNotFound says that Graph does not have what was asked for.
var ErrNotFound = errors.New("not found in Microsoft Graph")

// ErrExists says that Graph has already what was to be made (HTTP 409).
var ErrExists = errors.New("exists in Microsoft Graph already")

// graphHint is a way out of an answer of Graph.
func graphHint(call, permission string, status int) string {
	keys := call == callAddKey || call == callRemoveKey
	switch {
	case status == http.StatusForbidden:
		return "grant " + permission + " (application permission of Microsoft Graph) with admin consent"
	case status == http.StatusUnauthorized && keys:
		return "the proof of possession was not accepted: it must be signed by a certificate that the app registration has now, by a clock that is right; or grant " +
			permission + " (application permission of Microsoft Graph) with admin consent"
	case status == http.StatusUnauthorized:
		return discoveryHints[status]
	}
	return ""
}

// graphCall is one call of Microsoft Graph.
type graphCall struct {
	call    string
	method  string
	address string
	content any      // of the body, nil: none
	repeat  bool     // it may be sent again though an answer may have got lost
	secrets []string // what the answer must not be quoted with
}

const graphAttempts = 3

// graph sends a call, with what retries are due: once with a new token, and a
// few times on passing trouble. A longer Retry-After is left to the caller.
func (c *Client) graph(ctx context.Context, g graphCall) ([]byte, error) {
	var body []byte
	if g.content != nil {
		var err error
		if body, err = json.Marshal(g.content); err != nil {
			return nil, fmt.Errorf("%w: %v", ErrArgument, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 2*c.config.Timeouts.Graph)
	defer cancel()
	renewed := false
	for attempt := 1; ; {
		tok, err := c.graphTokens.get(ctx)
		if err != nil {
			return nil, err
		}
		answer, err := c.graphOnce(ctx, g, body, tok)
		if err == nil {
			return answer, nil
		}
		if e, ok := errors.AsType[*HTTPError](err); ok &&
			(e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden) && !renewed && c.graphTokens.drop(tok) {
			// A token from before the admin consent lacks the role as long as it lives.
			renewed = true
			continue
		}
		if attempt >= graphAttempts || !g.worthRepeating(err) || !c.pause(ctx, err, c.config.Backoff.Delay(attempt)) {
			return nil, err
		}
		attempt++
	}
}

// worthRepeating tells whether a call may be sent again after err. One that
// makes something is repeated only when it was surely not carried out.
func (g graphCall) worthRepeating(err error) bool {
	if e, ok := errors.AsType[*NetworkError](err); ok {
		return (g.repeat || e.Connect) && Retryable(err)
	}
	e, ok := errors.AsType[*HTTPError](err)
	if !ok || e.After > patience {
		return false
	}
	return e.Status == http.StatusTooManyRequests || g.repeat && Retryable(err)
}

func (c *Client) graphOnce(ctx context.Context, g graphCall, body []byte, tok *token) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Timeouts.Graph)
	defer cancel()
	var content io.Reader
	if body != nil {
		content = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, g.method, g.address, content)
	if err != nil {
		return nil, &ProtocolError{Call: g.call, Detail: "malformed address"}
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json; charset=utf-8")
	}
	answer, _, err := c.exchange(req, exchange{call: g.call, token: tok, limit: maxAnswer, secrets: g.secrets})
	if e, ok := errors.AsType[*HTTPError](err); ok {
		switch e.Status {
		case http.StatusNotFound:
			err = fmt.Errorf("%w: %w", err, ErrNotFound)
		case http.StatusConflict:
			err = fmt.Errorf("%w: %w", err, ErrExists)
		}
	}
	return answer, err
}

// graphURL is an address below a version of Graph.
func (c *Client) graphURL(version, path string) string {
	return c.config.Endpoints.Graph + version + "/" + path
}

// odataText is a text in an OData expression, fit for a URL.
func odataText(s string) string {
	return "'" + strings.ReplaceAll(url.QueryEscape(strings.ReplaceAll(s, "'", "''")), "+", "%20") + "'"
}
