//go:build e2elinux

// Package e2e installs the packages on a real systemd and runs the service
// there: from dpkg to a device's certificate, through restart, kill -9, a hang,
// an upgrade and a removal. "make e2e-linux" runs it as root.
package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// repository is the root of the source tree.
const repository = "../../.."

const (
	config = "/etc/certconnector/certconnector.yaml"
	state  = "/var/lib/certconnector"
	url    = "https://127.0.0.1/certsrv/mscep/mscep.dll"
)

// built makes the packages of a version for this machine.
func built(t *testing.T, version string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), version)
	host(t, "go", "run", "./installer/release", "--version", version, "--epoch", "1767225600", "--only", "linux-amd64", "--out", dir)
	return dir
}

func only(t *testing.T, dir, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		t.Fatalf("%s in %s: %v, %v", pattern, dir, found, err)
	}
	return found[0]
}

func TestPackages(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("a container with systemd needs root")
	}
	before, after := built(t, "v1.0.0-rc.1"), built(t, "v1.0.0")
	again := built(t, "v1.0.0")
	t.Run("the same bytes each time", func(t *testing.T) {
		if host(t, "cat", filepath.Join(after, "SHA256SUMS")) != host(t, "cat", filepath.Join(again, "SHA256SUMS")) {
			host(t, "diff", filepath.Join(after, "SHA256SUMS"), filepath.Join(again, "SHA256SUMS"))
		}
	})
	t.Run("lintian has nothing to say", func(t *testing.T) {
		t.Log(host(t, "lintian", "--allow-root", "--fail-on", "error,warning", "--info", only(t, after, "*.deb")))
	})
	t.Run("what the rpm holds", func(t *testing.T) { rpmContents(t, only(t, after, "*.rpm")) })

	m := boot(t)
	s := &service{machine: m}
	old, upgrade := m.put(t, only(t, before, "*.deb")), m.put(t, only(t, after, "*.deb"))
	for _, step := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"deb: installs, and does not start without a configuration", func(t *testing.T) {
			m.run(t, "dpkg", "-i", old)
			s.isIdle(t)
			s.refused(t, "the package certconnector manages the service", "certconnector", "service", "install")
		}},
		{"init makes what the service may read", s.init},
		{"starts without a capability, and enrols a device", func(t *testing.T) {
			s.start(t)
			s.confined(t)
			s.enrol(t, "first")
		}},
		{"a restart loses no connection", s.restart},
		{"a reload takes a new certificate into use and loses no request", s.reload},
		{"a reload with a broken file fails, and the service serves on", s.reloadBroken},
		{"kill -9: systemd starts it again", s.kill},
		{"a hang: the watchdog has it started again", s.hang},
		{"an upgrade keeps what was edited", func(t *testing.T) { s.upgrade(t, "dpkg", "-i", upgrade) }},
		{"removing keeps data and configuration", func(t *testing.T) {
			m.run(t, "dpkg", "-r", "certconnector")
			s.isRemoved(t)
			s.has(t, true, config, "/etc/certconnector/environment", state+"/journal.db", state+"/ca/ca.key.pem")
		}},
		{"installed again, it goes on where it was", func(t *testing.T) {
			m.run(t, "dpkg", "-i", upgrade)
			s.start(t)
			s.remembers(t, "first")
		}},
		{"purging drops everything", func(t *testing.T) {
			m.run(t, "dpkg", "-P", "certconnector")
			s.isRemoved(t)
			s.has(t, false, "/etc/certconnector", state)
		}},
	} {
		if !t.Run(step.name, step.do) {
			return // what follows builds on it
		}
	}
	oldRPM, upgradeRPM := m.put(t, only(t, before, "*.rpm")), m.put(t, only(t, after, "*.rpm"))
	// The names of dependencies are those of a Debian here.
	for _, step := range []struct {
		name string
		do   func(*testing.T)
	}{
		{"rpm: installs, starts and enrols", func(t *testing.T) {
			m.run(t, "rpm", "-i", "--nodeps", oldRPM)
			s.isIdle(t)
			s.init(t)
			s.start(t)
			s.enrol(t, "second")
		}},
		{"rpm: an upgrade keeps what was edited", func(t *testing.T) { s.upgrade(t, "rpm", "-U", "--nodeps", upgradeRPM) }},
		{"rpm: removing keeps data and configuration", func(t *testing.T) {
			m.run(t, "rpm", "-e", "--nodeps", "certconnector")
			s.isRemoved(t)
			s.has(t, true, config, state+"/journal.db", state+"/ca/ca.key.pem")
		}},
	} {
		if !t.Run(step.name, step.do) {
			return
		}
	}
}

func rpmContents(t *testing.T, rpm string) {
	list := host(t, "rpm", "-qp", "--queryformat", "[%{FILENAMES} %{FILEMODES:perms} %{FILEUSERNAME}:%{FILEGROUPNAME}\n]", rpm)
	for _, want := range []string{
		"/usr/bin/certconnector -rwxr-xr-x root:root",
		"/usr/lib/systemd/system/certconnector.service -rw-r--r-- root:root",
		"/usr/lib/systemd/system/certconnector.socket -rw-r--r-- root:root",
		"/usr/lib/sysusers.d/certconnector.conf -rw-r--r-- root:root",
		"/usr/share/man/man8/certconnector.8.gz -rw-r--r-- root:root",
		"/usr/share/licenses/certconnector/LICENSE -rw-r--r-- root:root",
	} {
		if !strings.Contains(list, want+"\n") {
			t.Errorf("it lacks %s; it has\n%s", want, list)
		}
	}
	if kept := strings.TrimSpace(host(t, "rpm", "-qpc", rpm)); kept != "/etc/certconnector/environment" {
		t.Errorf("files of configuration: %q", kept)
	}
	if built := host(t, "rpm", "-qp", "--queryformat", "%{BUILDHOST} %{BUILDTIME}", rpm); built != "localhost 1767225600" {
		t.Errorf("built on and at %q", built)
	}
}

// stamp is how long a step took, for the log.
func stamp(t *testing.T, what string) func() {
	began := time.Now()
	return func() { t.Logf("%s: %.1f s", what, time.Since(began).Seconds()) }
}
