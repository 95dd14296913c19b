package certsrv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/negotiate"
)

// maxReply bounds an answer.
const maxReply = 1 << 20

// userAgent makes the server send certificates as what they are: it looks for
// a browser.
const userAgent = "Mozilla/5.0 (compatible; certconnector)"

func (c *CA) get(ctx context.Context, step, page string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base.String()+page, nil)
	if err != nil {
		return nil, fmt.Errorf("CA %s, %s: %w", c.Name, step, err)
	}
	return c.do(step, req)
}

func (c *CA) post(ctx context.Context, step string, form url.Values) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base.String()+"certfnsh.asp", strings.NewReader(form.Encode()))
	if err != nil {
		return nil, fmt.Errorf("CA %s, %s: %w: %w", c.Name, step, ca.ErrUnavailable, err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return c.do(step, req)
}

// do sends a request and returns the body of an answer of status 200 that
// fits. Its errors wrap ErrUnavailable where the pages surely
// did not see it, else ErrOutcomeUnknown.
func (c *CA) do(step string, req *http.Request) ([]byte, error) {
	req.Header.Set("User-Agent", userAgent)
	resp, err := c.client.Do(req)
	if err != nil {
		if inner, ok := errors.AsType[*url.Error](err); ok {
			err = inner.Err // the URL says less than the CA's name
		}
		if errors.Is(err, negotiate.ErrNotSent) {
			return nil, fmt.Errorf("CA %s, %s: %w: %w", c.Name, step, ca.ErrUnavailable, err)
		}
		return nil, fmt.Errorf("CA %s, %s: %w: %w", c.Name, step, ca.ErrOutcomeUnknown, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		io.Copy(io.Discard, io.LimitReader(resp.Body, maxReply))
		return nil, c.status(step, resp)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxReply+1))
	if err != nil {
		return nil, fmt.Errorf("CA %s, %s: %w: the answer breaks off: %w", c.Name, step, ca.ErrOutcomeUnknown, err)
	}
	if len(body) > maxReply {
		return nil, fmt.Errorf("CA %s, %s: %w: the answer is longer than %d bytes", c.Name, step, ca.ErrOutcomeUnknown, maxReply)
	}
	return body, nil
}

// status is the error of an answer that is not 200. Of the pages themselves
// none is: these come from the web server before them, or after they broke.
func (c *CA) status(step string, resp *http.Response) error {
	kind, do := ca.ErrOutcomeUnknown, "look into the web server's log"
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		kind, do = ca.ErrUnavailable, "check user and password or keytab, the service principal name "+
			"HTTP/host, the clocks, that this way to sign in ("+c.Mechanism()+") is switched on for /certsrv, and channel binding where Extended Protection is required"
	case http.StatusForbidden:
		kind, do = ca.ErrUnavailable, "the web server wants a client certificate, or does not let the account or address in"
	case http.StatusNotFound:
		kind, do = ca.ErrUnavailable, "web enrollment is not at this address"
	case http.StatusServiceUnavailable:
		do = "is the application pool stopped?"
	}
	if resp.StatusCode/100 == 3 {
		// A redirection is not followed: nothing that the CA shows needs one.
		target := "nowhere"
		if u, err := resp.Location(); err == nil {
			target = u.Host
		}
		do = "it redirects to " + target + ", where neither requests nor credentials are sent: correct the address"
		if resp.StatusCode != http.StatusFound && resp.StatusCode != http.StatusSeeOther {
			kind = ca.ErrUnavailable // 302 and 303 may come after the work was done
		}
	}
	return fmt.Errorf("CA %s, %s: %w: the web server answers %d: %s", c.Name, step, kind, resp.StatusCode, do)
}

// unknown is the error of an answer that was not understood, with its start.
func (c *CA) unknown(step, what string, body []byte) error {
	return fmt.Errorf("CA %s, %s: %w: %s, it begins with %q: check the address, and that nothing between answers in the CA's place",
		c.Name, step, ca.ErrOutcomeUnknown, what, excerpt(body))
}

// excerpt is the start of a page without markup.
func excerpt(body []byte) string {
	s := text(body[:min(len(body), 2048)])
	if bytes.ContainsRune(body[:min(len(body), 64)], 0) {
		return "binary data"
	}
	if r := []rune(s); len(r) > 200 {
		s = string(r[:200]) + "…"
	}
	return s
}
