package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	defaultTimeout = 15 * time.Second
	maxHeader      = 32 << 10 // octets of a proxy's answer
)

// Through returns a way to dial hosts through the proxy, over connections that
// dial opens; nil: a net.Dialer. Without a proxy it is dial itself. What the
// proxy refuses, and a proxy that cannot be reached, is a *net.OpError of a
// dial, as of a host that cannot be reached, and in it an *Error.
func (c Config) Through(dial Dial) Dial {
	if dial == nil {
		dial = (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	if c.URL == "" {
		return dial
	}
	u, err := url.Parse(c.URL)
	if err != nil { // see Check
		return func(context.Context, string, string) (net.Conn, error) { return nil, c.Check() }
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	t := &tunneller{config: c, dial: dial, address: net.JoinHostPort(u.Hostname(), port)}
	if u.Scheme == "https" {
		t.tls = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.RootCAs, ServerName: u.Hostname()}
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if c.direct(address) {
			return dial(ctx, network, address)
		}
		conn, err := t.open(ctx, network, address)
		if err != nil {
			return nil, &net.OpError{Op: "dial", Net: network, Err: err}
		}
		return conn, nil
	}
}

// tunneller opens tunnels through one proxy.
type tunneller struct {
	config  Config
	dial    Dial
	address string      // of the proxy, host:port
	tls     *tls.Config // nil: plain HTTP
}

// open connects to the proxy and has it connect to the target.
func (t *tunneller) open(ctx context.Context, network, target string) (tunnel net.Conn, err error) {
	timeout := t.config.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	done, err := t.signIn(ctx, target)
	if err != nil {
		return nil, err
	}
	defer func() { done(err) }()
	conn, err := t.dial(ctx, network, t.address)
	if err != nil {
		return nil, t.failed(target, "cannot be reached", err)
	}
	if tunnel, err = t.connect(ctx, conn, target); err != nil {
		_ = conn.Close() // it is of no use
		return nil, err
	}
	return tunnel, nil
}

// connect asks for the tunnel on a connection. When the context ends, so does
// the wait.
func (t *tunneller) connect(ctx context.Context, conn net.Conn, target string) (net.Conn, error) {
	raw := conn
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if t.tls != nil {
		secured := tls.Client(conn, t.tls)
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, t.failed(target, "cannot be spoken to by TLS", err)
		}
		conn = secured
	}
	if err := t.ask(conn, target); err != nil {
		return nil, t.failed(target, "broke off", cause(ctx, err))
	}
	answers := bufio.NewReader(&io.LimitedReader{R: conn, N: maxHeader})
	answer, err := http.ReadResponse(answers, &http.Request{Method: http.MethodConnect})
	if err != nil {
		return nil, t.failed(target, notHTTP, cause(ctx, err))
	}
	if answer.StatusCode/100 != 2 {
		return nil, t.refused(target, answer)
	}
	early, err := answers.Peek(answers.Buffered())
	if err != nil {
		return nil, t.failed(target, "broke off", cause(ctx, err))
	}
	if !stop() {
		return nil, t.failed(target, "took too long", ctx.Err())
	}
	if len(early) > 0 {
		return &begun{Conn: conn, early: bytes.NewReader(early)}, nil
	}
	return conn, nil
}

// ask writes the request (RFC 9110, section 9.3.6).
func (t *tunneller) ask(conn net.Conn, target string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "CONNECT %[1]s HTTP/1.1\r\nHost: %[1]s\r\nUser-Agent: certconnector\r\n", target)
	if t.config.User != "" {
		pair := t.config.User + ":" + t.config.Password.Reveal()
		b.WriteString("Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(pair)) + "\r\n")
	}
	b.WriteString("\r\n")
	_, err := io.WriteString(conn, b.String())
	return err
}

// cause is the end of the context where that is why a read or write failed.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// begun is a tunnel whose other end spoke before it was asked to.
type begun struct {
	net.Conn
	early *bytes.Reader
}

func (b *begun) Read(p []byte) (int, error) {
	if b.early.Len() > 0 {
		return b.early.Read(p)
	}
	return b.Conn.Read(p)
}
