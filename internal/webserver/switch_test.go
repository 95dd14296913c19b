package webserver_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/internal/webserver"
)

// serveOne is like start for a test that switches the server.
func serveOne(t *testing.T, c webserver.Config) (s *webserver.Server, url string) {
	t.Helper()
	c.Address = "127.0.0.1:0"
	s, err := webserver.Listen(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s, "http://" + s.Addr().String()
}

func saying(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
}

// keeping returns a client that keeps its connection, and tells of each request
// whether it went through one that was there already.
func keeping(t *testing.T, config *tls.Config) func(url string) (body string, reused bool) {
	tr := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	return func(url string) (string, bool) {
		t.Helper()
		reused := false
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }})
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return string(b), reused
	}
}

func TestSwitchKeepsConnections(t *testing.T) {
	s, url := serveOne(t, webserver.Config{Handler: saying("old")})
	ask := keeping(t, nil)
	if b, _ := ask(url); b != "old" {
		t.Fatalf("got %q", b)
	}
	s.Switch(webserver.Config{Handler: saying("new")})
	if b, reused := ask(url); b != "new" || !reused {
		t.Errorf("got %q, through the same connection: %v", b, reused)
	}
}

// A request that is held when the handler is switched is answered by the one
// that took it, and Switch's result waits for it.
func TestSwitchWaitsForRequestsUnderWay(t *testing.T) {
	entered, leave := make(chan bool), make(chan bool)
	s, url := serveOne(t, webserver.Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		entered <- true
		<-leave
		_, _ = io.WriteString(w, "old")
	})})
	answer := make(chan string, 1)
	held, next := keeping(t, nil), keeping(t, nil)
	go func() { b, _ := held(url); answer <- b }()
	<-entered
	drained := s.Switch(webserver.Config{Handler: saying("new")})
	if b, _ := next(url); b != "new" {
		t.Errorf("while another is held: got %q", b)
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := drained(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a held request is not waited for: %v", err)
	}
	close(leave)
	if b := <-answer; b != "old" {
		t.Errorf("the held request was answered %q", b)
	}
	if err := drained(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSwitchOfCertificateAndBackToPlainHTTP(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	one, two := writePair(t, first, 1, testkeys.P256(0)), writePair(t, second, 2, testkeys.P256(1))
	trust := func(certs ...*x509.Certificate) *tls.Config {
		return trusting(0, certs...).Transport.(*http.Transport).TLSClientConfig
	}
	s, url := serveOne(t, webserver.Config{Handler: saying("first"), GetCertificate: show(first)})
	secure := strings.Replace(url, "http:", "https:", 1)
	kept := keeping(t, trust(one))
	if b, _ := kept(secure); b != "first" {
		t.Fatalf("got %q", b)
	}
	s.Switch(webserver.Config{Handler: saying("second"), GetCertificate: show(second)})
	if b, reused := kept(secure); b != "second" || !reused {
		t.Errorf("over the former handshake: %q, same connection %v", b, reused)
	}
	if b, _ := keeping(t, trust(two))(secure); b != "second" {
		t.Errorf("with the new certificate: %q", b)
	}
	// Devices must not go on over what the operator has done away with.
	s.Switch(webserver.Config{Handler: saying("plain")})
	if b, reused := kept(secure); b != "plain" || !reused {
		t.Errorf("the answer that ends the connection: %q, same connection %v", b, reused)
	}
	if _, err := trusting(0, one, two).Get(secure); err == nil {
		t.Error("TLS is spoken on")
	}
	if b, _ := keeping(t, nil)(url); b != "plain" {
		t.Errorf("plain: %q", b)
	}
}

func TestConnectionOfAnotherHandshakeEnds(t *testing.T) {
	dir := t.TempDir()
	cert := writePair(t, dir, 1, testkeys.P256(0))
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	asks := webserver.Config{Handler: saying("asks"), GetCertificate: show(dir), ClientCAs: pool}
	asksNot := webserver.Config{Handler: saying("asks not"), GetCertificate: show(dir)}
	s, url := serveOne(t, asksNot)
	secure := strings.Replace(url, "http:", "https:", 1)
	ask := keeping(t, trusting(0, cert).Transport.(*http.Transport).TLSClientConfig)
	ask(secure)
	for _, row := range []struct {
		name   string
		c      webserver.Config
		reused bool // the request after the first
	}{
		{"asked for a certificate now", asks, false}, {"as before", asks, true}, {"not asked any more", asksNot, false},
	} {
		s.Switch(row.c)
		ask(secure)
		_, reused := ask(secure)
		// HTTP/2: the end of the connection comes after the answer.
		for began := time.Now(); reused && !row.reused && time.Since(began) < patience; _, reused = ask(secure) {
			time.Sleep(time.Millisecond)
		}
		if reused != row.reused {
			t.Errorf("%s: the next request went through the same connection: %v", row.name, reused)
		}
	}
}

func TestSwitchChangesTheWriteTimeout(t *testing.T) {
	slow := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(100 * time.Millisecond)
		_, _ = io.WriteString(w, "late")
	})
	s, url := serveOne(t, webserver.Config{Handler: slow, WriteTimeout: 20 * time.Millisecond})
	if _, err := http.Get(url); err == nil {
		t.Error("the first write timeout was not kept")
	}
	s.Switch(webserver.Config{Handler: slow, WriteTimeout: patience})
	if b, _ := keeping(t, nil)(url); b != "late" {
		t.Errorf("got %q", b)
	}
}

