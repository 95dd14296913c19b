package scephttp_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
	"github.com/certconnector/certconnector/scep/scephttp"
)

// open opens a URL with a browser at the given address.
func open(h http.Handler, from, target string, header ...string) *http.Response {
	r := httptest.NewRequest("GET", target, nil)
	r.RemoteAddr = from
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

// TestBareURL is what a bare GET says of an endpoint's kind and state (T14).
func TestBareURL(t *testing.T) {
	a := newAuthority(t, false)
	var broken error
	expired := false
	with := func(name, path string, change func(*scephttp.Endpoint)) scephttp.Endpoint {
		e := a.endpoint()
		e.Name, e.Path = name, path
		e.Ready = func() error { return broken }
		e.Clock = func() time.Time {
			if expired {
				return time.Now().Add(48 * time.Hour)
			}
			return time.Now()
		}
		change(&e)
		return e
	}
	h, w := handler(t, scephttp.Limits{},
		with("intune", "/certsrv/mscep/mscep.dll", func(e *scephttp.Endpoint) { e.BareGET = scephttp.Forbidden }),
		with("challenges", "/scep/jamf", func(e *scephttp.Endpoint) { e.AdminPath = "/certsrv/mscep_admin?<x>" }),
		with("plain", "/scep/plain", func(*scephttp.Endpoint) {}))

	intune := []string{"/certsrv/mscep", "/certsrv/mscep/", "/certsrv/mscep/mscep.dll", "/CertSrv/MSCEP/mscep.dll/pkiclient.exe", "/certsrv/mscep/MSCEP.DLL"}
	for name, state := range map[string]struct {
		change          func()
		forbidden, page int
		here, elsewhere string // in the body
		event           any
	}{
		"able to enrol":            {func() {}, 403, 200, "", "", nil},
		"not able to enrol":        {func() { broken = errors.New("CA issuing: connection refused") }, 503, 503, "CA issuing: connection refused", "", nil},
		"RA certificates expired":  {func() { expired = true }, 503, 503, "RA: the signing certificate expired on", "", int64(10)},
		"failure with odd letters": {func() { broken = errors.New("CA \x1b[31m") }, 503, 503, `CA \x1b[31m`, "", nil},
	} {
		t.Run(name, func(t *testing.T) {
			broken, expired = nil, false
			state.change()
			for _, target := range intune {
				if r := open(h, "192.0.2.7:1", target); r.StatusCode != state.forbidden {
					t.Errorf("%s: status %d, want %d", target, r.StatusCode, state.forbidden)
				}
			}
			for from, want := range map[string]string{"127.0.0.1:5": state.here, "[::1]:5": state.here, "192.0.2.7:5": state.elsewhere} {
				r := open(h, from, "/scep/plain")
				body := string(read(t, r))
				if r.StatusCode != state.page || !strings.Contains(body, want) {
					t.Errorf("from %s: status %d, body %q; want %d and %q", from, r.StatusCode, body, state.page, want)
				}
				if want == "" && strings.ContainsAny(body, "\x1b") || from == "192.0.2.7:5" && state.here != "" && body != "service unavailable\n" {
					t.Errorf("from %s: body %q tells a stranger what failed", from, body)
				}
			}
			if body := string(read(t, open(h, "127.0.0.1:5", "/scep/plain", "X-Forwarded-For", "192.0.2.7"))); state.here != "" && body != "service unavailable\n" {
				t.Errorf("through a proxy on this machine: body %q", body)
			}
			if r := ask(h, "GET", "/certsrv/mscep?operation=GetCACerts&message=test", nil); r.StatusCode != 200 {
				t.Errorf("GetCACerts: status %d", r.StatusCode)
			}
			if r := ask(h, "GET", "/certsrv/mscep/mscep.dll?operation=PKIOperation&message="+strings.Repeat("x", 30000), nil); r.StatusCode != 200 {
				t.Errorf("undecodable message by GET: status %d, want 200 as NDES", r.StatusCode)
			}
			open(h, "192.0.2.7:1", "/scep/plain")
			lines := w.logs.FilterMessage("scep URL opened").All()
			if got := lines[len(lines)-1].ContextMap()["ndes_event"]; got != state.event {
				t.Errorf("ndes_event %v, want %v", got, state.event)
			}
		})
	}
	broken, expired = nil, false
	t.Run("the page says where challenges are had", func(t *testing.T) {
		jamf, without := string(read(t, open(h, "192.0.2.7:1", "/scep/jamf"))), string(read(t, open(h, "192.0.2.7:1", "/scep/plain")))
		if !strings.Contains(jamf, "/certsrv/mscep_admin?&lt;x&gt;") || strings.Contains(without, "challenge") || strings.Contains(without, "CHALLENGES") {
			t.Errorf("pages\n%s\n%s", jamf, without)
		}
	})
}

// TestSourceReachesTheEnroller, also through whatever tells it for a proxy.
func TestSourceReachesTheEnroller(t *testing.T) {
	a := newAuthority(t, false)
	var seen netip.Addr
	a.before = func(ctx context.Context) { seen = scephttp.Source(ctx) }
	h, _ := handler(t, scephttp.Limits{}, a.endpoint())
	if r := from(h, "192.0.2.33:1", a.message(t, scepclient.Quirks{}, "open sesame").Raw); r.StatusCode != 200 {
		t.Fatalf("status %d", r.StatusCode)
	}
	if seen.String() != "192.0.2.33" {
		t.Errorf("source %v", seen)
	}
	if scephttp.Source(t.Context()).IsValid() {
		t.Error("outside of an exchange there is a source")
	}
}

// TestLinesHaveNDESEvents: a message that cannot be read, or opened, is logged
// with the number that NDES has for it.
func TestLinesHaveNDESEvents(t *testing.T) {
	a := newAuthority(t, false)
	starting := a.endpoint()
	starting.Name, starting.Path, starting.RA = "starting", "/scep/starting", func() *scep.RA { return nil }
	h, w := handler(t, scephttp.Limits{}, a.endpoint(), starting)
	service := a.service()
	service.Recipient = a.root // as a device that took the CA for the RA
	wrong := device("open sesame")
	wrong.Service = service
	tr, err := (&scepclient.Client{}).Prepare(t.Context(), wrong)
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		send func() *http.Response
		want any
	}{
		"not base64": {func() *http.Response { return ask(h, "GET", path+"?operation=PKIOperation&message=!!", nil) }, int64(16)},
		"no CMS":     {func() *http.Response { return ask(h, "POST", path+"?operation=PKIOperation", []byte("hello")) }, int64(17)},
		"no senderNonce": {func() *http.Response {
			return from(h, "192.0.2.1:1", a.message(t, scepclient.Quirks{OmitNonce: true}, "open sesame").Raw)
		}, int64(17)},
		"encrypted to the CA":       {func() *http.Response { return from(h, "192.0.2.1:1", tr.Message.Raw) }, int64(18)},
		"no certificates to answer": {func() *http.Response { return ask(h, "GET", "/scep/starting?operation=GetCACert", nil) }, int64(7)},
		"nothing wrong": {func() *http.Response {
			return from(h, "192.0.2.1:1", a.message(t, scepclient.Quirks{}, "open sesame").Raw)
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			row.send()
			lines := w.logs.All()
			last := lines[len(lines)-1]
			if got := last.ContextMap()["ndes_event"]; got != row.want {
				t.Errorf("%s: ndes_event %v, want %v", last.Message, got, row.want)
			}
		})
	}
}
