//go:build e2ewindows

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestServiceFromAnArchive runs the program alone, as it is in the archive:
// "certconnector service" does what the package would.
func TestServiceFromAnArchive(t *testing.T) {
	s := newService(t)
	s.place(t)
	for _, step := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"a plan changes nothing", func(t *testing.T) {
			out := s.run(t, program, "service", "install", "--plan")
			for _, want := range []string{`and read by NT SERVICE\certconnector`, "register the event source", `which runs as NT SERVICE\certconnector`} {
				if !strings.Contains(out, want) || strings.Contains(out, "already so") {
					t.Errorf("the plan lacks %q:\n%s", want, out)
				}
			}
			s.has(t, false, s.state())
			s.refused(t, "not installed", "service", "status")
		}},
		{"it installs, and does not start without a configuration", func(t *testing.T) {
			if out := s.run(t, program, "service", "install"); !strings.Contains(out, "New-NetFirewallRule") {
				t.Errorf("no hint for the firewall:\n%s", out)
			}
			s.installed(t)
			if out, err := s.Run(program, "service", "start"); err == nil || !strings.Contains(out, "certconnector init") {
				t.Errorf("a start without a configuration: %v\n%s", err, out)
			}
		}},
		{"init, start, a device enrols", func(t *testing.T) {
			s.init(t)
			s.run(t, program, "service", "start")
			s.is(t, running)
			s.enrol(t, "archive")
			// Wine has no unix sockets: how the service is cannot be asked, which is told.
			s.refused(t, "state        running, process ", "service", "status")
			s.has(t, true, s.state("certconnector.log"))
		}},
		{"installed again, nothing changes", func(t *testing.T) {
			out := s.run(t, program, "service", "install")
			if strings.Count(out, "already so") != 2 { // rights are given again
				t.Errorf("the second time:\n%s", out)
			}
			s.remembers(t, "archive")
		}},
		{"a restart", func(t *testing.T) {
			s.run(t, program, "service", "restart")
			s.is(t, running)
			s.remembers(t, "archive")
		}},
		{"a start that fails tells why", s.tellsWhy},
		{"a reboot: it starts by itself", func(t *testing.T) {
			s.Reboot(t)
			s.is(t, running)
			s.remembers(t, "archive")
		}},
		{"uninstalling keeps data and configuration", func(t *testing.T) {
			s.run(t, program, "service", "uninstall")
			if state, _ := s.query(); state != "" || s.answers() {
				t.Errorf("there is a service in state %s", state)
			}
			if out, err := s.Run("reg", "query", `HKLM\SYSTEM\CurrentControlSet\Services\EventLog\Application\certconnector`); err == nil {
				t.Errorf("the event source is still there: %s", out)
			}
			s.has(t, true, s.config(), s.state("journal.db"), s.state("ca", "ca.key.pem"))
		}},
		{"a purge deletes them", func(t *testing.T) {
			s.run(t, program, "service", "install")
			s.run(t, program, "service", "uninstall", "--purge", "--yes")
			s.has(t, false, s.config(), s.state(), s.Drive("ProgramData", "certconnector"))
		}},
	} {
		if !t.Run(step.name, step.do) {
			return // what follows builds on it
		}
	}
}

// place puts the program where it is to stay.
func (s *service) place(t *testing.T) {
	t.Helper()
	exe := s.Drive("Program Files", "certconnector", "certconnector.exe")
	if err := os.MkdirAll(filepath.Dir(exe), 0o755); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), "go", "build", "-o", exe, "./cmd/certconnector")
	c.Dir, c.Env = repository, append(os.Environ(), "GOOS=windows", "GOARCH=amd64", "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// refused runs what must end with exit code 1 and say why.
func (s *service) refused(t *testing.T, why string, args ...string) {
	t.Helper()
	out, err := s.Run(program, args...)
	if err == nil || !strings.Contains(err.Error(), "exit status 1") || !strings.Contains(out, why) {
		t.Errorf("%q does not say %q with exit code 1: %v\n%s", args, why, err, out)
	}
}

// installed looks into the registry.
func (s *service) installed(t *testing.T) {
	t.Helper()
	s.isIdleService(t)
	if out := s.run(t, "reg", "query", regKey); !strings.Contains(out, "Certificate connector") || !strings.Contains(out, "PreshutdownTimeout") {
		t.Errorf("the service's key:\n%s", out)
	}
}

// tellsWhy breaks the configuration, and then takes its port.
func (s *service) tellsWhy(t *testing.T) {
	good, err := os.ReadFile(s.config())
	if err != nil {
		t.Fatal(err)
	}
	for _, broken := range []struct{ name, text, why string }{
		{"a key that nobody knows", string(good) + "no_such_key: 1\n", "no_such_key"},
		{"a port that is taken", strings.Replace(string(good), s.address, s.taken(t), 1), "listening on"},
	} {
		if err := os.WriteFile(s.config(), []byte(broken.text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := s.Run(program, "service", "restart")
		if err == nil || !strings.Contains(out, broken.why) {
			t.Errorf("%s: restart says %q, %v", broken.name, out, err)
		}
		s.is(t, stopped)
		s.refused(t, broken.why, "service", "status")
	}
	if b, err := os.ReadFile(s.state("certconnector.log")); err != nil || !strings.Contains(string(b), `"service_event":102`) {
		t.Errorf("the log does not tell: %v", err)
	}
	if err := os.WriteFile(s.config(), good, 0o600); err != nil {
		t.Fatal(err)
	}
	s.run(t, program, "service", "start")
}
