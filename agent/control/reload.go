package control

import (
	"context"
	"net/http"
	"time"

	"go.uber.org/zap"
)

// Incumbent is who answers at present: a reload puts another Service in the place
// of the one before. Implementations are safe for concurrent use.
type Incumbent interface {
	// Present returns the Service for one command, and what must be called when
	// the command is over: until then the Service is not taken down.
	Present() (svc Service, done func())
	Reloader
}

// Reloader reads the configuration again.
type Reloader interface {
	// Reload applies the configuration file. That it was refused is no error:
	// the result says why, and the running service goes on as before.
	Reload(ctx context.Context) (Reload, error)
}

// Reload is how the configuration was read again, or the last time it was.
type Reload struct {
	At      time.Time `json:"at"`
	Applied bool      `json:"applied"`
	// Changed are the settings that differ from those before and apply now, as
	// "endpoints[1].allow.subject". Values are never told.
	Changed []string `json:"changed,omitempty"`
	// Restart are the settings that differ and keep their old value until the
	// service is restarted.
	Restart []string `json:"restart,omitempty"`
	// Mistakes are why nothing was applied.
	Mistakes []string `json:"mistakes,omitempty"`
}

// reloadWithin bounds a reload: a new listener or a slow key device takes a while.
const reloadWithin = 5 * time.Minute

// fixed is an Incumbent of one Service, which is never reloaded.
type fixed struct{ svc Service }

// Present implements Incumbent.
func (f fixed) Present() (Service, func()) { return f.svc, func() {} }

// Reload implements Reloader.
func (f fixed) Reload(context.Context) (Reload, error) {
	return Reload{}, &Error{Code: CodeForbidden, Text: "this service cannot read its configuration again; restart it"}
}

func (s *server) reload(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(reloadWithin)) // without it a long one is cut off
	done, err := s.present.Reload(r.Context())
	s.audit(r, "configuration read again", err, zap.Bool("applied", done.Applied), zap.Strings("changed", done.Changed),
		zap.Strings("restart", done.Restart), zap.Int("mistakes", len(done.Mistakes)))
	answer(w, done, err)
}

// Reload has the configuration read again.
func (c *Client) Reload(ctx context.Context) (Reload, error) {
	var done Reload
	err := c.do(ctx, http.MethodPost, "/v1/reload", struct{}{}, &done)
	return done, err
}
