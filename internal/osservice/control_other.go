//go:build !windows

package osservice

import (
	"context"
	"errors"
)

// errNotWindows is for what only Windows has.
var errNotWindows = errors.New("this system has no service manager of Windows")

// Status fails.
func (Manager) Status(string) (Status, error) { return Status{}, errNotWindows }

// Install fails.
func (Manager) Install(Spec) error { return errNotWindows }

// Command fails.
func (Manager) Command(Spec) string { return "" }

// Restore fails.
func (Manager) Restore(string, Status) error { return errNotWindows }

// Uninstall fails.
func (Manager) Uninstall(string) error { return errNotWindows }

// Start fails.
func (Manager) Start(context.Context, string) error { return errNotWindows }

// Stop fails.
func (Manager) Stop(context.Context, string) error { return errNotWindows }

// EventSource fails.
func (Manager) EventSource(string) (string, error) { return "", errNotWindows }

// RegisterEventSource fails.
func (Manager) RegisterEventSource(_, _ string) error { return errNotWindows }

// UnregisterEventSource fails.
func (Manager) UnregisterEventSource(string) error { return errNotWindows }

// FirewallRules fails.
func (Manager) FirewallRules() ([]string, error) { return nil, errNotWindows }

// Packaged fails.
func (Manager) Packaged(string) (bool, error) { return false, errNotWindows }
