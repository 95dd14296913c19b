package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/internal/configfile"
	"github.com/certconnector/certconnector/internal/durable"
	"github.com/certconnector/certconnector/internal/eventid"
	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/internal/logging"
	"github.com/certconnector/certconnector/internal/osservice"
)

// Files of a Windows service in its state folder. Under systemd the journal
// has all that they hold.
const (
	serviceLog  = "certconnector.log" // where the configuration names no other
	lastFailure = "last-failure.json" // why the service ended the last time that it failed
)

// Service-specific exit codes of a Windows service.
const (
	exitFailed   = 1
	exitMistaken = 2 // the configuration is wrong
)

// failure is what last-failure.json holds.
type failure struct {
	Time    time.Time `json:"time"`
	Version string    `json:"version"`
	Error   string    `json:"error"`
}

// eventLog is the event log of a Windows service; nil elsewhere.
type eventLog struct {
	log  logging.EventLog
	said bool // a line of the log says why the service ended
}

// ofLog is where the log writes events.
func (e *eventLog) ofLog() logging.EventLog {
	if e == nil {
		return nil
	}
	return e.log
}

// told notes that the log has said why the service ended.
func (e *eventLog) told() {
	if e != nil {
		e.said = true
	}
}

// hosted runs serve. What a Windows service ends with would be lost: it has no
// standard error, and a configuration that is wrong names no log. So it goes
// to the event log, and into a file for "service status".
func (p *program) hosted(ctx context.Context, host *osservice.Host) error {
	if !host.WindowsService() {
		return p.serve(ctx, host, nil)
	}
	events := &eventLog{}
	if opened, err := osservice.OpenEventLog(serviceName); err == nil {
		events.log = opened
		defer func() { _ = opened.Close() }() // nothing is buffered
	}
	err := p.serve(ctx, host, events)
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	text := logging.EventText(err.Error())
	if events.log != nil && !events.said {
		_ = events.log.Write(zapcore.ErrorLevel, uint32(eventid.Failed), text) // the file has it too
	}
	if b, marshalErr := json.Marshal(failure{time.Now(), currentVersion(), text}); marshalErr == nil {
		_ = durable.WriteFile(filepath.Join(agent.StateDir(p.config), lastFailure), b, 0o600) // the event log has it too
	}
	return windowsEnd(err)
}

// windowsEnd is what the service manager of Windows hears. After any error it
// starts the service again, so that a token which refuses the PIN, and counts,
// must be none to it.
func windowsEnd(err error) error {
	if errors.Is(err, keys.ErrPINRefused) {
		return nil
	}
	return &serviceEnd{err}
}

// serviceEnd is an error with the exit code of a Windows service.
type serviceEnd struct{ error }

// Unwrap returns the error.
func (m *serviceEnd) Unwrap() error { return m.error }

// ServiceExitCode tells a configuration that is wrong from all else.
func (m *serviceEnd) ServiceExitCode() uint32 {
	if _, wrong := errors.AsType[configfile.Mistakes](m.error); wrong {
		return exitMistaken
	}
	return exitFailed
}

// readFailure returns why the service of a state folder ended when it last
// failed, or nil where nothing is known.
func readFailure(stateDir string) (*failure, error) {
	b, err := os.ReadFile(filepath.Join(stateDir, lastFailure))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading why the service failed: %w", err)
	}
	var f failure
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, fmt.Errorf("reading why the service failed: %w", err)
	}
	return &f, nil
}
