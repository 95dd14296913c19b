//go:build e2elinux

package e2e

import (
	"strings"
	"testing"
)

const anyAddress, loopback = "00000000", "0100007F" // as /proc/net/tcp writes them

// reconfigured puts another address into the configuration, installs again and restarts.
func (s *service) reconfigured(t *testing.T, from, to string) {
	t.Helper()
	s.run(t, "sed", "-i", `s/^    address: "`+from+`"$/    address: "`+to+`"/`, config)
	s.run(t, "certconnector", "service", "install")
	s.run(t, "certconnector", "service", "restart")
	s.confined(t)
	if out, err := s.try("certconnector", "service", "status"); err != nil {
		t.Errorf("at %s it is not ready: %s", to, out)
	}
}

// listens tells whether somebody listens on a port, both in hexadecimal.
func (s *service) listens(t *testing.T, address, port string) bool {
	t.Helper()
	for line := range strings.Lines(s.run(t, "cat", "/proc/net/tcp", "/proc/net/tcp6")) {
		if f := strings.Fields(line); len(f) > 3 && strings.HasSuffix(f[1], address+":"+port) && f[3] == "0A" {
			return true
		}
	}
	return false
}

// ports has the service listen elsewhere, and go back.
func (s *service) ports(t *testing.T) {
	const at443, at444 = "01BB", "01BC"
	const socket = "certconnector.socket"
	s.reconfigured(t, ":443", "127.0.0.1:444")
	if !s.listens(t, loopback, at444) || s.listens(t, anyAddress, at444) || s.listens(t, anyAddress, at443) {
		t.Errorf("open are:\n%s", s.run(t, "cat", "/proc/net/tcp", "/proc/net/tcp6"))
	}
	s.reconfigured(t, "127.0.0.1:444", "127.0.0.1:8443")
	if s.listens(t, loopback, at444) {
		t.Error("systemd still listens on port 444")
	}
	s.has(t, false, "/etc/systemd/system/"+socket, "/etc/systemd/system/sockets.target.wants/"+socket)
	s.reconfigured(t, "127.0.0.1:8443", "0.0.0.0:443")
	s.enrol(t, "back-at-443")
	s.reconfigured(t, "0.0.0.0:443", ":443")
	s.remembers(t, "archive")
}

// manual has the service start by hand alone.
func (s *service) manual(t *testing.T) {
	s.run(t, "certconnector", "service", "install", "--manual")
	s.run(t, "certconnector", "service", "stop")
	s.has(t, false, "/etc/systemd/system/multi-user.target.wants/certconnector.service", "/etc/systemd/system/sockets.target.wants/certconnector.socket")
	s.run(t, "certconnector", "service", "start")
	s.enrol(t, "by-hand")
	s.run(t, "certconnector", "service", "install")
}

// loseUnits has somebody remove the units' files while the service runs.
func (s *service) loseUnits(t *testing.T) {
	s.run(t, "rm", "/etc/systemd/system/certconnector.service", "/etc/systemd/system/certconnector.socket")
	s.run(t, "certconnector", "service", "uninstall")
	s.has(t, false, "/etc/systemd/system/multi-user.target.wants/certconnector.service", "/etc/systemd/system/sockets.target.wants/certconnector.socket")
	if out, err := s.try("systemctl", "is-active", "certconnector.service"); err == nil {
		t.Errorf("the service is %s", out)
	}
	s.run(t, "certconnector", "service", "install")
	s.run(t, "certconnector", "service", "start")
}
