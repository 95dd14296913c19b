package scephttp_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certconnector/certconnector/internal/forwarded"
	"github.com/certconnector/certconnector/scep/scepclient"
	"github.com/certconnector/certconnector/scep/scephttp"
)

// Behind a trusted proxy on this machine the limits are those of each device,
// and not of the proxy's address, which has none.
func TestLimitsBehindAProxy(t *testing.T) {
	a := newAuthority(t, false)
	good := a.message(t, scepclient.Quirks{}, "open sesame").Raw
	refused := a.message(t, scepclient.Quirks{}, "wrong").Raw
	trusted, err := forwarded.ParseNetworks([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	behind := func(h http.Handler, device string, message []byte) *http.Response {
		r := httptest.NewRequest("POST", path+"?operation=PKIOperation", strings.NewReader(string(message)))
		r.RemoteAddr = "127.0.0.1:4711"
		r.Header.Set("X-Forwarded-For", "127.0.0.1, "+device) // the device says that it is this machine
		w := httptest.NewRecorder()
		forwarded.Config{Trusted: trusted}.Handler(h).ServeHTTP(w, r)
		return w.Result()
	}
	synctest.Test(t, func(t *testing.T) {
		h, w := handler(t, scephttp.Limits{PerSource: 3, FailuresPerMinute: 6}, a.endpoint())
		for range 6 {
			behind(h, "192.0.2.1", refused)
		}
		if r := behind(h, "192.0.2.1", good); r.StatusCode != 503 || w.last(t).Limited != "failures" {
			t.Errorf("a device that failed: %d, %+v", r.StatusCode, w.last(t))
		}
		if r := behind(h, "192.0.2.2", good); r.StatusCode != 200 {
			t.Errorf("another device: %d", r.StatusCode)
		}
		a.set(func() { a.before = func(context.Context) { time.Sleep(25 * time.Second) } })
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() { behind(h, "192.0.2.3", good) })
		}
		synctest.Wait()
		if r := behind(h, "192.0.2.3", good); r.StatusCode != 503 || w.last(t).Limited != "source_limit" {
			t.Errorf("the fourth of one device: %d, %+v", r.StatusCode, w.last(t))
		}
		if r := behind(h, "192.0.2.4", good); r.StatusCode != 200 {
			t.Errorf("another device meanwhile: %d", r.StatusCode)
		}
		all.Wait()
	})
}
