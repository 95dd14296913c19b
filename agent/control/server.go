package control

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/ca"
)

// maxBody bounds what a command may send.
const maxBody = 64 << 10

// Serve is ServeFrom for a Service that stays.
func (l *Listener) Serve(ctx context.Context, svc Service, log *zap.Logger) error {
	return l.ServeFrom(ctx, fixed{svc}, log)
}

// ServeFrom answers until ctx ends, then closes the socket and waits for
// answers under way. Each command is answered by whoever is present when it
// comes. What people decide goes to the logger as audit lines.
func (l *Listener) ServeFrom(ctx context.Context, present Incumbent, log *zap.Logger) error {
	if l.inner == nil {
		log.Warn("this system has no unix sockets: commands cannot reach the service")
		<-ctx.Done()
		return nil
	}
	h := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			// Commands are rare: routes are made for each.
			svc, done := present.Present()
			defer done()
			(&server{svc: svc, present: present, log: log}).routes().ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      2 * time.Minute, // a revocation may wait for the CA
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          zap.NewStdLog(log),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if known, ok := c.(*conn); ok {
				return context.WithValue(ctx, accountKey{}, known.account)
			}
			return ctx
		},
	}
	done := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		done <- h.Shutdown(limited)
	})
	err := h.Serve(l.inner)
	if stop() || !errors.Is(err, http.ErrServerClosed) {
		return errors.Join(err, h.Close())
	}
	return <-done
}

type accountKey struct{}

type server struct {
	svc     Service
	present Incumbent
	log     *zap.Logger
}

func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("GET /v1/requests", s.requests)
	mux.HandleFunc("POST /v1/requests/{id}/approve", s.approve)
	mux.HandleFunc("POST /v1/requests/{id}/deny", s.deny)
	mux.HandleFunc("POST /v1/revoke", s.revoke)
	mux.HandleFunc("POST /v1/challenges", s.challenge)
	mux.HandleFunc("GET /v1/trace", s.trace)
	mux.HandleFunc("GET /v1/jobs", s.jobs)
	mux.HandleFunc("GET /v1/sources", s.sources)
	mux.HandleFunc("POST /v1/sources/resume", s.resume)
	mux.HandleFunc("POST /v1/issued", s.importIssued)
	mux.HandleFunc("GET /v1/certificates", s.certificates)
	mux.HandleFunc("POST /v1/reconcile", s.reconcile)
	mux.HandleFunc("POST /v1/certificates/renew", s.renew)
	mux.HandleFunc("GET /v1/journal", s.journalInfo)
	mux.HandleFunc("POST /v1/journal/backup", s.backup)
	mux.HandleFunc("POST /v1/reload", s.reload)
	return http.MaxBytesHandler(mux, maxBody)
}

func (s *server) status(w http.ResponseWriter, r *http.Request) {
	st, err := s.svc.Status(r.Context())
	answer(w, st, err)
}

func (s *server) requests(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	limit, ok := readLimit(w, q)
	if !ok {
		return
	}
	f := Filter{States: q["state"], Endpoint: q.Get("endpoint"), Limit: limit}
	list, err := s.svc.Requests(r.Context(), f)
	if list == nil {
		list = []Request{} // an empty JSON list, not null
	}
	answer(w, list, err)
}

func (s *server) approve(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	err := s.svc.Approve(r.Context(), id)
	s.audit(r, "request approved", err, zap.String("id", id))
	answer(w, struct{}{}, err)
}

// denial is the body of a deny request.
type denial struct {
	Why string `json:"why"`
}

func (s *server) deny(w http.ResponseWriter, r *http.Request) {
	var d denial
	if !read(w, r, &d) {
		return
	}
	id := r.PathValue("id")
	err := s.svc.Deny(r.Context(), id, d.Why)
	s.audit(r, "request denied", err, zap.String("id", id), zap.String("why", d.Why))
	answer(w, struct{}{}, err)
}

// revocation is the body of a revoke request.
type revocation struct {
	CA     string `json:"ca"`
	Serial string `json:"serial"`
	Reason string `json:"reason"`
}

func (s *server) revoke(w http.ResponseWriter, r *http.Request) {
	var v revocation
	if !read(w, r, &v) {
		return
	}
	if !hexadecimal(v.Serial) {
		answer(w, nil, &Error{Code: CodeInvalid, Text: "serial number is not hexadecimal"})
		return
	}
	reason, err := ca.ParseReason(v.Reason)
	if err != nil {
		answer(w, nil, &Error{Code: CodeInvalid, Text: err.Error()})
		return
	}
	err = s.svc.Revoke(r.Context(), v.CA, v.Serial, reason)
	s.audit(r, "certificate revoked", err, zap.String("ca", v.CA), zap.String("serial", v.Serial), zap.Stringer("reason", reason))
	answer(w, struct{}{}, err)
}

func (s *server) challenge(w http.ResponseWriter, r *http.Request) {
	var wish Wish
	if !read(w, r, &wish) {
		return
	}
	made, err := s.svc.NewChallenge(r.Context(), wish)
	s.audit(r, "challenge made", err, zap.String("endpoint", wish.Endpoint), zap.String("subject", wish.Subject), zap.String("id", made.ID))
	answer(w, made, err)
}

func (s *server) trace(w http.ResponseWriter, r *http.Request) {
	events, err := s.svc.Trace(r.Context(), r.URL.Query().Get("transaction"))
	if events == nil {
		events = []TraceEvent{}
	}
	answer(w, events, err)
}

// audit records who decided what. An attempt that failed is recorded too.
func (s *server) audit(r *http.Request, message string, err error, fields ...zap.Field) {
	account, _ := r.Context().Value(accountKey{}).(string)
	fields = append(fields, zap.String("by", account), zap.Bool("done", err == nil), zap.Error(err))
	s.log.Named("audit").Info(message, fields...)
}

// read decodes a body; it answers and returns false when it cannot.
func read(w http.ResponseWriter, r *http.Request, into any) bool {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		answer(w, nil, &Error{Code: CodeInvalid, Text: "request body is not what this command sends"})
		return false
	}
	return true
}

// readLimit reads how many entries a list may have, 0 when that is not said; it
// answers and returns false when it cannot.
func readLimit(w http.ResponseWriter, q url.Values) (limit int, ok bool) {
	text := q.Get("limit")
	if text == "" {
		return 0, true
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		answer(w, nil, &Error{Code: CodeInvalid, Text: "limit is no positive number"})
		return 0, false
	}
	return n, true
}

// answer writes a value, or an error.
func answer(w http.ResponseWriter, v any, err error) {
	status := http.StatusOK
	if err != nil {
		status, v = asFailure(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the command went away: nobody to tell
}

func asFailure(err error) (int, any) {
	status, e := translate(err)
	return status, e
}

func hexadecimal(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "0123456789abcdefABCDEF") == ""
}
