package osservice

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/windows/svc"
)

// scm plays the service manager: it notes each state once, and asks what a
// test wants it to when the service is running.
type scm struct {
	requests chan svc.ChangeRequest
	changes  chan svc.Status
	seen     []svc.Status
	accepts  svc.Accepted
}

// run has a handler executed; asks are sent when the service is running.
func run(t *testing.T, f Func, asks ...svc.Cmd) (s *scm, specific bool, code uint32, err error) {
	t.Helper()
	p := &program{run: f, host: newHost(nil), done: make(chan struct{})}
	h := &handler{p: p}
	s = &scm{requests: make(chan svc.ChangeRequest), changes: make(chan svc.Status)}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		specific, code = h.Execute(nil, s.requests, s.changes)
	}()
	for {
		select {
		case now := <-s.changes:
			if len(s.seen) == 0 || s.seen[len(s.seen)-1].State != now.State {
				s.seen = append(s.seen, now)
			}
			if now.State == svc.Running && now.Accepts != 0 {
				s.accepts = now.Accepts
				go func() {
					for _, c := range asks {
						s.requests <- svc.ChangeRequest{Cmd: c}
					}
				}()
			}
		case <-ended:
			return s, specific, code, h.err
		case <-time.After(30 * time.Second):
			t.Fatal("the handler does not end")
		}
	}
}

func (s *scm) states() string {
	var text string
	for _, st := range s.seen {
		text += states[st.State] + " "
	}
	return text
}

func TestServiceManagerSeesStartAndStop(t *testing.T) {
	for _, ask := range []svc.Cmd{svc.Stop, svc.Shutdown, svc.PreShutdown} {
		s, _, code, err := run(t, func(ctx context.Context, h *Host) error {
			if !h.WindowsService() {
				t.Error("it does not know that it is a service")
			}
			h.Ready()
			<-ctx.Done()
			return ctx.Err()
		}, ask)
		if code != 0 || err != nil || s.states() != "starting running stopping " {
			t.Errorf("control %d: exit code %d, %v after %s", ask, code, err, s.states())
		}
		if want := svc.AcceptStop | svc.AcceptShutdown | svc.AcceptPreShutdown | svc.AcceptParamChange; s.accepts != want {
			t.Errorf("it accepts %b, want %b", s.accepts, want)
		}
	}
}

// wrong is an error with an exit code of its own.
type wrong struct{}

func (wrong) Error() string           { return "the configuration is wrong" }
func (wrong) ServiceExitCode() uint32 { return 2 }

func TestAFailedStartIsNeverRunning(t *testing.T) {
	for _, row := range []struct {
		name string
		err  error
		code uint32
	}{
		{"an error", errors.New("address in use"), 1},
		{"an error with a code of its own", wrong{}, 2},
	} {
		s, specific, code, err := run(t, func(context.Context, *Host) error { return row.err })
		if !specific || code != row.code || !errors.Is(err, row.err) {
			t.Errorf("%s: specific %v, code %d, %v", row.name, specific, code, err)
		}
		if s.states() != "starting stopping " {
			t.Errorf("%s: states %s", row.name, s.states())
		}
	}
}

func TestAServiceThatEndsByItselfEndsWithItsError(t *testing.T) {
	broken := errors.New("the journal is broken")
	s, specific, code, err := run(t, func(_ context.Context, h *Host) error {
		h.Ready()
		time.Sleep(100 * time.Millisecond)
		return broken
	})
	if !specific || code != 1 || !errors.Is(err, broken) || s.states() != "starting running stopping " {
		t.Errorf("specific %v, code %d, %v after %s", specific, code, err, s.states())
	}
}

func TestAParameterChangeAsksForAReload(t *testing.T) {
	_, _, code, err := run(t, func(ctx context.Context, h *Host) error {
		h.Ready()
		select {
		case <-h.Reloads():
			return nil
		case <-ctx.Done():
			return errors.New("stopped before it heard of the wish")
		}
	}, svc.Interrogate, svc.ParamChange)
	if code != 0 || err != nil {
		t.Errorf("exit code %d, %v", code, err)
	}
}

// A drain shows progress, or the service manager takes the service for hung;
// but not for ever.
func TestADrainShowsProgressWithinALimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &handler{p: &program{done: make(chan struct{})}}
		requests, changes := make(chan svc.ChangeRequest), make(chan svc.Status)
		why := make(chan over, 1)
		go func() { why <- h.pending(svc.StopPending, stopPatience, nil, requests, changes) }()
		began, last := time.Now(), time.Now()
		for checkpoint := uint32(1); ; checkpoint++ {
			select {
			case now := <-changes:
				if now.State != svc.StopPending || now.CheckPoint != checkpoint || time.Duration(now.WaitHint)*time.Millisecond != progressHint {
					t.Fatalf("after %s: %+v", time.Since(began), now)
				}
				if time.Since(last) >= progressHint {
					t.Errorf("no progress for %s", time.Since(last))
				}
				last = time.Now()
			case got := <-why:
				if got != overPatience || time.Since(began) != stopPatience {
					t.Errorf("it ended by %d after %s", got, time.Since(began))
				}
				return
			}
		}
	})
}
