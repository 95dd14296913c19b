//go:build unix

package service

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/certconnector/certconnector/installer/steps"
)

func options() Options {
	return Options{
		Program: "/usr/local/bin/certconnector", Config: "/etc/certconnector/certconnector.yaml",
		StateDir: "/var/lib/certconnector", Ports: []string{"443"},
	}
}

// occupied has what root made before there was an account.
func (h *fakeHost) occupied() {
	h.put("/etc/certconnector/certconnector.yaml", "state_dir: /var/lib/certconnector\n", 0o600)
	h.put("/var/lib/certconnector/local.key", "k", 0o600)
	h.put("/var/lib/certconnector/ca/ca.key.pem", "k", 0o600)
}

func install(t *testing.T, h *fakeHost, o Options) {
	t.Helper()
	list, err := h.linux().Install(t.Context(), o)
	if err == nil {
		err = steps.Run(t.Context(), list, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestLinuxInstallsAndFindsNothingToDoTheSecondTime(t *testing.T) {
	for name, prepare := range map[string]func(*fakeHost){
		"an empty host":                func(*fakeHost) {},
		"init was run before, by root": (*fakeHost).occupied,
		"an administrator has added a file": func(h *fakeHost) {
			h.occupied()
			h.put("/var/lib/certconnector/web.pem", "c", 0o600)
		},
		"useradd instead of its neighbour": func(h *fakeHost) { h.noSystemd = true },
	} {
		h := newHost(t)
		prepare(h)
		install(t, h, options())
		for path, want := range map[string]rights{
			"/etc/certconnector":     {root(), h.gid(), 0o750},
			"/var/lib/certconnector": {h.uid, h.gid(), 0o700},
		} {
			if got, err := rightsOf(filepath.Join(h.root, path)); err != nil || got != want {
				t.Errorf("%s: %s has %+v, want %+v (%v)", name, path, got, want, err)
			}
		}
		if h.has("/var/lib/certconnector/ca") {
			got, err := rightsOf(filepath.Join(h.root, "/var/lib/certconnector/ca/ca.key.pem"))
			if want := (rights{h.uid, h.gid(), 0o600}); err != nil || got != want {
				t.Errorf("%s: a key has %+v, want %+v (%v)", name, got, want, err)
			}
			got, err = rightsOf(filepath.Join(h.root, options().Config))
			if want := (rights{root(), h.gid(), 0o640}); err != nil || got != want {
				t.Errorf("%s: the configuration has %+v, want %+v (%v)", name, got, want, err)
			}
		}
		if h.units["certconnector.service"] != "enabled" || h.units["certconnector.socket"] != "enabled" {
			t.Errorf("%s: units %v", name, h.units)
		}
		before := h.ground()
		list, err := h.linux().Install(t.Context(), options())
		if err != nil {
			t.Fatal(err)
		}
		planned, err := steps.Plan(t.Context(), list)
		if err != nil || slices.ContainsFunc(planned, func(p steps.Planned) bool { return p.State != steps.Already }) {
			t.Errorf("%s: the second time: %+v, %v", name, planned, err)
		}
		install(t, h, options())
		if after := h.ground(); after != before {
			t.Errorf("%s: the second time changed\n%s\ninto\n%s", name, before, after)
		}
	}
}

// TestLinuxUndoes has each step fail, and then each command that changes
// something: the host is as it was.
func TestLinuxUndoes(t *testing.T) {
	type list func(l *Linux) ([]steps.Step, error)
	installs := func(l *Linux) ([]steps.Step, error) { return l.Install(context.Background(), options()) }
	removes := func(l *Linux) ([]steps.Step, error) { return l.Uninstall(context.Background(), options()) }
	running := func(t *testing.T, h *fakeHost) {
		h.occupied()
		install(t, h, options())
		h.running()
	}
	again := func(change func(*Options)) list {
		return func(l *Linux) ([]steps.Step, error) {
			o := options()
			change(&o)
			return l.Install(context.Background(), o)
		}
	}
	for _, row := range []struct {
		name    string
		prepare func(*testing.T, *fakeHost)
		list    list
	}{
		{"an installation", func(*testing.T, *fakeHost) {}, installs},
		{"an installation after init", func(_ *testing.T, h *fakeHost) { h.occupied() }, installs},
		{"an installation over an older unit", func(_ *testing.T, h *fakeHost) {
			h.put("/etc/systemd/system/certconnector.service", mark+"[Service]\n", 0o644)
		}, installs},
		{"another port", running, again(func(o *Options) { o.Ports = []string{"444"} })},
		{"no port that systemd opens", running, again(func(o *Options) { o.Ports = nil })},
		{"no start with the system any more", running, again(func(o *Options) { o.Manual = true })},
		{"a removal", running, removes},
	} {
		for n := 0; ; n++ {
			h := newHost(t)
			row.prepare(t, h)
			before := h.ground()
			steplist, err := row.list(h.linux())
			if err != nil {
				t.Fatalf("%s: %v", row.name, err)
			}
			if n == len(steplist) {
				break
			}
			steplist[n].Holds = nil
			steplist[n].Do = func(context.Context) error { return errBroken }
			if err := steps.Run(t.Context(), steplist, nil); !errors.Is(err, errBroken) {
				t.Errorf("%s: step %d: %v", row.name, n+1, err)
			}
			if after := h.ground(); after != before {
				t.Errorf("%s: step %d failed and left\n%s\ninstead of\n%s", row.name, n+1, after, before)
			}
		}
		for n := 1; ; n++ {
			h := newHost(t)
			row.prepare(t, h)
			before := h.ground()
			h.changing, h.failAt = 0, n
			steplist, err := row.list(h.linux())
			if err != nil {
				t.Fatal(err)
			}
			err = steps.Run(t.Context(), steplist, nil)
			if h.changing < n {
				break
			}
			if !errors.Is(err, errBroken) || h.ground() != before {
				t.Errorf("%s: command %d failed (%v) and left\n%s\ninstead of\n%s", row.name, n, err, h.ground(), before)
			}
		}
	}
}

func TestLinuxUninstallKeepsWhatPurgeDeletes(t *testing.T) {
	kept := []string{"/etc/certconnector/certconnector.yaml", "/var/lib/certconnector/local.key", "/var/lib/certconnector/ca/ca.key.pem"}
	remove := func(h *fakeHost, o Options) {
		list, err := h.linux().Uninstall(t.Context(), o)
		if err == nil {
			err = steps.Run(t.Context(), list, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	h := newHost(t)
	h.occupied()
	install(t, h, options())
	h.units["certconnector.service"] = "enabled active"
	remove(h, options())
	if h.units["certconnector.service"]+h.units["certconnector.socket"] != "" || h.has("/etc/systemd/system/certconnector.service") || !h.account {
		t.Errorf("left: %v, account %v", h.units, h.account)
	}
	for _, path := range kept {
		if !h.has(path) {
			t.Errorf("%s is gone", path)
		}
	}
	remove(h, options()) // nothing left to do
	o := options()
	o.Purge = true
	outside := filepath.Join(h.root, "precious")
	h.put("precious", "p", 0o600)
	if err := os.Symlink(outside, filepath.Join(h.root, "/var/lib/certconnector/ca/link")); err != nil {
		t.Fatal(err)
	}
	remove(h, o)
	if h.has("/var/lib/certconnector") || h.has("/etc/certconnector") || !h.has("precious") {
		t.Errorf("after a purge:\n%s", h.ground())
	}
}

func TestLinuxRefuses(t *testing.T) {
	for _, row := range []struct {
		name    string
		prepare func(*fakeHost, *Options)
		want    string
	}{
		{"a package manages the service", func(h *fakeHost, _ *Options) {
			h.put("/usr/lib/systemd/system/certconnector.service", "[Service]\n", 0o644)
			h.owner = "certconnector"
		}, "the package certconnector manages the service"},
		{"somebody's unit", func(h *fakeHost, _ *Options) {
			h.put("/etc/systemd/system/certconnector.service", "[Service]\n", 0o644)
		}, "was not written by this command"},
		{"no systemd", func(h *fakeHost, _ *Options) {
			if err := os.Remove(filepath.Join(h.root, "/run/systemd/system")); err != nil {
				t.Fatal(err)
			}
		}, "systemd does not run here"},
		{"a program in a home folder", func(h *fakeHost, o *Options) {
			o.Program = "/home/me/certconnector"
			h.put(o.Program, "", 0o755)
		}, "/usr/local/bin"},
		{"a program that anybody can replace", func(h *fakeHost, o *Options) {
			if err := os.Chmod(filepath.Join(h.root, o.Program), 0o777); err != nil {
				t.Fatal(err)
			}
		}, "can be replaced by others"},
		{"a program of an ordinary account", func(h *fakeHost, o *Options) { h.chown(o.Program) }, "belongs to the account"},
		{"a program in a folder of an ordinary account", func(h *fakeHost, _ *Options) { h.chown("/usr/local") }, "belongs to the account"},
		{"a program in a folder that anybody may write to", func(h *fakeHost, _ *Options) {
			if err := os.Chmod(filepath.Join(h.root, "/usr/local/bin"), 0o777); err != nil {
				t.Fatal(err)
			}
		}, "can be replaced by others"},
		{"a link to a program that anybody can replace", func(h *fakeHost, o *Options) {
			h.put("/opt/cc/certconnector", "", 0o755)
			h.link("/opt/cc/certconnector", "/usr/local/bin/cc")
			o.Program = "/usr/local/bin/cc"
			if err := os.Chmod(filepath.Join(h.root, "/opt/cc"), 0o777); err != nil {
				t.Fatal(err)
			}
		}, "/opt/cc\" has mode"},
		{"a link as state folder", func(h *fakeHost, o *Options) {
			h.mkdir("/srv/big")
			h.link("/srv/big", o.StateDir)
		}, "which is a link"},
		{"a link as configuration", func(h *fakeHost, o *Options) {
			h.put("/srv/cc.yaml", "", 0o600)
			h.link("/srv/cc.yaml", o.Config)
		}, "which is a link"},
		{"a link as the configuration's folder", func(h *fakeHost, o *Options) {
			h.mkdir("/srv/etc")
			h.link("/srv/etc", filepath.Dir(o.Config))
		}, "which is a link"},
		{"a folder that has a journal and somebody's files", func(h *fakeHost, o *Options) {
			o.StateDir = "/srv/photos"
			h.put("/srv/photos/journal.db", "", 0o600)
			h.put("/srv/photos/cat.jpg", "", 0o644)
		}, `"cat.jpg"`},
		{"somebody's folder as state folder", func(h *fakeHost, o *Options) {
			o.StateDir = "/srv/photos"
			h.put("/srv/photos/cat.jpg", "", 0o644)
		}, "choose another --state-dir"},
	} {
		h := newHost(t)
		o := options()
		row.prepare(h, &o)
		if h.skipped {
			continue
		}
		if _, err := h.linux().Install(t.Context(), o); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v", row.name, err)
		}
	}
	h := newHost(t)
	o := options()
	o.Purge, o.StateDir = true, "/srv/photos"
	h.put("/srv/photos/cat.jpg", "", 0o644)
	if _, err := h.linux().Uninstall(t.Context(), o); err == nil || !strings.Contains(err.Error(), "is not deleted") {
		t.Errorf("a purge of somebody's folder: %v", err)
	}
	h.put("/srv/photos/local.key", "", 0o600)
	if _, err := h.linux().Uninstall(t.Context(), o); err == nil || !strings.Contains(err.Error(), `"cat.jpg"`) {
		t.Errorf("a purge of a folder that has somebody's files too: %v", err)
	}
	h = newHost(t)
	o = options()
	o.Purge = true
	h.put("/srv/big/local.key", "", 0o600)
	h.link("/srv/big", o.StateDir)
	if _, err := h.linux().Uninstall(t.Context(), o); err == nil || !strings.Contains(err.Error(), "which is a link") {
		t.Errorf("a purge that would leave the keys: %v", err)
	}
}

// TestLinuxPurgeOfAConfigurationInAForeignFolder: /etc has an environment that
// is not ours.
func TestLinuxPurgeOfAConfigurationInAForeignFolder(t *testing.T) {
	h := newHost(t)
	h.occupied()
	o := options()
	o.Purge, o.Config = true, "/etc/certconnector.yaml"
	h.put(o.Config, "", 0o600)
	h.put("/etc/environment", "PATH=/bin", 0o644)
	list, err := h.linux().Uninstall(t.Context(), o)
	if err == nil {
		err = steps.Run(t.Context(), list, nil)
	}
	if err != nil || h.has(o.Config) || h.has("/var/lib/certconnector") || !h.has("/etc/environment") {
		t.Errorf("%v; after a purge:\n%s", err, h.ground())
	}
}

// TestLinuxPurgeOfAnEmptyFolder: a folder that was named by mistake, and never
// was a connector's, stays.
func TestLinuxPurgeOfAnEmptyFolder(t *testing.T) {
	for folder, stays := range map[string]bool{"/srv/empty": true, "/srv/certconnector": false, "/srv/certconnector/state": false} {
		h := newHost(t)
		h.mkdir(folder)
		o := options()
		o.Purge, o.StateDir = true, folder
		list, err := h.linux().Uninstall(t.Context(), o)
		if err == nil {
			err = steps.Run(t.Context(), list, nil)
		}
		if err != nil || h.has(folder) != stays {
			t.Errorf("%s: %v; after a purge:\n%s", folder, err, h.ground())
		}
	}
}

// TestLinuxGivesAwayAllOrNothing: a file with two names stays whose it is, and
// what was given before an error is taken back.
func TestLinuxGivesAwayAllOrNothing(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	h := newHost(t)
	h.account = true
	h.occupied()
	h.put("/etc/shadow", "s", 0o600)
	if err := os.Link(filepath.Join(h.root, "/etc/shadow"), filepath.Join(h.root, "/var/lib/certconnector/tls")); err != nil {
		t.Fatal(err)
	}
	before, l := h.ground(), h.linux()
	given := 0
	l.chown = func(folder *os.Root, name string, uid, gid int) error {
		if given++; given == 3 {
			return errBroken
		}
		return folder.Lchown(name, uid, gid)
	}
	if err := l.giveAway(options().StateDir).Do(t.Context()); !errors.Is(err, errBroken) || h.ground() != before {
		t.Errorf("%v, and it left\n%s\ninstead of\n%s", err, h.ground(), before)
	}
	step := h.linux().giveAway(options().StateDir)
	if err := step.Do(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r, err := rightsOf(filepath.Join(h.root, "/etc/shadow")); err != nil || r.uid != 0 {
		t.Errorf("somebody's file was given away: %+v, %v", r, err)
	}
	if r, err := rightsOf(filepath.Join(h.root, "/var/lib/certconnector/local.key")); err != nil || r.uid != h.uid {
		t.Errorf("a key was not given away: %+v, %v", r, err)
	}
	if holds, err := step.Holds(t.Context()); !holds || err != nil {
		t.Errorf("afterwards there is something to do: %v", err)
	}
}

// TestLinuxRemovesNothingBehindALink has somebody put a link to another folder
// into the place of one that is being deleted.
func TestLinuxRemovesNothingBehindALink(t *testing.T) {
	precious, state := t.TempDir(), filepath.Join(t.TempDir(), "state")
	ca, aside := filepath.Join(state, "ca"), filepath.Join(state, "aside")
	fill := func(dir string) {
		t.Helper()
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for i := range 20 {
			if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	fill(precious)
	for range 100 {
		fill(ca)
		var swaps sync.WaitGroup
		swaps.Go(func() {
			for range 5 {
				_ = os.Rename(ca, aside) // each may find that it was deleted
				_ = os.Symlink(precious, ca)
				_ = os.Remove(ca)
				_ = os.Rename(aside, ca)
			}
		})
		_ = removeTree(state) // it may find something new in a folder
		swaps.Wait()
		if left, err := os.ReadDir(precious); err != nil || len(left) != 20 {
			t.Fatalf("%d files are left behind the link, %v", len(left), err)
		}
		if err := removeTree(state); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLinuxStatusTellsWhy(t *testing.T) {
	const failed = "LoadState=loaded\nUnitFileState=enabled\nActiveState=failed\nMainPID=0\nResult=exit-code\nExecMainStatus=1\nConditionResult=yes\n" +
		"FragmentPath=/etc/systemd/system/certconnector.service\nUser=certconnector\nNRestarts=3\n"
	for _, row := range []struct{ name, show, journal, state, failure string }{
		{"it runs", strings.NewReplacer("=failed", "=active", "MainPID=0", "MainPID=42").Replace(failed) + "ActiveEnterTimestamp=@1767225600\n", "", "running", ""},
		{"a log line", failed, "{\"level\":\"error\",\"message\":\"the service ended\",\"error\":\"address in use\"}\nStopped.\n", "failed",
			"the service ended: address in use (systemd says exit-code, exit status 1)"},
		{"a configuration that is wrong", failed, "certconnector: cc.yaml has 1 mistake\n  listeners: none\ncertconnector.service: Failed\n", "failed",
			"cc.yaml has 1 mistake; listeners: none (systemd says exit-code, exit status 1)"},
		{"it said nothing", failed, "", "failed", "systemd says exit-code, exit status 1"},
		{"no configuration", strings.NewReplacer("=failed", "=inactive", "ConditionResult=yes", "ConditionResult=no").Replace(failed), "", "stopped",
			"its configuration is not there"},
		{"there is none", "LoadState=not-found\nActiveState=inactive\n", "", "not installed", ""},
	} {
		h := newHost(t)
		install(t, h, options())
		h.show, h.journal = row.show, row.journal
		st, err := h.linux().Status(t.Context())
		if err != nil || st.State != row.state || st.Failure != row.failure {
			t.Errorf("%s: %+v, %v", row.name, st, err)
		}
		if st.Installed && (st.Program != options().Program || st.Config != options().Config || !st.Enabled || st.Restarts != 3) {
			t.Errorf("%s: %+v", row.name, st)
		}
		if st.Running() && (st.PID != 42 || st.Since.Unix() != 1767225600) {
			t.Errorf("%s: %+v", row.name, st)
		}
	}
}

func TestLinuxStatusOfAnOlderSystemd(t *testing.T) {
	h := newHost(t)
	install(t, h, options())
	h.old, h.show = true, "LoadState=loaded\nActiveState=active\nActiveEnterTimestamp=Mon 2026-11-23 02:31:19 UTC\n"
	if st, err := h.linux().Status(t.Context()); err != nil || !st.Running() || !st.Since.IsZero() {
		t.Errorf("got %+v, %v", st, err)
	}
}
