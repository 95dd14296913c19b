package scepclient

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxBody is the most that is read of an answer: certificates and CRLs.
const maxBody = 16 << 20

// answer is a body with status 200.
type answer struct {
	contentType string
	body        []byte
}

// ask sends GetCACaps, GetCACert or GetNextCACert.
func (c *Client) ask(ctx context.Context, operation string) (*answer, error) {
	query := "operation=" + operation
	if !c.Quirks.OmitMessage {
		query += "&message=" + strings.ReplaceAll(url.QueryEscape(c.Quirks.CAIdentifier), "+", "%20")
	}
	return c.do(ctx, operation, http.MethodGet, query, nil)
}

// operate sends a PKIOperation.
func (c *Client) operate(ctx context.Context, message []byte, post bool) (*answer, error) {
	const operation = "PKIOperation"
	if post {
		return c.do(ctx, operation, http.MethodPost, "operation="+operation, message)
	}
	text := Escape(message, c.Quirks.Escaping)
	query := "operation=" + operation + "&message=" + text
	if c.Quirks.Escaping == EscapeURL {
		query = "message=" + text + "&operation=" + operation
	}
	return c.do(ctx, operation, http.MethodGet, query, nil)
}

// Escape writes a message the way a platform puts it into the query of a GET.
func Escape(message []byte, how Escaping) string {
	s := base64.StdEncoding.EncodeToString(message)
	switch how {
	case EscapePadded:
		return strings.ReplaceAll(s, "=", "%3D")
	case EscapeNone:
		return s
	case EscapeLines:
		var b strings.Builder
		for len(s) > 64 {
			b.WriteString(s[:64] + "%0A")
			s = s[64:]
		}
		b.WriteString(s + "%0A")
		return strings.ReplaceAll(b.String(), "+", "%2B")
	case EscapeURL:
		return strings.ReplaceAll(base64.URLEncoding.EncodeToString(message), "=", "%3D")
	}
	return strings.NewReplacer("+", "%2B", "/", "%2F", "=", "%3D").Replace(s)
}

// do sends one request and returns the body of a 200. The query goes out as
// it is.
func (c *Client) do(ctx context.Context, operation, method, query string, body []byte) (*answer, error) {
	target := strings.TrimSuffix(c.URL, "/") + c.Quirks.Suffix + "?" + query
	request, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s: the endpoint's URL cannot be used: %v", operation, stripURL(err))
	}
	if c.Quirks.UserAgent != "" {
		request.Header.Set("User-Agent", c.Quirks.UserAgent)
	}
	if method == http.MethodPost && c.Quirks.ContentType != "" {
		request.Header.Set("Content-Type", c.Quirks.ContentType)
	}
	response, err := c.http().Do(request)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", operation, stripURL(err))
	}
	defer response.Body.Close()
	content, err := io.ReadAll(io.LimitReader(response.Body, maxBody+1))
	if err != nil {
		return nil, fmt.Errorf("%s: reading the answer: %w", operation, err)
	}
	if response.StatusCode != http.StatusOK {
		seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
		return nil, &StatusError{Operation: operation, Code: response.StatusCode, RetryAfter: time.Duration(seconds) * time.Second}
	}
	if len(content) > maxBody {
		return nil, fmt.Errorf("%s: the answer is longer than %d octets", operation, maxBody)
	}
	return &answer{contentType: response.Header.Get("Content-Type"), body: content}, nil
}

// http returns a client that follows no redirect: many devices do not, and a
// redirected POST becomes a GET.
func (c *Client) http() *http.Client {
	h := http.Client{Timeout: time.Minute}
	if c.HTTP != nil {
		h = *c.HTTP
	}
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &h
}

// stripURL drops the URL from a transport error: its query is the message,
// and a log needs no 10 KB of base64.
func stripURL(err error) error {
	if u, ok := err.(*url.Error); ok { // Do returns exactly this type
		return u.Err
	}
	return err
}
