package osservice

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unsafe"

	"github.com/kardianos/service"
	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"
)

// Install makes the service, or gives one that exists the command line and the
// account. When it fails, a new one is removed again; one that exists may have
// been given both: Restore takes them back. The event source must be registered
// before: kardianos/service registers EventCreate.exe's messages otherwise,
// which end at number 1000.
func (m Manager) Install(s Spec) error {
	if _, err := m.Status(s.Name); err == nil {
		if err := m.change(s.Name, Status{Command: m.Command(s), Account: s.Account, AutoStart: !s.Manual}); err != nil {
			return err
		}
		return complete(s)
	} else if !errors.Is(err, ErrNotInstalled) {
		return err
	}
	start := service.ServiceStartAutomatic
	if s.Manual {
		start = service.ServiceStartManual
	}
	made, err := service.New(nil, &service.Config{
		Name: s.Name, DisplayName: s.DisplayName, Description: s.Description,
		Executable: s.Program, Arguments: s.Arguments, UserName: s.Account,
		Option: service.KeyValue{service.StartType: start},
	})
	if err != nil {
		return fmt.Errorf("preparing the service: %w", err)
	}
	if err := made.Install(); err != nil {
		return explain("installing the service", err)
	}
	if err := complete(s); err != nil {
		return errors.Join(err, m.Uninstall(s.Name))
	}
	return nil
}

// complete sets what kardianos/service cannot, or not in Wine: recovery actions
// that also follow an exit with an error, which Windows does not count as a
// crash, and more.
func complete(spec Spec) error {
	delayed := uint32(1)
	if spec.Manual {
		delayed = 0
	}
	return opened(spec.Name, windows.SERVICE_ALL_ACCESS, func(s *mgr.Service) error {
		restart := func(after time.Duration) mgr.RecoveryAction {
			return mgr.RecoveryAction{Type: mgr.ServiceRestart, Delay: after}
		}
		const resetAfter = 24 * 60 * 60 // seconds without a failure
		actions := []mgr.RecoveryAction{restart(5 * time.Second), restart(30 * time.Second), restart(time.Minute)}
		if err := s.SetRecoveryActions(actions, resetAfter); err != nil {
			return fmt.Errorf("setting the recovery actions: %w", err)
		}
		if err := s.SetRecoveryActionsOnNonCrashFailures(true); err != nil && !unknownToWine(err) {
			return fmt.Errorf("setting the recovery actions: %w", err)
		}
		// Each of these structures is one number of 32 bits.
		for _, c := range []struct {
			what         string
			level, value uint32
		}{
			{"a start after everything else", windows.SERVICE_CONFIG_DELAYED_AUTO_START_INFO, delayed},
			// 10 s would be the default.
			{"how long a shutdown waits", windows.SERVICE_CONFIG_PRESHUTDOWN_INFO, uint32(StopTimeout.Milliseconds())},
			// In its token whatever it runs as, so that folders can be given to it.
			{"an identity of the service", windows.SERVICE_CONFIG_SERVICE_SID_INFO, windows.SERVICE_SID_TYPE_UNRESTRICTED},
		} {
			err := windows.ChangeServiceConfig2(s.Handle, c.level, (*byte)(unsafe.Pointer(&c.value)))
			if err != nil && !unknownToWine(err) {
				return fmt.Errorf("setting %s: %w", c.what, err)
			}
		}
		return nil
	})
}

// unknownToWine is what Wine answers to what it does not know.
func unknownToWine(err error) bool {
	return errors.Is(err, windows.ERROR_CALL_NOT_IMPLEMENTED) || errors.Is(err, windows.ERROR_INVALID_LEVEL)
}

// Command returns the command line that Install gives the service.
func (Manager) Command(s Spec) string {
	words := []string{windows.EscapeArg(s.Program)}
	for _, a := range s.Arguments {
		words = append(words, windows.EscapeArg(a))
	}
	return strings.Join(words, " ")
}

// Restore gives a service the command line and the account that it had.
func (m Manager) Restore(name string, was Status) error { return m.change(name, was) }

