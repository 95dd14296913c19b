package osservice

import (
	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/svc"
	"golang.org/x/sys/windows/svc/mgr"
)

// Reload asks a service that runs to read its configuration again, by the
// parameter-change control. How it went is in the service's log.
func (Manager) Reload(name string) error {
	return opened(name, windows.SERVICE_PAUSE_CONTINUE, func(s *mgr.Service) error {
		_, err := s.Control(svc.ParamChange)
		if err != nil {
			return explain("asking the service to read its configuration again", err)
		}
		return nil
	})
}
