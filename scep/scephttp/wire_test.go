package scephttp_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
	"github.com/certconnector/certconnector/scep/scephttp"
)

// send writes octets to a fresh connection and returns the answer.
func send(t *testing.T, server, octets string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(server, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(conn, octets); err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestWire sends what no Go client sends: HTTP/1.0, chunks, raw characters and
// very long lines.
func TestWire(t *testing.T) {
	a := newAuthority(t, false)
	h, w := handler(t, scephttp.Limits{}, a.endpoint())
	server := serve(t, h)
	der := a.message(t, scepclient.Quirks{}, "open sesame").Raw
	ber := a.message(t, scepclient.Quirks{Encoding: scepclient.BER}, "open sesame").Raw
	long := a.message(t, scepclient.Quirks{}, strings.Repeat("x", 29000)).Raw
	target := path + "?operation=PKIOperation"
	chunks := func(b []byte) string {
		var s strings.Builder
		for len(b) > 0 {
			n := min(777, len(b))
			fmt.Fprintf(&s, "%x\r\n%s\r\n", n, b[:n])
			b = b[n:]
		}
		return s.String() + "0\r\n\r\n"
	}
	for name, row := range map[string]struct {
		octets string
		want   scep.Status
	}{
		"HTTP/1.0 GET (Cisco)":    {"GET " + target + "&message=" + scepclient.Escape(der, scepclient.EscapeLines) + " HTTP/1.0\r\nUser-Agent: MSIE 5.0; Cisco PKI\r\n\r\n", scep.Success},
		"HTTP/1.0 POST":           {fmt.Sprintf("POST %s HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s", target, len(der), der), scep.Success},
		"chunked POST":            {"POST " + target + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks(der), scep.Success},
		"raw plus, slash, equals": {"GET " + target + "&message=" + scepclient.Escape(ber, scepclient.EscapeNone) + " HTTP/1.1\r\nHost: x\r\n\r\n", scep.Success},
		"URL of 40 KB":            {"GET " + target + "&message=" + scepclient.Escape(long, scepclient.EscapePadded) + " HTTP/1.1\r\nHost: x\r\n\r\n", scep.Failure},
	} {
		t.Run(name, func(t *testing.T) {
			r := send(t, server, row.octets)
			if r.StatusCode != 200 || r.Header.Get("Content-Type") != "application/x-pki-message" || r.ContentLength <= 0 {
				t.Fatalf("status %d, Content-Type %q, length %d", r.StatusCode, r.Header.Get("Content-Type"), r.ContentLength)
			}
			if n, _ := io.Copy(io.Discard, r.Body); n != r.ContentLength {
				t.Errorf("%d octets came, %d were announced", n, r.ContentLength)
			}
			if e := w.last(t); e.Status != row.want {
				t.Errorf("status %v, want %v", e.Status, row.want)
			}
		})
	}
}

// TestChunkedBodyIsLimited although it announces no length.
func TestChunkedBodyIsLimited(t *testing.T) {
	a := newAuthority(t, false)
	h, _ := handler(t, scephttp.Limits{}, a.endpoint())
	r, err := http.Post(serve(t, h)+path+"?operation=PKIOperation", "", struct{ io.Reader }{io.LimitReader(zeros{}, 3<<20)})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d, want 413", r.StatusCode)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = '0'
	}
	return len(b), nil
}

// pipes is a listener without a network, for a server in a bubble.
type pipes struct {
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.accept:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.IPAddr{IP: net.IPv4(127, 0, 0, 1)} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.accept <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestHeldExchangeOutlivesServerTimeouts: a server's write timeout would cut
// off the answer of an exchange that an enroller holds open.
func TestHeldExchangeOutlivesServerTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t, false)
		a.before = func(ctx context.Context) {
			select {
			case <-ctx.Done():
				t.Errorf("the context of a held exchange ended: %v", context.Cause(ctx))
			case <-time.After(25 * time.Second):
			}
		}
		h, w := handler(t, scephttp.Limits{}, a.endpoint())
		listener := &pipes{accept: make(chan net.Conn), closed: make(chan struct{})}
		server := &http.Server{Handler: h, ReadTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second}
		var serving sync.WaitGroup
		serving.Go(func() { _ = server.Serve(listener) })
		transport := &http.Transport{DialContext: listener.dial}
		defer func() {
			transport.CloseIdleConnections()
			_ = server.Close()
			serving.Wait()
		}()
		for name, q := range map[string]scepclient.Quirks{"POST": {}, "GET": {AlwaysGET: true}} {
			c := &scepclient.Client{URL: "http://scep.example.test" + path, Quirks: q, HTTP: &http.Client{Transport: transport}}
			for range 2 { // the second on the same connection
				r, err := c.Enroll(t.Context(), device("open sesame"))
				if err != nil || r.Status != scep.Success {
					t.Fatalf("%s: %+v, %v; observed %+v", name, r, err, w.last(t))
				}
			}
		}
	})
}

// TestDeviceHangsUp ends the context of Enroll and breaks nothing.
func TestDeviceHangsUp(t *testing.T) {
	a := newAuthority(t, false)
	entered, ended := make(chan struct{}), make(chan error, 1)
	a.before = func(ctx context.Context) {
		close(entered)
		<-ctx.Done()
		ended <- ctx.Err()
	}
	a.err = errDown
	h, w := handler(t, scephttp.Limits{}, a.endpoint())
	c := &scepclient.Client{URL: serve(t, h) + path}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-entered
		cancel()
	}()
	m := a.message(t, c.Quirks, "open sesame")
	if _, err := c.Send(ctx, m); err == nil {
		t.Fatal("the device got an answer after it hung up")
	}
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("the enroller's context did not end")
	}
	first := w.await(t) // nobody waited for its end
	a.set(func() { a.before, a.err = nil, nil })
	if r, err := c.Send(t.Context(), m); err != nil || r.Status != scep.Success {
		t.Fatalf("the same message again: %+v, %v", r, err)
	}
	if first.HTTPStatus != 499 || first.Replied {
		t.Errorf("observed %+v, want 499", first)
	}
}
