//go:build unix

package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// fakeHost plays a host: systemctl and the tools for accounts act on it.
type fakeHost struct {
	t       *testing.T
	root    string
	account bool
	uid     int
	units   map[string]string // "enabled", "active" or both, by unit
	dirty   bool              // units have changed since daemon-reload

	owner     string // package that owns the units; "": none
	journal   string
	show      string
	noSystemd bool // systemd-sysusers is missing
	old       bool // systemctl knows no --timestamp
	failAt    int  // the number of the changing command that fails; 0: none does
	changing  int
	log       []string
	skipped   bool // this takes root
}

var errBroken = errors.New("broken on purpose")

func newHost(t *testing.T) *fakeHost {
	t.Helper()
	h := &fakeHost{t: t, root: t.TempDir(), uid: os.Getuid(), units: map[string]string{}}
	if os.Getuid() == 0 {
		h.uid = 61234 // nobody's
	}
	was := syscall.Umask(0o022) // an administrator's, whatever that of the tests is
	t.Cleanup(func() { syscall.Umask(was) })
	h.mkdir("/run/systemd/system")
	h.mkdir("/etc/systemd/system")
	h.mkdir("/usr/local/bin")
	h.mkdir("/var/lib")
	h.put("/usr/local/bin/certconnector", "", 0o755)
	h.mkdir(filepath.Dir(wants("certconnector.service")))
	h.mkdir(filepath.Dir(wants("certconnector.socket")))
	return h
}

func (h *fakeHost) mkdir(path string) {
	h.t.Helper()
	if err := os.MkdirAll(filepath.Join(h.root, path), 0o755); err != nil {
		h.t.Fatal(err)
	}
}

func (h *fakeHost) put(path, text string, mode fs.FileMode) {
	h.t.Helper()
	h.mkdir(filepath.Dir(path))
	if err := os.WriteFile(filepath.Join(h.root, path), []byte(text), mode); err != nil {
		h.t.Fatal(err)
	}
}

// link makes a link within the host.
func (h *fakeHost) link(to, path string) {
	h.t.Helper()
	h.mkdir(filepath.Dir(path))
	if err := os.Symlink(filepath.Join(h.root, to), filepath.Join(h.root, path)); err != nil {
		h.t.Fatal(err)
	}
}

// chown gives something to an ordinary account, which only root can.
func (h *fakeHost) chown(path string) {
	h.t.Helper()
	if h.skipped = os.Geteuid() != 0; h.skipped {
		return
	}
	if err := os.Chown(filepath.Join(h.root, path), 61235, 61235); err != nil {
		h.t.Fatal(err)
	}
}

func (h *fakeHost) has(path string) bool {
	_, err := os.Lstat(filepath.Join(h.root, path))
	return err == nil
}

func (h *fakeHost) linux() *Linux { return &Linux{Root: h.root, Run: h.run} }

func (h *fakeHost) run(_ context.Context, name string, args ...string) (string, error) {
	line := strings.Join(append([]string{name}, args...), " ")
	h.log = append(h.log, line)
	failed := fmt.Errorf("%s: exit status 1", line)
	verb := ""
	if len(args) > 0 {
		verb = args[0]
	}
	switch {
	case name == "getent":
		if !h.account {
			return "", failed
		}
		return fmt.Sprintf("certconnector:x:%d:%d:::\n", h.uid, h.gid()), nil
	case name == "dpkg" && h.owner != "":
		return h.owner + ": " + args[1] + "\n", nil
	case name == "dpkg", name == "rpm":
		return "", failed
	case name == "journalctl":
		return h.journal, nil
	case verb == "show" && h.old && args[1] == "--timestamp=unix":
		return "", failed
	case verb == "show":
		return h.show, nil
	case verb == "is-enabled" && (!strings.Contains(h.units[args[1]], "enabled") || !h.has(unitDir+"/"+args[1])):
		return "disabled", failed
	case verb == "is-active" && !strings.Contains(h.units[args[1]], "active"):
		return "inactive", failed
	case strings.HasPrefix(verb, "is-"):
		return "active", nil
	case verb == "reset-failed":
		return "", failed // nothing has failed
	}
	if h.changing++; h.changing == h.failAt {
		return "", errBroken
	}
	return "", h.change(name, verb, args)
}

func (h *fakeHost) gid() int {
	if os.Getuid() == 0 {
		return h.uid
	}
	return os.Getgid()
}

func (h *fakeHost) change(name, verb string, args []string) error {
	switch {
	case name == "systemd-sysusers" && h.noSystemd:
		return fmt.Errorf("%s: %w", name, exec.ErrNotFound)
	case name == "systemd-sysusers", name == "useradd":
		h.account = true
	case name == "userdel":
		h.account = false
	case verb == "daemon-reload":
		h.dirty = false
	default:
		return h.systemctl(verb, args[1:])
	}
	return nil
}

func (h *fakeHost) systemctl(verb string, units []string) error {
	now := false
	for _, u := range units {
		if u == "--now" {
			now = true
			continue
		}
		there, link := h.has(unitDir+"/"+u), wants(u)
		enabled, active := strings.Contains(h.units[u], "enabled"), strings.Contains(h.units[u], "active")
		if known := there || (verb == "stop" && active) || (verb == "disable" && h.has(link)); !known {
			return fmt.Errorf("unit %s not found", u)
		}
		switch verb {
		case "enable", "disable":
			enabled, active = verb == "enable", active && !now
			_ = os.Remove(filepath.Join(h.root, link)) // there may be none
			if enabled {
				h.link(unitDir+"/"+u, link)
			}
		case "start", "restart", "stop":
			if serves := strings.Contains(h.units["certconnector.service"], "active"); u == "certconnector.socket" && verb == "start" && serves && !active {
				return errors.New("the service is active already: refusing")
			}
			active = verb != "stop"
		default:
			return fmt.Errorf("systemctl %s is not played", verb)
		}
		h.units[u] = strings.TrimSpace(map[bool]string{true: "enabled "}[enabled] + map[bool]string{true: "active"}[active])
	}
	return nil
}

// wants is the link that has a unit start with the system.
func wants(unit string) string {
	target := map[bool]string{true: "sockets", false: "multi-user"}[strings.HasSuffix(unit, ".socket")]
	return unitDir + "/" + target + ".target.wants/" + unit
}

// ground is everything that steps may change, as text.
func (h *fakeHost) ground() string {
	h.t.Helper()
	lines := []string{fmt.Sprintf("account %v", h.account)}
	for _, u := range slices.Sorted(maps.Keys(h.units)) {
		if h.units[u] != "" {
			lines = append(lines, "unit "+u+" "+h.units[u])
		}
	}
	err := filepath.WalkDir(h.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		r, err := rightsOf(path)
		if err != nil {
			return err
		}
		var content []byte
		if d.Type().IsRegular() {
			if content, err = os.ReadFile(path); err != nil {
				return err
			}
		}
		lines = append(lines, fmt.Sprintf("%s %d:%d %v %q", path, r.uid, r.gid, r.mode, content))
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}
