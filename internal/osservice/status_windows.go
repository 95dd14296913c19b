package osservice

import (
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"
)

// States in words.
const (
	stateRunning = "running"
	stateStopped = "stopped"
)

var states = map[svc.State]string{
	svc.Running: stateRunning, svc.Stopped: stateStopped, svc.StartPending: "starting", svc.StopPending: "stopping",
	svc.Paused: "paused", svc.PausePending: "pausing", svc.ContinuePending: "continuing",
}

// Status asks about a service; ErrNotInstalled where there is none.
func (Manager) Status(name string) (Status, error) {
	var st Status
	err := opened(name, windows.SERVICE_QUERY_STATUS|windows.SERVICE_QUERY_CONFIG, func(s *mgr.Service) error {
		now, err := s.Query()
		if err != nil {
			return fmt.Errorf("asking how the service is: %w", err)
		}
		st = Status{State: states[now.State], PID: now.ProcessId, Since: began(now.ProcessId), Exit: now.Win32ExitCode, Specific: now.ServiceSpecificExitCode}
		if st.State == "" {
			st.State = fmt.Sprintf("in state %d", now.State)
		}
		if now.State != svc.Stopped {
			st.Exit, st.Specific = 0, 0
		}
		return describe(s.Handle, &st)
	})
	return st, err
}

// describe reads what mgr.Service.Config reads, without the parts that Wine
// does not know.
func describe(h windows.Handle, st *Status) error {
	for size := uint32(2048); ; {
		// Pointer-sized words: the structure must be aligned.
		buffer := make([]uint64, (size+7)/8)
		c := (*windows.QUERY_SERVICE_CONFIG)(unsafe.Pointer(&buffer[0]))
		need := uint32(0)
		err := windows.QueryServiceConfig(h, c, size, &need)
		if errors.Is(err, windows.ERROR_INSUFFICIENT_BUFFER) && need > size {
			size = need
			continue
		}
		if err != nil {
			return fmt.Errorf("asking how the service is set up: %w", err)
		}
		st.Command = windows.UTF16PtrToString(c.BinaryPathName)
		st.Account = windows.UTF16PtrToString(c.ServiceStartName)
		st.AutoStart = c.StartType == windows.SERVICE_AUTO_START
		return nil
	}
}

// began is when a process began, or zero where that is not to be known.
func began(pid uint32) time.Time {
	if pid == 0 {
		return time.Time{}
	}
	h, err := windows.OpenProcess(windows.PROCESS_QUERY_LIMITED_INFORMATION, false, pid)
	if err != nil {
		return time.Time{}
	}
	defer func() { _ = windows.CloseHandle(h) }() // nothing is lost
	var created, exited, kernel, user windows.Filetime
	if err := windows.GetProcessTimes(h, &created, &exited, &kernel, &user); err != nil {
		return time.Time{}
	}
	return time.Unix(0, created.Nanoseconds())
}
