package osservice

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kardianos/service"
	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
)

// Limits of what the service manager is told. It gives up on a service that
// shows no progress within a hint.
const (
	// startPatience is how long a start may take before the service is reported
	// as running.
	startPatience = 20 * time.Second
	// stopPatience is how long a stop may take: requests in flight are finished
	// within shutdown_grace, and the journal is closed.
	stopPatience = StopTimeout
	heartbeat    = 2 * time.Second
	progressHint = 10 * time.Second
)

// runService tries the service manager first and falls back to the console
// when it was not the one that started the process. kardianos decides by
// session numbers, which does not work everywhere (Wine, remote shells), and
// its handler knows neither progress nor the controls below.
func runService(_ service.Service, p *program, name string) error {
	h := &handler{p: p}
	err := svc.Run(name, h)
	if errors.Is(err, windows.ERROR_FAILED_SERVICE_CONTROLLER_CONNECT) {
		return console(p)
	}
	if h.err != nil {
		err = errors.Join(h.err, err)
	}
	return err
}

// console runs the program for a person.
func console(p *program) error {
	p.listen()
	defer p.deaf()
	if err := p.Start(nil); err != nil {
		return err
	}
	p.wait()
	return p.Stop(nil)
}

// handler is the program as the service manager sees it.
type handler struct {
	p   *program
	err error // what it ended with; being stopped is none
}

// Execute runs the program until it returns or is to stop. The service is
// running once the program serves, so that a start that fails is reported as
// failed; one that ends by itself with an error ends with an exit code, so
// that the recovery actions take over.
func (h *handler) Execute(_ []string, requests <-chan svc.ChangeRequest, changes chan<- svc.Status) (bool, uint32) {
	h.p.host.windows = true
	if err := h.p.Start(nil); err != nil {
		h.err = err
		return true, exitCode(err)
	}
	if h.pending(svc.StartPending, startPatience, h.p.host.ready, requests, changes) != overEnded {
		changes <- svc.Status{State: svc.Running, Accepts: svc.AcceptStop | svc.AcceptShutdown | svc.AcceptPreShutdown | svc.AcceptParamChange}
		h.serve(requests, changes)
	}
	h.p.cancel()
	if h.pending(svc.StopPending, stopPatience, nil, requests, changes) == overPatience {
		h.err = fmt.Errorf("the service did not stop within %s and was ended", stopPatience)
		return true, exitCode(h.err)
	}
	if h.p.err != nil && !errors.Is(h.p.err, context.Canceled) {
		h.err = h.p.err
		return true, exitCode(h.err)
	}
	return false, 0
}

// serve answers the service manager until the program has returned or is to
// stop.
func (h *handler) serve(requests <-chan svc.ChangeRequest, changes chan<- svc.Status) {
	for {
		select {
		case r := <-requests:
			switch r.Cmd {
			case svc.Interrogate:
				changes <- r.CurrentStatus
			case svc.ParamChange:
				h.p.host.wishReload()
			case svc.Stop, svc.Shutdown, svc.PreShutdown:
				return
			}
		case <-h.p.done:
			return
		}
	}
}

// over says why a pending state is.
type over int

const (
	overEnded    over = iota // the program has returned
	overArrived              // what was waited for is there
	overPatience             // it takes too long
)

// pending reports a state on the way, with a growing checkpoint: the service
// manager waits as long as it sees progress.
func (h *handler) pending(state svc.State, patience time.Duration, arrived <-chan struct{},
	requests <-chan svc.ChangeRequest, changes chan<- svc.Status,
) over {
	status := svc.Status{State: state, WaitHint: uint32(progressHint.Milliseconds())}
	beat, limit := time.NewTicker(heartbeat), time.NewTimer(patience)
	defer beat.Stop()
	defer limit.Stop()
	for {
		status.CheckPoint++
		changes <- status
		select {
		case <-h.p.done:
			return overEnded
		case <-arrived:
			return overArrived
		case <-limit.C:
			return overPatience
		case <-requests: // stopping already, or not yet able to
		case <-beat.C:
		}
	}
}

// exitCode is the service-specific exit code of an error: its own if it has
// one (ServiceExitCode), else 1.
func exitCode(err error) uint32 {
	if coded, ok := errors.AsType[interface {
		error
		ServiceExitCode() uint32
	}](err); ok {
		return coded.ServiceExitCode()
	}
	return 1
}
