package intune

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
)

const (
	maxAnswer    = 1 << 20 // bytes of an answer
	maxDiscovery = 4 << 20 // bytes of a page of the service list
	maxAfter     = 10 * time.Minute
	patience     = 5 * time.Second // a longer Retry-After is left to the caller
)

// Names of the calls, in errors and logs.
const (
	callToken     = "token"
	callDiscovery = "discovery"
)

// The application roles that an app registration needs.
const (
	roleGraph  = "Application.Read.All"
	roleIntune = "scep_challenge_provider"
)

// Client speaks to the cloud for one tenant. It is safe for concurrent use.
type Client struct {
	config        Config
	log           *zap.Logger
	http          *http.Client
	inspections   inspections
	authorityHost string
	tokenURL      string

	graphTokens  *tokens
	intuneTokens *tokens
	locator      *locator
}

// New returns a Client, or everything that is wrong with its configuration. It
// sends nothing.
func New(config Config) (*Client, error) {
	cfg, err := config.complete()
	if err != nil {
		return nil, err
	}
	authority, err := url.Parse(cfg.Endpoints.Authority)
	if err != nil {
		return nil, fmt.Errorf("authority URL: %w", err)
	}
	c := &Client{
		config:        cfg,
		log:           cfg.Log,
		authorityHost: authority.Host,
		tokenURL:      cfg.Endpoints.Authority + cfg.TenantID + "/oauth2/v2.0/token",
	}
	c.http = c.newHTTPClient()
	c.graphTokens = &tokens{client: c, scope: cfg.Endpoints.Graph + ".default", role: roleGraph}
	// The resource already ends in a slash; see the package comment.
	c.intuneTokens = &tokens{client: c, scope: cfg.Endpoints.Resource + "/.default", role: roleIntune}
	c.locator = &locator{client: c}
	return c, nil
}

// Close closes connections that are not in use. The Client may be used on.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// errTooLong says that an answer was longer than any should be.
var errTooLong = errors.New("answer is too long")

// send sends a request and reads the answer to its end. The body of the
// answer can be read again.
func (c *Client) send(req *http.Request, limit int64) (*http.Response, []byte, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		// Without *url.Error, which repeats the whole address.
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err
		}
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, nil, fmt.Errorf("the answer broke off after %d bytes: %w", len(body), err)
	}
	if int64(len(body)) > limit {
		return nil, nil, errTooLong
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	return resp, body, nil
}

// retryAfter reads a Retry-After header: seconds, or a date. The Date header
// beside it keeps a wrong clock out of the difference. Parts of Graph send
// milliseconds in a header of their own instead.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if v == "" {
		n, _ := strconv.ParseUint(strings.TrimSpace(h.Get("x-ms-retry-after-ms")), 10, 31) // 0 when there is none
		return min(time.Duration(n)*time.Millisecond, maxAfter)
	}
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		return min(time.Duration(n)*time.Second, maxAfter)
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0
	}
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		now = date
	}
	return min(max(at.Sub(now), 0), maxAfter)
}

// secrets are the texts that every answer is cleaned of.
func (c *Client) secrets() []string {
	var s []string
	if v := c.config.Credential.Secret.Reveal(); v != "" {
		s = append(s, v, url.QueryEscape(v))
	}
	if v := c.config.Proxy.Password.Reveal(); v != "" {
		s = append(s, v)
	}
	return s
}
