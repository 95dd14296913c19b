package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/certconnector/certconnector/installer/service"
	"github.com/certconnector/certconnector/installer/steps"
)

// confirm has the service's name typed.
func (p *program) confirm(what string) error {
	_, _ = fmt.Fprintf(p.err, "%s Type %s to go on: ", what, service.Name) // nobody is left to ask
	line, _ := bufio.NewReader(os.Stdin).ReadString('\n')
	if strings.TrimSpace(line) != service.Name {
		_, _ = fmt.Fprintln(p.err) // nobody is left to tell
		return &refused{errors.New("nothing was changed")}
	}
	return nil
}

// untilStopped ends when somebody ends the program: by an interrupt, SIGTERM, or
// SIGHUP when a connection breaks. What was done is then undone. Where SIGHUP is
// ignored, as below nohup, it stays so.
func untilStopped(ctx context.Context) (context.Context, context.CancelFunc) {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signal.NotifyContext(ctx, signals...)
}

// carryOut shows the steps, or does them; see untilStopped.
func (p *program) carryOut(ctx context.Context, list []steps.Step, plan bool) (done bool, err error) {
	if plan {
		planned, err := steps.Plan(ctx, list)
		if err != nil {
			return false, err
		}
		if p.json {
			return false, p.writeJSON(planned)
		}
		for i, s := range planned {
			p.printf("%2d. %s%s\n", i+1, show(s.Does), already(s))
		}
		return false, nil
	}
	ctx, stop := untilStopped(ctx)
	defer stop()
	var reported []steps.Planned
	err = steps.Run(ctx, list, func(s steps.Planned) {
		reported = append(reported, s)
		if !p.json {
			p.printf("%2d. %s%s\n", len(reported), show(s.Does), already(s))
		}
	})
	if err == nil && p.json {
		err = p.writeJSON(reported)
	}
	return err == nil, err
}

func already(s steps.Planned) string {
	if s.State == steps.Already {
		return " (already so)"
	}
	return ""
}
