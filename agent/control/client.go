package control

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"github.com/certconnector/certconnector/ca"
)

// maxAnswer bounds what a command reads.
const maxAnswer = 64 << 20

// Client speaks to a running service. It implements Service; what the service
// declines is an *Error.
type Client struct {
	http *http.Client
	path string
}

// Dial connects to the control socket, so that a service that does not run is
// told apart at once.
func Dial(path string) (*Client, error) {
	dial := func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	probe, err := dial(context.Background())
	if err != nil {
		return nil, fmt.Errorf("the service does not answer at %q: is it running, and may this account use it? (%w)", path, err)
	}
	_ = probe.Close() // nothing was sent
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
	}
	return &Client{http: &http.Client{Transport: transport}, path: path}, nil
}

// Status asks how the service is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	err := c.do(ctx, http.MethodGet, "/v1/status", nil, &s)
	return s, err
}

// Requests lists enrolments.
func (c *Client) Requests(ctx context.Context, f Filter) ([]Request, error) {
	q := url.Values{"state": f.States}
	if f.Endpoint != "" {
		q.Set("endpoint", f.Endpoint)
	}
	if f.Limit > 0 {
		q.Set("limit", strconv.Itoa(f.Limit))
	}
	var list []Request
	err := c.do(ctx, http.MethodGet, "/v1/requests?"+q.Encode(), nil, &list)
	return list, err
}

// Approve lets a parked request be issued.
func (c *Client) Approve(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodPost, "/v1/requests/"+url.PathEscape(id)+"/approve", struct{}{}, nil)
}

// Deny refuses a parked request for good.
func (c *Client) Deny(ctx context.Context, id, why string) error {
	return c.do(ctx, http.MethodPost, "/v1/requests/"+url.PathEscape(id)+"/deny", denial{Why: why}, nil)
}

// Revoke revokes a certificate.
func (c *Client) Revoke(ctx context.Context, caName, serial string, reason ca.Reason) error {
	return c.do(ctx, http.MethodPost, "/v1/revoke", revocation{CA: caName, Serial: serial, Reason: reason.String()}, nil)
}

// NewChallenge has a challenge made.
func (c *Client) NewChallenge(ctx context.Context, w Wish) (Challenge, error) {
	var made Challenge
	err := c.do(ctx, http.MethodPost, "/v1/challenges", w, &made)
	return made, err
}

// Trace asks what became of the requests of a transaction.
func (c *Client) Trace(ctx context.Context, transactionID string) ([]TraceEvent, error) {
	var events []TraceEvent
	err := c.do(ctx, http.MethodGet, "/v1/trace?"+url.Values{"transaction": {transactionID}}.Encode(), nil, &events)
	return events, err
}

func (c *Client) do(ctx context.Context, method, path string, body, into any) error {
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("encoding the command: %w", err)
		}
		content = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://control"+path, content)
	if err != nil {
		return fmt.Errorf("preparing the command: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("asking the service at %q: %w", c.path, err)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end or of no use
	d := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode != http.StatusOK {
		e := &Error{}
		if err := d.Decode(e); err != nil || e.Code == "" {
			return fmt.Errorf("the service answered with status %d: is it of another version?", resp.StatusCode)
		}
		return e
	}
	if into == nil {
		return nil
	}
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("reading the service's answer: %w", err)
	}
	return nil
}
