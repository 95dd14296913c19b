package control

import (
	"context"
	"net/http"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/reconcile"
)

// Reconciler compares journal, CAs and clouds.
type Reconciler interface {
	Reconcile(ctx context.Context, o reconcile.Options) (reconcile.Report, error)
}

// reconcileWithin bounds one comparison: CAs are asked slowly.
const reconcileWithin = time.Hour

// comparison is the body of a reconcile request.
type comparison struct {
	Since       time.Duration `json:"since,omitempty"` // nanoseconds
	Limit       int           `json:"limit,omitempty"`
	Checks      int           `json:"checks,omitempty"`
	CheckBefore int64         `json:"check_before,omitempty"`
	Fix         bool          `json:"fix,omitempty"`
}

// compared is its answer: the exit code is not part of a report.
type compared struct {
	ExitCode int              `json:"exit_code"`
	Report   reconcile.Report `json:"report"`
}

func (s *server) reconcile(w http.ResponseWriter, r *http.Request) {
	var b comparison
	if !read(w, r, &b) {
		return
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(reconcileWithin)) // without it a long one is cut off
	ctx, cancel := context.WithTimeout(r.Context(), reconcileWithin)
	defer cancel()
	report, err := s.svc.Reconcile(ctx, reconcile.Options(b))
	if b.Fix {
		s.audit(r, "differences repaired", err, zap.Int("repaired", report.Fixed))
	}
	answer(w, compared{report.ExitCode(), report}, err)
}

// Reconcile has journal, CAs and clouds compared, and tells the exit code of
// the command.
func (c *Client) Reconcile(ctx context.Context, o reconcile.Options) (report reconcile.Report, exitCode int, err error) {
	var done compared
	err = c.do(ctx, http.MethodPost, "/v1/reconcile", comparison(o), &done)
	return done.Report, done.ExitCode, err
}
