package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/certconnector/certconnector/agent/control"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/configfile"
	"github.com/certconnector/certconnector/internal/failpoint"
	"github.com/certconnector/certconnector/internal/secret"
)

// errInterrupted is for a reload that came to no end: its command was given up,
// or the service stops. It says nothing about the file.
var errInterrupted = &control.Error{
	Code: control.CodeUnavailable, Text: "the reload was interrupted; the service goes on with the configuration that it has",
}

// Reload reads the configuration again and applies it. What is wrong with it is
// in the result, and then nothing of it applies. The error is for a service that
// cannot be reloaded now, and for a reload that ctx or a stop interrupted.
func (s *Service) Reload(ctx context.Context) (control.Reload, error) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	switch {
	case s.crew == nil || s.stopping || s.crew.ctx.Err() != nil:
		return control.Reload{}, &control.Error{Code: control.CodeUnavailable, Text: "the service is not running, or stopping"}
	case s.reload.Load == nil:
		return control.Reload{}, &control.Error{Code: control.CodeForbidden, Text: "this service cannot read its configuration again; restart it"}
	case ctx.Err() != nil: // given up while another one was under way
		return control.Reload{}, errInterrupted
	}
	if s.reload.Began != nil {
		s.reload.Began()
	}
	if s.reload.Over != nil {
		defer s.reload.Over()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.crew.ctx, cancel)() // a stop need not wait for what it undoes

	done, err := s.apply(ctx)
	if errors.Is(err, errInterrupted) {
		return control.Reload{}, errInterrupted
	}
	done.At, done.Applied = s.options.Clock(), err == nil
	if err != nil {
		done = control.Reload{At: done.At, Mistakes: mistakesOf(err)}
	}
	s.present.record.note(done)
	s.tell(done)
	return done, nil
}

// apply is a reload up to the point from which nothing can fail, and beyond.
func (s *Service) apply(ctx context.Context) (control.Reload, error) {
	next, done, err := s.readAgain()
	if err != nil {
		return done, err
	}
	a, opened, err := s.prepare(ctx, next)
	switch {
	case err == nil:
	case ctx.Err() != nil || s.crew.ctx.Err() != nil: // whatever failed, it need not be the file's fault
		return done, errInterrupted
	default:
		return done, err
	}
	failpoint.Hit("reload.built")
	s.setLevel(next.Log.Level)
	s.switchTo(a, opened)
	failpoint.Hit("reload.switched")
	return done, nil
}

// readAgain reads the file and checks it, with the old values of what only a
// restart can change.
func (s *Service) readAgain() (next Config, done control.Reload, err error) {
	running := s.present.Agent
	if next, err = s.reload.Load(); err != nil {
		return next, done, err
	}
	done.Restart = keepForRestart(&running.cfg, &next)
	if err := next.Validate(); err != nil {
		if len(done.Restart) > 0 { // the file may be right, and fit only together with them
			err = fmt.Errorf("%w\nthese apply after a restart only: %s", err, strings.Join(done.Restart, ", "))
		}
		return next, done, err
	}
	if err := next.CheckFiles(); err != nil {
		return next, done, err
	}
	if !running.sealsAs(next.Secrets.LocalKey) {
		done.Restart = append(done.Restart, "secrets.local_key")
	}
	done.Changed = Changes(running.cfg, next)
	return next, done, nil
}

// prepare builds the next Agent, with everything that it needs to serve.
func (s *Service) prepare(ctx context.Context, next Config) (*Agent, opening, error) {
	a, err := succeed(ctx, s.present.Agent, next)
	if err != nil {
		return nil, opening{}, err
	}
	opened, err := s.open(a)
	if err == nil {
		if err = errors.Join(a.prime(ctx), ctx.Err(), s.crew.ctx.Err()); err != nil {
			opened.close()
		}
	}
	if err != nil {
		return nil, opening{}, errors.Join(err, a.down.run(next.ShutdownGrace), a.base.run(next.ShutdownGrace))
	}
	return a, opened, nil
}

