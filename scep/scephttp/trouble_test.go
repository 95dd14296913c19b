package scephttp_test

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"go.uber.org/zap/zaptest/observer"

	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
	"github.com/certconnector/certconnector/scep/scephttp"
)

// TestPanicCostsOneRequest: it is answered with 500, logged with its stack,
// and neither a slot nor the service is lost.
func TestPanicCostsOneRequest(t *testing.T) {
	a := newAuthority(t, false)
	h, w := handler(t, scephttp.Limits{Held: 1, Concurrency: 1}, a.endpoint())
	m := a.message(t, scepclient.Quirks{}, "open sesame").Raw
	a.before = func(context.Context) { panic("a bug in a rule") }
	for range 3 {
		if r := from(h, "192.0.2.1:1", m); r.StatusCode != http.StatusInternalServerError {
			t.Fatalf("status %d, want 500", r.StatusCode)
		}
	}
	lines := w.logs.FilterMessage("scep exchange panicked").All()
	if len(lines) != 3 || !strings.Contains(lines[0].ContextMap()["stack"].(string), "TestPanicCostsOneRequest") {
		t.Errorf("logged %d panics, the first as %v", len(lines), lines)
	}
	a.set(func() { a.before = nil })
	if r := from(h, "192.0.2.1:1", m); r.StatusCode != 200 {
		t.Errorf("afterwards: %d", r.StatusCode)
	}
}

// neither decides nothing at all.
type neither struct{}

func (neither) Enroll(context.Context, *scep.Request) (*scep.Result, error) { return nil, nil }

func TestEnrollerWithoutAnAnswer(t *testing.T) {
	a := newAuthority(t, false)
	e := a.endpoint()
	e.Enroller = neither{}
	h, _ := handler(t, scephttp.Limits{}, e)
	if r := from(h, "192.0.2.1:1", a.message(t, scepclient.Quirks{}, "open sesame").Raw); r.StatusCode != 500 {
		t.Errorf("status %d, want 500", r.StatusCode)
	}
}

// TestLogTellsTheStory: one line an exchange, with what an operator needs, and
// without challenge, message or anything that plays with a terminal.
func TestLogTellsTheStory(t *testing.T) {
	a := newAuthority(t, false)
	var seen *observer.ObservedLogs
	h, w := handler(t, scephttp.Limits{}, a.endpoint())
	seen = w.logs
	m := a.message(t, scepclient.Quirks{AlwaysGET: true}, "wrong-challenge")
	m.TransactionID = "id\x1b[31m\n\u202e"
	if _, err := m.Build(); err != nil {
		t.Fatal(err)
	}
	ask(h, "GET", path+"?operation=GetCACaps", nil)
	ask(h, "GET", path+"?operation=PKIOperation&message="+scepclient.Escape(m.Raw, scepclient.EscapeAll), nil)

	all := seen.All()
	if len(all) != 2 {
		t.Fatalf("%d lines, want the capabilities' and the message's", len(all))
	}
	for i, want := range []string{"scep capabilities asked", "scep message answered"} {
		if all[i].Message != want {
			t.Errorf("line %d is %q, want %q", i, all[i].Message, want)
		}
	}
	const id = `"id\x1b[31m\n\u202e"`
	for name, want := range map[string]any{
		"endpoint": "corp", "operation": "PKIOperation", "message_type": "PKCSReq", "transaction_id": id,
		"status": "FAILURE", "fail_info": "badRequest", "reason": "wrong challenge", "source": "192.0.2.1",
	} {
		if got := all[1].ContextMap()[name]; got != want {
			t.Errorf("field %s is %v, want %v", name, got, want)
		}
	}
	for _, line := range all {
		b, err := json.Marshal(line.ContextMap())
		if err != nil {
			t.Fatal(err)
		}
		if s := string(b); strings.Contains(s, "wrong-challenge") || strings.Contains(s, "MII") || len(s) > 1000 {
			t.Errorf("line with too much: %s", s)
		}
	}
}

// TestLiveReload uses RA keys that changed between two requests.
func TestLiveReload(t *testing.T) {
	a, b := newAuthority(t, false), newAuthority(t, false)
	current := a.ra
	e := a.endpoint()
	e.RA = func() *scep.RA { return current }
	h, _ := handler(t, scephttp.Limits{}, e)
	c := &scepclient.Client{URL: serve(t, h) + path}
	for _, ra := range []*scep.RA{a.ra, b.ra} {
		current = ra
		s, err := c.Discover(t.Context())
		if err != nil || !s.Recipient.Equal(ra.Encryption.Certificate) {
			t.Errorf("GetCACert does not name the present RA: %v", err)
		}
	}
}
