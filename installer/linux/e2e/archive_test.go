//go:build e2elinux

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestServiceFromAnArchive runs the program alone, as it is in the archive:
// "certconnector service" does what a package would.
func TestServiceFromAnArchive(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("a container with systemd needs root")
	}
	m := boot(t)
	s := &service{machine: m}
	host(t, "install", "-m", "755", "bin/certconnector", filepath.Join(m.root, "usr", "local", "bin", "certconnector"))
	const unit, socket = "/etc/systemd/system/certconnector.service", "/etc/systemd/system/certconnector.socket"
	for _, step := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"a plan changes nothing", func(t *testing.T) {
			out := m.run(t, "certconnector", "service", "install", "--plan")
			if !strings.Contains(out, "1. make the system account certconnector\n") || strings.Contains(out, "already so") {
				t.Errorf("the plan:\n%s", out)
			}
			s.has(t, false, unit, state)
			s.refused(t, "not installed", "certconnector", "service", "status")
		}},
		{"it installs, and does not start without a configuration", func(t *testing.T) {
			m.run(t, "certconnector", "service", "install")
			s.isIdle(t)
			if got := m.run(t, "stat", "-c", "%U:%G %a", "/etc/certconnector", state); got != "root:certconnector 750\ncertconnector:certconnector 700" {
				t.Errorf("the folders: %q", got)
			}
			if out, err := m.try("certconnector", "service", "start"); err == nil || !strings.Contains(out, "certconnector init") {
				t.Errorf("a start without a configuration: %v", err)
			}
		}},
		{"init, start, a device enrols", func(t *testing.T) {
			s.init(t)
			m.run(t, "certconnector", "service", "start")
			s.confined(t)
			s.enrol(t, "archive")
			out := m.run(t, "certconnector", "service", "status")
			for _, want := range []string{"state        running, process " + s.show(t, "MainPID") + ", since ", "at boot      starts", "health       ready", "account      certconnector"} {
				if !strings.Contains(out, want) {
					t.Errorf("status lacks %q:\n%s", want, out)
				}
			}
		}},
		{"installed again, nothing changes", func(t *testing.T) {
			out := m.run(t, "certconnector", "service", "install", "--plan")
			if done, all := strings.Count(out, "already so"), strings.Count(out, "\n")+1; done != all {
				t.Errorf("%d of %d steps are already so:\n%s", done, all, out)
			}
		}},
		{"a restart is another process", func(t *testing.T) {
			pid := s.show(t, "MainPID")
			m.run(t, "certconnector", "service", "restart")
			if s.show(t, "MainPID") == pid {
				t.Error("it is the same process")
			}
			s.remembers(t, "archive")
		}},
		{"other ports, and back", s.ports},
		{"no start with the system, and back", s.manual},
		{"without its units' files it can be uninstalled", s.loseUnits},
		{"a start that fails tells why", func(t *testing.T) {
			m.run(t, "cp", "-p", config, config+".good")
			m.run(t, "sh", "-c", "echo 'no_such_key: 1' >>"+config)
			out, err := m.try("certconnector", "service", "restart")
			if err == nil || !strings.Contains(out, "no_such_key") {
				t.Errorf("restart says %q, %v", out, err)
			}
			s.refused(t, "no_such_key", "certconnector", "service", "status")
			m.run(t, "mv", config+".good", config)
			m.run(t, "certconnector", "service", "restart")
		}},
		{"stop, and nobody answers", func(t *testing.T) {
			m.run(t, "certconnector", "service", "stop")
			if out, err := s.beside("curl", "-sk", "--max-time", "5", url); err == nil {
				t.Errorf("somebody answers on port 443: %s", out)
			}
			s.refused(t, "state        stopped", "certconnector", "service", "status")
		}},
		{"uninstalling keeps data and configuration", func(t *testing.T) {
			m.run(t, "certconnector", "service", "start")
			m.run(t, "certconnector", "service", "uninstall")
			s.has(t, false, unit, socket, "/etc/systemd/system/multi-user.target.wants/certconnector.service")
			s.has(t, true, config, state+"/journal.db", state+"/ca/ca.key.pem")
			if out, err := m.try("systemctl", "is-active", "certconnector.service"); err == nil {
				t.Errorf("the service is %s", out)
			}
		}},
		{"installed again, it goes on where it was", func(t *testing.T) {
			m.run(t, "certconnector", "service", "install")
			m.run(t, "certconnector", "service", "start")
			s.remembers(t, "archive")
		}},
		{"a purge asks first", func(t *testing.T) {
			s.refused(t, "nothing was changed", "sh", "-c", "echo no | certconnector service uninstall --purge")
			s.remembers(t, "archive")
			m.run(t, "sh", "-c", "echo certconnector | certconnector service uninstall --purge")
			s.has(t, false, unit, socket, "/etc/certconnector", state)
			m.run(t, "certconnector", "service", "uninstall", "--purge", "--yes") // nothing is left to do
		}},
	} {
		if !t.Run(step.name, step.do) {
			return // what follows builds on it
		}
	}
}

// refused runs what must end with exit code 1 and say why.
func (s *service) refused(t *testing.T, why string, args ...string) {
	t.Helper()
	out, err := s.try(args...)
	if err == nil || !strings.Contains(err.Error(), "exit status 1") || !strings.Contains(out, why) {
		t.Errorf("%q does not say %q with exit code 1: %v\n%s", args, why, err, out)
	}
}
