package service

import (
	"context"
	"fmt"
	"os/exec"
	"strings"

	"github.com/certconnector/certconnector/internal/osservice"
	"github.com/certconnector/certconnector/internal/secret"
)

// This returns the service manager of this system. failure tells why the
// service with a configuration ended when it last failed; a root is for tests
// on Linux.
func This(_ string, failure func(config string) string) System {
	return &Windows{
		Manager: osservice.Manager{}, Restrict: secret.RestrictFolder, Readable: secret.ReadableFolder, Run: command, Failure: failure,
	}
}

// command runs a program; what it complained of is in the error.
func command(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w: %s", name, err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}
