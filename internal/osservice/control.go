package osservice

import (
	"errors"
	"time"
)

// StopTimeout is how long a stopping service may take before it is ended:
// longer than any shutdown_grace that is sensible. It is TimeoutStopSec of the
// unit, and on Windows the time a computer that shuts down waits.
const StopTimeout = 60 * time.Second

// ErrNotInstalled: the system knows no service of that name.
var ErrNotInstalled = errors.New("the service is not installed")

// Spec describes a service for the service manager of Windows. It starts with
// the system, a little after everything else, and is started again whenever it
// ends by itself: after 5 s, 30 s and then every minute.
type Spec struct {
	Name        string
	DisplayName string
	Description string
	Program     string   // absolute path
	Arguments   []string // a service starts in C:\Windows\System32: paths must be absolute
	Manual      bool     // it does not start with the system
	Account     string   // "NT SERVICE\name", "DOMAIN\gmsa$", "LocalSystem", …; none needs a password
}

// Status is what the service manager of Windows knows of a service.
type Status struct {
	State     string    // "running", "stopped", "starting", "stopping", or another in words
	PID       uint32    // 0: no process
	Since     time.Time // when the process began; zero: unknown
	Exit      uint32    // Win32 exit code of the last run; 0: none, or it was stopped
	Specific  uint32    // the service's own exit code, where Exit is 1066
	Command   string    // command line
	Account   string
	AutoStart bool // it starts with the system
}

// Manager is the service manager of this computer. On other systems than
// Windows each call fails.
type Manager struct{}
