//go:build e2elinux

package e2e

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// service is the packaged service on a machine.
type service struct{ *machine }

func (s *service) show(t *testing.T, property string) string {
	t.Helper()
	return s.run(t, "systemctl", "show", "--value", "-p", property, "certconnector.service")
}

func (s *service) isIdle(t *testing.T) {
	t.Helper()
	for _, unit := range []string{"certconnector.service", "certconnector.socket"} {
		s.run(t, "systemctl", "start", unit) // its condition does not hold: no error
		if state, _ := s.try("systemctl", "is-active", unit); strings.TrimSpace(state) != "inactive" {
			t.Errorf("%s is %s", unit, state)
		}
	}
	s.has(t, false, config)
}

// has looks for files; there tells whether they should exist.
func (s *service) has(t *testing.T, there bool, paths ...string) {
	t.Helper()
	for _, p := range paths {
		if _, err := os.Lstat(filepath.Join(s.root, p)); (err == nil) != there {
			t.Errorf("%s: %v", p, err)
		}
	}
}

// init makes the configuration and looks at who may read what.
func (s *service) init(t *testing.T) {
	done := stamp(t, "certconnector init")
	out := s.run(t, "certconnector", "init", "--policy", "static", "--hostname", "127.0.0.1")
	done()
	if want := "Start with: systemctl enable --now certconnector.socket certconnector.service"; !strings.Contains(out, want) {
		t.Errorf("init does not say %q:\n%s", want, out)
	}
	uid := s.run(t, "id", "-u", "certconnector")
	files := 0
	err := filepath.WalkDir(filepath.Join(s.root, state), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		files++
		if owner := info.Sys().(*syscall.Stat_t).Uid; strconv.Itoa(int(owner)) != uid {
			t.Errorf("%s belongs to %d, not to the service", path, owner)
		}
		if info.Mode().Perm()&0o077 != 0 && !strings.HasSuffix(path, ".crt.pem") {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil || files < 15 {
		t.Errorf("%d files were looked at, %v", files, err)
	}
	if got := s.run(t, "stat", "-c", "%U:%G %a", config, "/etc/certconnector"); got != "root:certconnector 640\nroot:certconnector 750" {
		t.Errorf("the configuration and its folder: %q", got)
	}
	if out, err := s.try("certconnector", "validate"); !strings.Contains(out, "is in order") {
		t.Errorf("validate: %v", err)
	}
}

func (s *service) start(t *testing.T) {
	t.Helper()
	done := stamp(t, "systemctl enable --now")
	s.run(t, "systemctl", "enable", "--now", "certconnector.socket", "certconnector.service")
	done()
	if got := s.show(t, "ActiveState"); got != "active" {
		t.Fatalf("it is %s", got)
	}
}

// confined looks at what the kernel says of the process.
func (s *service) confined(t *testing.T) {
	status := s.run(t, "cat", "/proc/"+s.show(t, "MainPID")+"/status")
	for _, want := range []string{"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(status, want) {
			t.Errorf("the process lacks %q", want)
		}
	}
	if strings.Contains(status, "\nUid:\t0\t") {
		t.Error("the process runs as root")
	}
	score := s.run(t, "systemd-analyze", "security", "--no-pager", "--threshold=15", "certconnector.service")
	lines := strings.Split(score, "\n")
	t.Log(strings.TrimSpace(lines[len(lines)-1]))
}

// enrol has a device of this host get a certificate.
func (s *service) enrol(t *testing.T, name string) {
	t.Helper()
	defer stamp(t, "a device enrols")()
	out, err := s.beside(filepath.Join(repository, "bin", "certlab"), "enroll", "--platform", "linux", "--url", url,
		"--ca-file", filepath.Join(s.root, state, "ca", "ca.crt.pem"),
		"--challenge-file", filepath.Join(s.root, state, "challenge"), "--subject", "CN="+name)
	if err != nil || !strings.Contains(out, "CN="+name) {
		log, _ := s.try("journalctl", "--no-pager", "-n", "30", "-u", "certconnector")
		t.Fatalf("%v\n%s\nits journal:\n%s", err, out, log)
	}
	s.remembers(t, name)
}

// remembers asks the service, as root, over the control socket.
func (s *service) remembers(t *testing.T, name string) {
	t.Helper()
	if list := s.run(t, "certconnector", "requests", "list"); !strings.Contains(list, "CN="+name) {
		t.Errorf("CN=%s is not in the list of requests:\n%s", name, list)
	}
}

// restart restarts under load.
func (s *service) restart(t *testing.T) {
	const load = `for i in $(seq 60); do curl -skSf -o /dev/null --max-time 60 "` + url + `?operation=GetCACaps" || echo lost; done; echo asked`
	asked := make(chan string, 1)
	go func() {
		out, _ := s.try("sh", "-c", load)
		asked <- out
	}()
	for range 2 {
		pid := s.show(t, "MainPID")
		s.run(t, "systemctl", "restart", "certconnector.service")
		if s.show(t, "MainPID") == pid {
			t.Error("it is the same process")
		}
	}
	if out := strings.TrimSpace(<-asked); out != "asked" {
		t.Errorf("requests during two restarts: %s", out)
	}
	s.remembers(t, "first")
}

// comesBack waits for systemd to have started it again by itself.
func (s *service) comesBack(t *testing.T, pid string) {
	t.Helper()
	defer stamp(t, "back again")()
	s.within("the service comes back", func() bool {
		return s.show(t, "ActiveState") == "active" && s.show(t, "MainPID") != pid && s.show(t, "MainPID") != "0"
	})
}

func (s *service) kill(t *testing.T) {
	pid := s.show(t, "MainPID")
	s.run(t, "systemctl", "kill", "-s", "KILL", "certconnector.service")
	s.comesBack(t, pid)
	if n := s.show(t, "NRestarts"); n != "1" {
		t.Errorf("it was started again %s times", n)
	}
	s.remembers(t, "first")
	s.enrol(t, "after-kill")
}

func (s *service) hang(t *testing.T) {
	const dropIn = "/run/systemd/system/certconnector.service.d"
	s.run(t, "mkdir", "-p", dropIn)
	s.run(t, "sh", "-c", `printf '[Service]\nWatchdogSec=10s\n' >`+dropIn+`/soon.conf`)
	s.run(t, "systemctl", "daemon-reload")
	s.run(t, "systemctl", "restart", "certconnector.service")
	pid := s.show(t, "MainPID")
	s.run(t, "sh", "-c", "kill -STOP "+pid)
	s.comesBack(t, pid)
	s.run(t, "rm", "-r", dropIn)
	s.run(t, "systemctl", "daemon-reload")
	s.run(t, "systemctl", "restart", "certconnector.service")
	s.enrol(t, "after-hang")
}

func (s *service) upgrade(t *testing.T, install ...string) {
	for _, file := range []string{config, "/etc/certconnector/environment"} {
		s.run(t, "sh", "-c", "echo '# mine' >>"+file)
	}
	before, pid := s.run(t, "certconnector", "version"), s.show(t, "MainPID")
	s.run(t, install...)
	if got := s.run(t, "certconnector", "version"); got == before {
		t.Errorf("it is still %s", got)
	}
	for _, file := range []string{config, "/etc/certconnector/environment"} {
		if got := s.run(t, "tail", "-n", "1", file); got != "# mine" {
			t.Errorf("%s ends in %q", file, got)
		}
	}
	if s.show(t, "MainPID") == pid || s.show(t, "ActiveState") != "active" {
		t.Error("the new version does not run")
	}
	if got := s.run(t, "systemctl", "is-enabled", "certconnector.service"); got != "enabled" {
		t.Errorf("it is %s", got)
	}
	s.enrol(t, "after-upgrade")
}

func (s *service) isRemoved(t *testing.T) {
	t.Helper()
	for _, unit := range []string{"certconnector.service", "certconnector.socket"} {
		if out, err := s.try("systemctl", "is-active", unit); err == nil {
			t.Errorf("%s is %s", unit, out)
		}
	}
	s.has(t, false, "/usr/bin/certconnector", "/usr/lib/systemd/system/certconnector.service")
	if out, err := s.beside("curl", "-sk", "--max-time", "5", url); err == nil {
		t.Errorf("somebody answers on port 443: %s", out)
	}
}
