// Package osservice runs one function on a console, under systemd and as a
// Windows service alike. It is the only importer of kardianos/service.
//
// Under systemd (Type=notify) readiness, reloads, stopping and the watchdog are
// reported over NOTIFY_SOCKET. On a console an interrupt stops the function
// and a second one ends the process at once. SIGHUP asks for a reload.
package osservice

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/kardianos/service"
)

// Func is what a service does. It returns when ctx ends, or earlier with what
// went wrong; it tells the host when it is ready, and hears from it of wishes.
type Func func(ctx context.Context, host *Host) error

// Run runs the function until the system or a person stops it, or it returns.
// The error is the function's own; being stopped is none.
func Run(name string, run Func) error {
	notify, err := newNotifier(os.Getenv)
	if err != nil {
		return err
	}
	defer notify.close()
	p := &program{run: run, host: newHost(notify), done: make(chan struct{})}
	s, err := service.New(p, &service.Config{
		Name: name,
		// systemd and all other systems of Unix wait here.
		Option: service.KeyValue{"RunWait": p.wait},
	})
	if err != nil {
		return fmt.Errorf("preparing the service: %w", err)
	}
	return runService(s, p, name)
}

// program is the function as kardianos/service wants it: Start only launches,
// Stop cancels and waits.
type program struct {
	run    Func
	host   *Host
	asked  context.Context // ends when somebody wants the function to stop; see listen
	deaf   func()          // gives signals their usual effect again
	cancel context.CancelFunc
	done   chan struct{} // closed when the function has returned
	err    error         // what it returned; read after done
}

// listen makes an interrupt and SIGTERM wishes to stop. It comes before Start:
// one that arrives while the function begins would end the process at once.
func (p *program) listen() {
	p.asked, p.deaf = signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

// Start launches the function.
func (p *program) Start(service.Service) error {
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	p.host.notify.watchdog(ctx)
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP) // Windows has none: nothing arrives
	go func() {
		defer close(p.done)
		defer signal.Stop(hangups)
		p.err = p.run(ctx, p.host)
	}()
	go func() {
		for {
			select {
			case <-hangups:
				p.host.wishReload()
			case <-p.done:
				return
			}
		}
	}()
	return nil
}

// Stop ends the function and returns what it returned.
func (p *program) Stop(service.Service) error {
	p.host.notify.send("STOPPING=1")
	p.cancel()
	<-p.done
	if errors.Is(p.err, context.Canceled) {
		return nil
	}
	return p.err
}

// wait returns when the function has returned or somebody wants it to stop.
// From then on signals have their usual effect: a second one ends the process.
func (p *program) wait() {
	defer p.deaf()
	select {
	case <-p.asked.Done():
	case <-p.done:
	}
}
