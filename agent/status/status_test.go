package status_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/status"
)

func get(t *testing.T, s *status.Status, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

func TestReadyMeansStartedAndAble(t *testing.T) {
	var broken error
	s := status.New(status.Config{Checks: []status.Check{{Name: "journal", Check: func() error { return broken }}}})
	if code, body := get(t, s, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "starting") {
		t.Errorf("before the start: %d %q", code, body)
	}
	s.Started()
	if code, body := get(t, s, "/readyz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("after the start: %d %q", code, body)
	}
	broken = errors.New("disk is full")
	if code, body := get(t, s, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "journal: disk is full") {
		t.Errorf("with a broken part: %d %q", code, body)
	}
	if code, _ := get(t, s, "/livez"); code != http.StatusOK {
		t.Errorf("/livez: %d, though the process runs", code)
	}
}

// What neighbours cannot do is told, a line each, and takes nobody out.
func TestVerboseTellsWhatCanBeDone(t *testing.T) {
	var broken error
	s := status.New(status.Config{
		Checks: []status.Check{{Name: "journal", Check: func() error { return broken }}},
		Neighbours: []status.Check{
			{Name: "validate", Check: func() error { return errors.Join(errors.New("tenant a: \x1b[31mdown"), errors.New("tenant b: down")) }},
			{Name: "issue", Check: func() error { return nil }},
		},
		Last: func() []status.Last {
			return []status.Last{{Name: "tenant a token", At: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}, {Name: "CA lab issue"}}
		},
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("numbers")) }),
	})
	if code, body := get(t, s, "/readyz?verbose"); code != http.StatusServiceUnavailable || !strings.HasPrefix(body, "ready: no, the service is starting\n") {
		t.Errorf("before the start: %d %q", code, body)
	}
	s.Started()
	want := "ready: ok\nvalidate: tenant a:  [31mdown; tenant b: down\nissue: ok\njournal: ok\n" +
		"last tenant a token: 2026-03-01T12:00:00Z\nlast CA lab issue: not since the start\n"
	if code, body := get(t, s, "/readyz?verbose"); code != http.StatusOK || body != want {
		t.Errorf("got %d\n%s\nwant\n%s", code, body, want)
	}
	if code, body := get(t, s, "/readyz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("without verbose: %d %q", code, body)
	}
	if w := s.Warnings(); len(w) != 1 || !strings.HasPrefix(w[0], "validate: tenant a") {
		t.Errorf("warnings %q", w)
	}
	broken = errors.New(strings.Repeat("disk is full ", 1000))
	if code, body := get(t, s, "/readyz?verbose"); code != http.StatusServiceUnavailable || !strings.HasPrefix(body, "ready: no\n") || len(body) > 2000 {
		t.Errorf("with a broken journal: %d, %d octets", code, len(body))
	}
	if code, body := get(t, s, "/metrics"); code != http.StatusOK || body != "numbers" {
		t.Errorf("/metrics: %d %q", code, body)
	}
}
