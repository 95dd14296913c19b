package osservice

import (
	"context"
	"errors"
	"time"

	"github.com/kardianos/service"
	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
)

// startPatience is how long a start may take before the service is reported
// as running; the service manager itself waits 30 s.
const startPatience = 20 * time.Second

// runService tries the service manager first and falls back to the console
// when it was not the one that started the process. kardianos decides by
// session numbers, which does not work everywhere (Wine, remote shells).
func runService(s service.Service, p *program, name string) error {
	handler, ok := s.(svc.Handler)
	if !ok {
		return errors.New("the service library does not handle Windows services any more")
	}
	w := &watched{inner: handler, p: p}
	err := svc.Run(name, w)
	if errors.Is(err, windows.ERROR_FAILED_SERVICE_CONTROLLER_CONNECT) {
		return console(p)
	}
	if w.ran {
		<-p.done
		err = errors.Join(p.err, err)
		tell(s, err)
	}
	return err
}

// tell writes what ended the service into the event log: a service has no
// console, and a configuration that is wrong names no log file yet.
func tell(s service.Service, err error) {
	if err == nil || errors.Is(err, context.Canceled) {
		return
	}
	if log, logErr := s.SystemLogger(nil); logErr == nil {
		_ = log.Error(err) // nobody else to tell
	}
}

// console runs the program for a person.
func console(p *program) error {
	if err := p.Start(nil); err != nil {
		return err
	}
	p.wait()
	return p.Stop(nil)
}

// watched adds what kardianos' handler lacks: a function that returns by
// itself stops the service, with an error code when it failed, so that the
// recovery actions take over.
type watched struct {
	inner svc.Handler
	p     *program
	ran   bool
}

// Execute passes requests on until the function has returned.
func (w *watched) Execute(args []string, requests <-chan svc.ChangeRequest, changes chan<- svc.Status) (bool, uint32) {
	w.ran = true
	inner := make(chan svc.ChangeRequest)
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for {
			var r svc.ChangeRequest
			select {
			case r = <-requests:
				if r.Cmd == svc.ParamChange {
					w.p.host.wishReload()
					continue
				}
			case <-w.p.done:
				r = svc.ChangeRequest{Cmd: svc.Stop}
			case <-ended:
				return
			}
			select {
			case inner <- r:
			case <-ended:
				return
			}
		}
	}()
	return w.inner.Execute(args, inner, w.afterReady(changes, ended))
}

// afterReady holds the report "running" back until the function serves, so
// that the start of a service that cannot start is reported as failed.
func (w *watched) afterReady(changes chan<- svc.Status, ended <-chan struct{}) chan<- svc.Status {
	held := make(chan svc.Status)
	go func() {
		for {
			var s svc.Status
			select {
			case s = <-held:
			case <-ended:
				return
			}
			if s.State == svc.Running {
				select {
				case <-w.p.host.ready:
				case <-w.p.done:
				case <-time.After(startPatience):
				}
				s.Accepts |= svc.AcceptParamChange
			}
			changes <- s
		}
	}()
	return held
}