func TestRetiredListenerLetsHeldRequestsEnd(t *testing.T) {
	told := make(chan bool, 1)
	entered, leave := make(chan bool), make(chan bool)
	s, err := webserver.Listen(webserver.Config{
		Address: "127.0.0.1:0", OnStop: func() { told <- true }, Grace: time.Millisecond,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			entered <- true
			<-leave
			_, _ = io.WriteString(w, "held")
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	answer := make(chan string, 1)
	ask := keeping(t, nil)
	go func() { b, _ := ask("http://" + s.Addr().String()); answer <- b }()
	<-entered
	s.Retire(patience)
	cancel()
	time.Sleep(20 * time.Millisecond)
	close(leave)
	if b := <-answer; b != "held" {
		t.Errorf("got %q", b)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	select {
	case <-told:
		t.Error("held requests were told to let go")
	default:
	}
}

// A whole service stops, and has less patience than the listener was given.
func TestRetiredListenerIsCutOff(t *testing.T) {
	entered := make(chan bool)
	s, err := webserver.Listen(webserver.Config{
		Address: "127.0.0.1:0",
		Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			entered <- true
			<-r.Context().Done()
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx) }()
	go func() {
		if resp, err := http.Get("http://" + s.Addr().String()); err == nil {
			_ = resp.Body.Close()
		}
	}()
	<-entered
	s.Retire(time.Hour)
	cancel()
	time.Sleep(20 * time.Millisecond)
	s.CutOff()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("it waits on")
	}
}

// A stop may come while a listener is retired.
func TestRetireMeetsAStop(t *testing.T) {
	for range 20 {
		s, err := webserver.Listen(webserver.Config{Address: "127.0.0.1:0", Handler: saying("hello"), OnStop: func() {}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Serve(ctx) }()
		go cancel()
		s.Retire(time.Second)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// A connection that is kept for days must not keep what it was accepted under.
func TestKeptConnectionKeepsNoFormerHandler(t *testing.T) {
	gone := make(chan bool, 1)
	former := func() webserver.Config {
		held := new([1 << 20]byte)
		runtime.AddCleanup(held, func(gone chan bool) { gone <- true }, gone)
		return webserver.Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(held[:1])
		})}
	}
	s, url := serveOne(t, former())
	ask := keeping(t, nil)
	ask(url)
	s.Switch(webserver.Config{Handler: saying("new")})
	if b, reused := ask(url); b != "new" || !reused {
		t.Fatalf("%q, same connection %v", b, reused)
	}
	for began := time.Now(); time.Since(began) < patience; {
		runtime.GC()
		select {
		case <-gone:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Error("the former handler is in memory still")
}
