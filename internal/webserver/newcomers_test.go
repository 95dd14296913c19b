package webserver_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/webserver"
)

// A connection that was accepted before the stop is answered, however late it
// asks within the patience: devices ask at all times, also during a restart.
func TestAcceptedConnectionIsAnsweredDuringTheStop(t *testing.T) {
	for range 20 {
		addr, stop := start(t, webserver.Config{Handler: http.HandlerFunc(hello)})
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		get(t, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, "http://"+addr+"/") // ours was accepted before this one
		stopped := make(chan error, 1)
		go func() { stopped <- stop() }()
		for { // until nothing more is accepted
			other, err := net.Dial("tcp", addr)
			if err != nil {
				break
			}
			_ = other.Close()
			time.Sleep(time.Millisecond)
		}
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("no answer: %v", err)
		}
		if resp.StatusCode != http.StatusOK {
			t.Errorf("status %d", resp.StatusCode)
		}
		_ = resp.Body.Close()
		_ = c.Close()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	}
}

// A connection that is kept in reserve does not hold up the stop for long.
func TestSilentConnectionDelaysTheStopALittle(t *testing.T) {
	// Nothing but the grace would end the wait within an hour.
	addr, stop := start(t, webserver.Config{
		Handler: http.HandlerFunc(hello), Grace: 300 * time.Millisecond, ReadHeaderTimeout: time.Hour, ReadTimeout: time.Hour, IdleTimeout: time.Hour,
	})
	began := time.Now()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	get(t, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, "http://"+addr+"/")
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	select {
	case err := <-stopped:
		// After five seconds net/http takes a connection that never asked for one
		// that is idle, and closes it without a word.
		if took := time.Since(began); err == nil && took < 5*time.Second {
			t.Error("a connection that never asked is not mentioned")
		}
	case <-time.After(patience):
		t.Error("the stop waits on")
	}
}
