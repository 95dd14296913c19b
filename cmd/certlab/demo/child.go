package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// grace is how long a child has to stop when it is asked to.
const grace = time.Minute

// child is a process of the demonstration. Its output goes to a file, to be
// read when something is wrong.
type child struct {
	name string
	log  string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how, once done is closed
}

// patience is how long something may take that takes a second or two: machines
// can be busy, and a demonstration that fails has to have a reason.
const patience = 2 * time.Minute

// start starts a program; its output is added to the log file.
func start(name, log, program string, args ...string) (*child, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("starting the %s: %w", name, err)
	}
	defer f.Close()
	c := &child{name: name, log: log, cmd: exec.Command(program, args...), done: make(chan struct{})}
	c.cmd.Stdout, c.cmd.Stderr = f, f
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the %s: %w", name, err)
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.done)
	}()
	return c, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// stop asks the child to stop, and waits. A child that ended badly, or had to
// be killed, is an error.
func (c *child) stop() error {
	select {
	case <-c.done:
		return fmt.Errorf("the %s had ended by itself: %v; see %s", c.name, c.err, c.log)
	default:
	}
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return c.kill() // Windows has no such signal
	}
	select {
	case <-c.done:
	case <-time.After(grace):
		return errors.Join(fmt.Errorf("the %s did not stop within %s; see %s", c.name, grace, c.log), c.kill())
	}
	if c.err != nil {
		return fmt.Errorf("the %s ended with %w; see %s", c.name, c.err, c.log)
	}
	return nil
}

// kill ends the child at once: SIGKILL, as a power failure would.
func (c *child) kill() error {
	if err := c.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing the %s: %w", c.name, err)
	}
	<-c.done
	return nil
}

// until asks every 20 ms until it is so. It ends early when the child does, and
// with the last reason at the limit.
func (c *child) until(ctx context.Context, limit time.Duration, so func() error) error {
	return until(ctx, limit, func() error {
		select {
		case <-c.done:
			return final{fmt.Errorf("the %s has ended: %v; %s says at its end:\n%s", c.name, c.err, c.log, tail(c.log))}
		default:
			return so()
		}
	})
}

// final is a reason that no waiting will change.
type final struct{ error }

// until asks every 20 ms until it is so, or the limit ends.
func until(ctx context.Context, limit time.Duration, so func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := so()
		if err == nil {
			return nil
		}
		if f, ok := errors.AsType[final](err); ok {
			return f.error
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not within %s: %w", limit, err)
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tail is the end of a file.
func tail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	const most = 2000
	if info, err := f.Stat(); err == nil && info.Size() > most {
		_, _ = f.Seek(-most, io.SeekEnd) // else it is read from its start
	}
	b, _ := io.ReadAll(io.LimitReader(f, most))
	return string(b)
}
