package status_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

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
	s := status.New(status.Check{Name: "journal", Check: func() error { return broken }})
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