// setLevel changes the log level, which validation has seen.
func (s *Service) setLevel(name string) {
	if s.reload.Level == nil {
		return
	}
	if level, err := zapcore.ParseLevel(name); err == nil {
		s.reload.Level.SetLevel(level)
	}
}

// tell writes how a reload ended to the log.
func (s *Service) tell(done control.Reload) {
	if !done.Applied {
		s.log.Error("the configuration was refused; the service goes on with the one that it has", zap.Strings("mistakes", done.Mistakes))
		return
	}
	s.log.Info("the configuration was read again and applies", zap.Strings("changed", done.Changed))
	if len(done.Restart) > 0 {
		s.log.Warn("settings that apply after a restart only", zap.Strings("settings", done.Restart))
	}
	for _, w := range s.present.cfg.Warnings() {
		s.log.Warn("the configuration permits something unsafe", zap.String("what", w))
	}
}

// succeed builds an Agent that shares with another one what outlives a
// configuration. It does nothing yet.
func succeed(ctx context.Context, running *Agent, cfg Config) (*Agent, error) {
	o := running.options
	o.Store = running.journal
	o.from = running
	return build(ctx, cfg, o)
}

// prime makes what relying parties ask for, so that the first of them finds it.
func (a *Agent) prime(ctx context.Context) error {
	if err := a.renewLists(ctx); err != nil {
		return err
	}
	if a.responder != nil {
		if err := a.responder.Renew(ctx); err != nil {
			return fmt.Errorf("OCSP responder: %w", err)
		}
	}
	return nil
}

// renewLists makes the revocation lists that are shown, where there is reason to.
func (a *Agent) renewLists(ctx context.Context) error {
	if a.distribution == nil {
		return nil
	}
	for name, c := range a.cas {
		if own, ok := c.Authority.(*embedded.CA); ok {
			if _, err := own.CRL(ctx); err != nil {
				return fmt.Errorf("CA %q: making the revocation list: %w", name, err)
			}
		}
	}
	return nil
}

// sealsAs tells whether a local key is the one in use. One that cannot be read
// is found by CheckFiles.
func (a *Agent) sealsAs(path string) bool {
	other, err := secret.LoadSealer(path)
	if err != nil {
		return true
	}
	const label = "reload"
	_, err = other.Open(label, a.sealer.Seal(label, []byte(label)))
	return err == nil
}

// mistakesOf is an error as a list for people.
func mistakesOf(err error) []string {
	if list, ok := errors.AsType[configfile.Mistakes](err); ok {
		var texts []string
		for _, m := range list {
			texts = append(texts, m.String())
		}
		if rest := strings.TrimPrefix(err.Error(), list.Error()+"\n"); rest != err.Error() && rest != "" {
			texts = append(texts, rest)
		}
		return texts
	}
	return strings.Split(err.Error(), "\n")
}

// record is how the configuration was read again the last time. It outlives
// Agents, and is safe for concurrent use.
type record struct {
	mu      sync.Mutex
	last    *control.Reload
	applied time.Time // when the configuration in use was read
}

func (r *record) note(done control.Reload) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = &done
	if done.Applied {
		r.applied = done.At
	}
}

// get returns the last reload, nil: there was none, and when the present
// configuration was read.
func (r *record) get() (last *control.Reload, applied time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last, r.applied
}

// problem says what an operator should know of the file; nil: it is in use.
func (r *record) problem() error {
	last, _ := r.get()
	switch {
	case last == nil:
		return nil
	case !last.Applied:
		return fmt.Errorf("the file was refused on %s, the one before it is in use: %s", stamp(last.At), strings.Join(last.Mistakes, "; "))
	case len(last.Restart) > 0:
		return fmt.Errorf("applies after a restart only: %s", strings.Join(last.Restart, ", "))
	}
	return nil
}
