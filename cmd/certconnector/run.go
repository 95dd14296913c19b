package main

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/internal/eventid"
	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/internal/logging"
	"github.com/certconnector/certconnector/internal/osservice"
	"github.com/certconnector/certconnector/internal/secret"
)

// serviceName is what the Windows service is called.
const serviceName = "certconnector"

func (p *program) runCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "run",
		Short: "Run the service until it is told to stop",
		Long: `Runs the service on a console, under systemd or as a Windows service. An
interrupt or SIGTERM stops it gracefully, a second one at once. SIGHUP has the
configuration read again, as "certconnector reload" does.

Exit codes: 0 it was told to stop, 2 error, 3 a token refuses the PIN: then it
must not be started again before a person has corrected that, for tokens lock
themselves after a few attempts.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			// Everything happens inside, so that the Windows service manager
			// hears of a configuration that is wrong.
			return ended(osservice.Run(serviceName, p.hosted))
		},
	}
}

// locking is an error that must not be tried again: a token would lock itself.
type locking struct{ error }

// Unwrap returns the error.
func (l *locking) Unwrap() error { return l.error }

// ended tells apart what whoever supervises the service must not try again.
func ended(err error) error {
	if errors.Is(err, keys.ErrPINRefused) {
		return &locking{err}
	}
	return err
}

// serve builds the service and runs it until ctx ends.
func (p *program) serve(ctx context.Context, host *osservice.Host, events *eventLog) (err error) {
	rolling := false
	load := func() (agent.Config, error) {
		c, err := agent.LoadConfig(p.config)
		if err == nil {
			err = secret.CheckUnwritable(p.config)
		}
		if rolling = c.Log.File == "" && host.WindowsService(); rolling { // it has no standard error
			c.Log.File = filepath.Join(c.StateDir, serviceLog)
		}
		return c, err
	}
	c, err := load()
	if err != nil {
		return err
	}
	logs, err := logging.New(logging.Config{
		Level: c.Log.Level, Format: c.Log.Format, File: c.Log.File, AuditFile: c.Log.AuditFile, Stderr: p.err,
		Rolling: rolling, EventLog: events.ofLog(),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, logs.Close()) }()
	log := logs.Logger
	log.Info("starting", eventid.Started.Field(), zap.String("version", currentVersion()), zap.String("config", p.config))
	if why := secret.Unchecked(); why != "" {
		log.Warn("private files are not protected", zap.String("reason", why))
	}
	s, err := agent.NewService(c, agent.Options{Logger: log, Version: currentVersion(), Ready: host.Ready},
		agent.ReloadOptions{Load: load, Level: &logs.Level, Wishes: host.Reloads(), Began: host.Reloading, Over: host.Ready})
	if err == nil {
		err = s.Run(ctx)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		log.Error("the service ended", eventid.Failed.Field(), zap.Error(err))
		events.told()
		if c.Log.File == "" {
			err = &reported{err} // it stands on standard error already
		}
		return err
	}
	log.Info("stopped", eventid.Stopped.Field())
	return nil
}
