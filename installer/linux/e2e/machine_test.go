//go:build e2elinux

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long anything may take that certainly happens.
const patience = 2 * time.Minute

// machine is a Debian with systemd as its first process, in a container of
// its own with a network of its own.
type machine struct {
	t    *testing.T
	root string // its file system
	init string // number of its first process
}

// debian makes the file system once and keeps it, since that takes a minute.
func debian(t *testing.T) (tarball string) {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	tarball = filepath.Join(cache, "certconnector", "e2e-linux-bookworm.tar")
	if _, err := os.Stat(tarball); err == nil {
		return tarball
	}
	if err := os.MkdirAll(filepath.Dir(tarball), 0o755); err != nil {
		t.Fatal(err)
	}
	// In the same folder: it has its name when it is whole.
	fresh := strings.TrimSuffix(tarball, ".tar") + "." + strconv.Itoa(os.Getpid()) + ".tar"
	defer os.Remove(fresh)
	host(t, "mmdebstrap", "--variant=apt", "--include=systemd,systemd-sysv,dbus,curl,ca-certificates,rpm", "bookworm", fresh)
	if err := os.Rename(fresh, tarball); err != nil {
		t.Fatal(err)
	}
	return tarball
}

// boot starts a machine; it is shut down when the test ends.
func boot(t *testing.T) *machine {
	t.Helper()
	m := &machine{t: t, root: t.TempDir()}
	host(t, "tar", "-C", m.root, "-xf", debian(t))
	container := exec.Command("systemd-nspawn", "-q", "-D", m.root, "--boot", "--register=no", "--keep-unit",
		"--private-network", "--console=read-only", "--machine=certconnector-e2e-"+strconv.Itoa(os.Getpid()))
	container.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1")
	// No machine outlives a test that was killed: on SIGTERM it powers off.
	container.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	var console bytes.Buffer
	container.Stdout, container.Stderr = &console, &console
	container.WaitDelay = 5 * time.Second
	if err := container.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- container.Wait() }()
	t.Cleanup(func() {
		if m.init != "" {
			_, _ = m.try("systemctl", "poweroff", "--no-wall") // the connection may break first
		}
		select {
		case <-ended:
		case <-time.After(patience):
			_ = container.Process.Kill() // it did not end by itself
			<-ended
			t.Errorf("the machine had to be killed; its console:\n%s", console.String())
		}
	})
	m.within("the machine starts", func() bool {
		children, _ := exec.Command("pgrep", "-P", strconv.Itoa(container.Process.Pid)).Output()
		first, _, _ := strings.Cut(string(children), "\n")
		if _, err := os.Stat(filepath.Join("/proc", first, "root/run/systemd/private")); first == "" || err != nil {
			return false
		}
		m.init = first
		return true
	})
	m.try("systemctl", "is-system-running", "--wait") // "degraded" will do
	return m
}

// try runs a command in the machine.
func (m *machine) try(args ...string) (string, error) {
	return m.enter([]string{"-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w"},
		append([]string{"env", "-i", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"}, args...))
}

// beside runs a command of this host in the machine's network: a device.
func (m *machine) beside(args ...string) (string, error) { return m.enter([]string{"-n"}, args) }

func (m *machine) enter(spaces, args []string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "nsenter", append(append([]string{"-t", m.init}, spaces...), append([]string{"--"}, args...)...)...)
	c.WaitDelay = time.Second
	out, err := c.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%q: %w\n%s", args, err, out)
	}
	return string(out), err
}

// run is try for what must succeed.
func (m *machine) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := m.try(args...)
	if err != nil {
		log, _ := m.try("journalctl", "--no-pager", "-n", "30", "-u", "certconnector")
		t.Fatalf("%v\nits journal:\n%s", err, log)
	}
	return strings.TrimSpace(out)
}

// put copies a file of this host into the machine.
func (m *machine) put(t *testing.T, file string) (inside string) {
	t.Helper()
	inside = "/root/" + filepath.Base(file)
	host(t, "cp", file, filepath.Join(m.root, inside))
	return inside
}

// within waits for something that the system does in its own time.
func (m *machine) within(what string, happened func() bool) {
	m.t.Helper()
	for deadline := time.Now().Add(patience); !happened(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			m.t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// host runs a command here.
func host(t *testing.T, name string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Dir = repository
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}
