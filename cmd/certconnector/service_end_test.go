package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/certconnector/certconnector/installer/linux"
	"github.com/certconnector/certconnector/internal/keys"
)

// TestARefusedPINIsNotTriedAgain: a token locks itself after a few attempts, and
// a service that ends is started again.
func TestARefusedPINIsNotTriedAgain(t *testing.T) {
	refusedPIN := &reported{fmt.Errorf("endpoint %q: %w", "phones", keys.ErrPINRefused)}
	for _, row := range []struct {
		name string
		err  error
		code int
	}{
		{"it was told to stop", nil, exitOK},
		{"an error", errors.New("address in use"), exitError},
		{"a token refuses the PIN", refusedPIN, exitPIN},
	} {
		p := &program{out: io.Discard, err: io.Discard}
		c := &cobra.Command{RunE: func(*cobra.Command, []string) error { return ended(row.err) }, SilenceErrors: true, SilenceUsage: true}
		c.SetArgs([]string{})
		if code := p.execute(c); code != row.code {
			t.Errorf("%s: exit code %d, want %d", row.name, code, row.code)
		}
	}
	unit := linux.Paths{Program: linux.Program, Config: linux.Config, StateDir: linux.StateDir}.Service()
	if !strings.Contains(unit, "\nRestartPreventExitStatus="+strconv.Itoa(exitPIN)+"\n") {
		t.Error("systemd would start the service again")
	}
	if err := windowsEnd(refusedPIN); err != nil {
		t.Errorf("Windows would start the service again after %v", err)
	}
	if windowsEnd(errors.New("address in use")) == nil {
		t.Error("Windows does not hear of another error")
	}
}