func (Manager) change(name string, to Status) error {
	return opened(name, windows.SERVICE_CHANGE_CONFIG, func(s *mgr.Service) error {
		command, err := windows.UTF16PtrFromString(to.Command)
		if err != nil {
			return fmt.Errorf("the command line: %w", err)
		}
		account, err := windows.UTF16PtrFromString(to.Account)
		if err != nil {
			return fmt.Errorf("the account: %w", err)
		}
		start := uint32(windows.SERVICE_DEMAND_START)
		if to.AutoStart {
			start = windows.SERVICE_AUTO_START
		}
		// An empty password: these accounts have none, or Windows keeps it.
		var none uint16
		err = windows.ChangeServiceConfig(s.Handle, windows.SERVICE_NO_CHANGE, start, windows.SERVICE_NO_CHANGE,
			command, nil, nil, nil, account, &none, nil)
		return explain("changing the service", err)
	})
}

// Uninstall marks the service for deletion; it is gone when its process and
// every window that shows it are. One that is not there is fine.
func (Manager) Uninstall(name string) error {
	err := opened(name, windows.DELETE, func(s *mgr.Service) error { return explain("deleting the service", s.Delete()) })
	if errors.Is(err, ErrNotInstalled) {
		return nil
	}
	return err
}

// Start starts the service and waits until it serves. One that runs is fine.
func (m Manager) Start(ctx context.Context, name string) error {
	err := opened(name, windows.SERVICE_START, func(s *mgr.Service) error { return s.Start() })
	if err != nil && !errors.Is(err, windows.ERROR_SERVICE_ALREADY_RUNNING) {
		return explain("starting the service", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startPatience+10*time.Second)
	defer cancel()
	st, err := m.waitFor(ctx, name, stateRunning, stateStopped)
	if err != nil {
		return err
	}
	if st.State == stateStopped {
		return fmt.Errorf("the service stopped at once (exit code %d, its own %d)", st.Exit, st.Specific)
	}
	return nil
}

// Stop stops the service and waits until it has. One that does not run is fine.
func (m Manager) Stop(ctx context.Context, name string) error {
	err := opened(name, windows.SERVICE_STOP, func(s *mgr.Service) error {
		_, err := s.Control(svc.Stop)
		return err
	})
	if err != nil && !errors.Is(err, windows.ERROR_SERVICE_NOT_ACTIVE) {
		return explain("stopping the service", err)
	}
	ctx, cancel := context.WithTimeout(ctx, stopPatience+5*time.Second)
	defer cancel()
	_, err = m.waitFor(ctx, name, stateStopped)
	return err
}

// waitFor looks at the service until it is in one of the states.
func (m Manager) waitFor(ctx context.Context, name string, states ...string) (Status, error) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		st, err := m.Status(name)
		if err != nil {
			return st, err
		}
		for _, s := range states {
			if st.State == s {
				return st, nil
			}
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return st, fmt.Errorf("the service is still %s: %w", st.State, ctx.Err())
		}
	}
}

// opened calls do with the service, opened with the rights that it needs and
// no more: an operator may be allowed to start and stop it, and nothing else.
func opened(name string, rights uint32, do func(*mgr.Service) error) error {
	manager, err := windows.OpenSCManager(nil, nil, windows.SC_MANAGER_CONNECT)
	if err != nil {
		return explain("opening the service manager", err)
	}
	defer func() { _ = windows.CloseServiceHandle(manager) }() // nothing is lost
	wide, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return fmt.Errorf("the service's name: %w", err)
	}
	h, err := windows.OpenService(manager, wide, rights)
	if errors.Is(err, windows.ERROR_SERVICE_DOES_NOT_EXIST) {
		return ErrNotInstalled
	}
	if err != nil {
		return explain("opening the service", err)
	}
	defer func() { _ = windows.CloseServiceHandle(h) }() // nothing is lost
	return do(&mgr.Service{Name: name, Handle: h})
}

// explain adds a way out to the errors that people meet.
func explain(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, windows.ERROR_ACCESS_DENIED):
		return fmt.Errorf("%s: %w: run this as Administrator", what, err)
	case errors.Is(err, windows.ERROR_SERVICE_MARKED_FOR_DELETE):
		return fmt.Errorf("%s: %w: close the window Services and whatever else shows it, then try again", what, err)
	case errors.Is(err, windows.ERROR_SERVICE_LOGON_FAILED):
		return fmt.Errorf(`%s: %w: the account needs the right "Log on as a service", and a gMSA must be usable on this computer (Test-ADServiceAccount)`, what, err)
	case errors.Is(err, windows.ERROR_INVALID_SERVICE_ACCOUNT):
		return fmt.Errorf("%s: %w: no such account; a gMSA is written DOMAIN\\name$", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
