//go:build e2ewindows

package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPackage(t *testing.T) {
	done := stamp(t, "building")
	before, after := built(t, "v1.0.0-rc.1"), built(t, "v1.0.0")
	again := built(t, "v1.0.0")
	t.Run("the same bytes each time", func(t *testing.T) { sameBytes(t, after, again) })
	old, upgrade := only(t, before, "*.msi"), only(t, after, "*.msi")
	t.Run("what the package does", func(t *testing.T) { packageTables(t, upgrade, old) })

	done()
	done = stamp(t, "making a Windows")
	s := newService(t)
	done()
	given := s.Drive("deploy", "site.yaml")
	for _, step := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"installs, and does not start without a configuration", func(t *testing.T) {
			if err := s.msiexec(t, "/i", s.Path(old)); err != nil {
				t.Fatal(err)
			}
			s.isIdle(t)
		}},
		{"init uses the package's folders", s.init},
		{"starts, and enrols a device", func(t *testing.T) {
			s.start(t)
			s.enrol(t, "first")
		}},
		{"net stop and net start", func(t *testing.T) {
			s.stop(t)
			s.start(t)
			s.remembers(t, "first")
		}},
		{"a restart by our command", func(t *testing.T) {
			defer stamp(t, "certconnector service restart")()
			if out := s.run(t, program, "service", "restart"); !strings.Contains(out, "the service is running") {
				t.Errorf("it says %s", out)
			}
			s.is(t, running)
			s.remembers(t, "first")
		}},
		{"a reboot: it starts by itself, and knows what it issued", func(t *testing.T) {
			defer stamp(t, "wineserver -k, wineboot")()
			s.Reboot(t)
			s.is(t, running)
			s.remembers(t, "first")
			s.enrol(t, "after-reboot")
		}},
		{"an upgrade keeps what was edited", func(t *testing.T) { s.upgrade(t, upgrade) }},
		{"an older version is refused", func(t *testing.T) { s.downgrade(t) }},
		{"a start that fails is seen", s.failedStart},
		{"removing keeps data and configuration", func(t *testing.T) {
			if err := s.msiexec(t, "/x", s.Path(upgrade)); err != nil {
				t.Fatal(err)
			}
			s.isRemoved(t)
			s.has(t, true, s.config(), s.state("journal.db"), s.state("ca", "ca.key.pem"))
		}},
		{"installed with CONFIG=, it starts and goes on where it was", func(t *testing.T) {
			if err := os.MkdirAll(filepath.Dir(given), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(s.config(), given); err != nil {
				t.Fatal(err)
			}
			if err := s.msiexec(t, "/i", s.Path(upgrade), "CONFIG="+s.Path(given), "STARTSERVICE=1"); err != nil {
				t.Fatal(err)
			}
			s.is(t, running)
			s.remembers(t, "first")
			s.enrol(t, "given")
		}},
		{"CONFIG= replaces nothing, and STARTSERVICE=0 starts nothing", func(t *testing.T) {
			if err := s.msiexec(t, "/x", s.Path(upgrade)); err != nil {
				t.Fatal(err)
			}
			edit(t, given, "# other")
			if err := s.msiexec(t, "/i", s.Path(upgrade), "CONFIG="+s.Path(given), "STARTSERVICE=0"); err != nil {
				t.Fatal(err)
			}
			s.is(t, stopped)
			if b, err := os.ReadFile(s.config()); err != nil || strings.Contains(string(b), "# other") {
				t.Errorf("the configuration was replaced: %v", err)
			}
		}},
		{"an installation whose service does not start is undone", func(t *testing.T) {
			if err := s.msiexec(t, "/x", s.Path(upgrade)); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(os.Remove(s.config()), os.WriteFile(given, []byte("state_dir: ["), 0o600)); err != nil {
				t.Fatal(err)
			}
			if err := s.msiexec(t, "/i", s.Path(upgrade), "CONFIG="+s.Path(given)); err == nil {
				t.Error("msiexec says that all is well")
			}
			s.isRemoved(t)
			s.has(t, true, s.state("journal.db"), s.state("ca", "ca.key.pem"))
		}},
	} {
		if !t.Run(step.name, step.do) {
			return // what follows builds on it
		}
	}
}

// edit appends a line to a file.
func edit(t *testing.T, file, line string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }() // the write tells
	if _, err := f.WriteString(line + "\n"); err != nil {
		t.Fatal(err)
	}
}

func (s *service) upgrade(t *testing.T, msi string) {
	edit(t, s.config(), "# mine")
	before := s.run(t, program, "version")
	if err := s.msiexec(t, "/i", s.Path(msi)); err != nil {
		t.Fatal(err)
	}
	if got := s.run(t, program, "version"); got == before {
		t.Errorf("it is still %s", got)
	}
	if b, err := os.ReadFile(s.config()); err != nil || !strings.HasSuffix(string(b), "# mine\n") {
		t.Errorf("the edited configuration: %v", err)
	}
	s.is(t, running)
	s.remembers(t, "first")
	s.enrol(t, "after-upgrade")
}

func (s *service) downgrade(t *testing.T) {
	older := only(t, built(t, "v0.9.9"), "*.msi")
	before := s.run(t, program, "version")
	if err := s.msiexec(t, "/i", s.Path(older)); err == nil {
		t.Error("an older version was installed")
	}
	if got := s.run(t, program, "version"); got != before {
		t.Errorf("it is %s", got)
	}
	s.is(t, running)
}

// failedStart breaks the configuration in two ways.
func (s *service) failedStart(t *testing.T) {
	s.stop(t)
	good, err := os.ReadFile(s.config())
	if err != nil {
		t.Fatal(err)
	}
	log := s.Drive("deploy", "service.log")
	if err := os.MkdirAll(filepath.Dir(log), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ text, told string }{
		"not YAML":             {"state_dir: [", ""},
		"a port that is taken": {strings.Replace(string(good), s.address, s.taken(t), 1) + "log: {file: 'C:\\deploy\\service.log'}\n", "the service ended"},
	} {
		if err := os.WriteFile(s.config(), []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := s.Run("net", "start", "certconnector")
		s.is(t, stopped)
		if _, exit := s.query(); exit == "0" || exit == "?" {
			t.Errorf("%s: the service manager knows of no failure; net said %v, %s", name, err, out)
		}
		if b, err := os.ReadFile(log); c.told != "" && !strings.Contains(string(b), c.told) {
			t.Errorf("%s: the log does not tell: %v\n%s", name, err, b)
		}
	}
	if err := os.WriteFile(s.config(), good, 0o600); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	s.remembers(t, "first")
}

// taken is an address that somebody listens on.
func (s *service) taken(t *testing.T) string {
	t.Helper()
	l := listen(t)
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

func (s *service) isRemoved(t *testing.T) {
	t.Helper()
	if state, _ := s.query(); state != "" {
		t.Errorf("there is a service in state %s", state)
	}
	s.has(t, false, s.Drive("Program Files", "certconnector", "certconnector.exe"))
	if s.answers() {
		t.Error("somebody answers")
	}
	if out, err := s.Run("reg", "query", `HKLM\SYSTEM\CurrentControlSet\Services\EventLog\Application\certconnector`); err == nil {
		t.Errorf("the event source is still there: %s", out)
	}
}
