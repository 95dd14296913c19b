package control

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
)

// listing is a service with two empty lists, which notes how many were asked for.
type listing struct {
	Service
	limit int
}

func (l *listing) Requests(_ context.Context, f Filter) ([]Request, error) {
	l.limit = f.Limit
	return nil, nil
}

func (l *listing) Jobs(_ context.Context, f JobFilter) ([]Job, error) {
	l.limit = f.Limit
	return nil, nil
}

// Whoever speaks to the socket without our client gets the same answers of
// both lists.
func TestLimitIsAPositiveNumber(t *testing.T) {
	svc := &listing{}
	s := &server{svc: svc}
	for name, list := range map[string]http.HandlerFunc{"requests": s.requests, "jobs": s.jobs} {
		for query, want := range map[string]int{"": 0, "?limit=": 0, "?limit=7": 7, "?limit=0": -1, "?limit=-1": -1, "?limit=many": -1, "?limit=99999999999999999999": -1} {
			svc.limit = -1
			w := httptest.NewRecorder()
			list(w, httptest.NewRequest(http.MethodGet, "/"+query, nil))
			if svc.limit != want || (w.Code == http.StatusOK) != (want >= 0) {
				t.Errorf("%s%s: limit %d, want %d; HTTP %d %s", name, query, svc.limit, want, w.Code, w.Body)
			}
		}
	}
}
