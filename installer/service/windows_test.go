package service

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/installer/steps"
	"github.com/certconnector/certconnector/internal/osservice"
)

var errRefusedByWindows = errors.New("access is denied")

// fakeWindows plays service manager, registry and firewall.
type fakeWindows struct {
	t          *testing.T
	dir        string
	service    *osservice.Status
	source     string
	rules      []string // of the firewall, as Windows keeps them
	packaged   bool
	restricted map[string]string // accounts by folder
	failAt     int               // the number of the change that fails; 0: none does
	changes    int
}

func newWindows(t *testing.T) *fakeWindows {
	t.Helper()
	f := &fakeWindows{t: t, dir: t.TempDir(), restricted: map[string]string{}}
	if err := os.WriteFile(f.options().Program, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fakeWindows) options() Options {
	data := filepath.Join(f.dir, Name)
	return Options{
		Program: filepath.Join(f.dir, "certconnector.exe"), Config: filepath.Join(data, "certconnector.yaml"),
		StateDir: filepath.Join(data, "state"), Ports: []string{"443"}, Account: VirtualAccount,
	}
}

func (f *fakeWindows) windows() *Windows {
	give := func(right string) func(string, ...string) error {
		return func(path string, accounts ...string) error {
			if err := f.change(); err != nil {
				return err
			}
			f.restricted[path] = right + strings.Join(accounts, " ")
			return nil
		}
	}
	return &Windows{
		Manager: f, Run: f.run, Failure: func(string) string { return "address in use" },
		Restrict: give("written by "), Readable: give("read by "),
	}
}

func (f *fakeWindows) change() error {
	if f.changes++; f.changes == f.failAt {
		return errRefusedByWindows
	}
	return nil
}

// ground is everything that steps may change, but rights of a folder that
// stays: they are only ever narrowed.
func (f *fakeWindows) ground() string {
	lines := []string{fmt.Sprintf("source %q, rules %q", f.source, f.rules)}
	if f.service != nil {
		lines = append(lines, fmt.Sprintf("service %+v", *f.service))
	}
	err := filepath.WalkDir(f.dir, func(path string, _ os.DirEntry, err error) error {
		lines = append(lines, path)
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return strings.Join(lines, "\n")
}

func (f *fakeWindows) Status(string) (osservice.Status, error) {
	if f.service == nil {
		return osservice.Status{}, osservice.ErrNotInstalled
	}
	return *f.service, nil
}

func (f *fakeWindows) Command(s osservice.Spec) string {
	return s.Program + ` run --config "` + s.Arguments[2] + `"`
}

func (f *fakeWindows) Install(s osservice.Spec) error {
	if err := f.change(); err != nil {
		return err
	}
	there := f.service != nil
	f.service = &osservice.Status{State: "stopped", Command: f.Command(s), Account: s.Account, AutoStart: !s.Manual}
	err := f.change() // its recovery actions
	if err != nil && !there {
		f.service = nil
	}
	return err
}

func (f *fakeWindows) Restore(_ string, was osservice.Status) error { f.service = &was; return nil }

func (f *fakeWindows) Uninstall(string) error {
	if err := f.change(); err != nil {
		return err
	}
	f.service = nil
	return nil
}

func (f *fakeWindows) Start(context.Context, string) error {
	if f.service == nil {
		return osservice.ErrNotInstalled
	}
	f.service.State = "running"
	return nil
}

func (f *fakeWindows) Stop(context.Context, string) error {
	if f.service == nil {
		return osservice.ErrNotInstalled
	}
	if err := f.change(); err != nil {
		return err
	}
	f.service.State = "stopped"
	return nil
}

func (f *fakeWindows) EventSource(string) (string, error) { return f.source, nil }

func (f *fakeWindows) RegisterEventSource(_, file string) error {
	if err := f.change(); err != nil {
		return err
	}
	f.source = file
	return nil
}

func (f *fakeWindows) UnregisterEventSource(string) error {
	if err := f.change(); err != nil {
		return err
	}
	f.source = ""
	return nil
}

func (f *fakeWindows) Packaged(string) (bool, error) { return f.packaged, nil }

func (f *fakeWindows) run(_ context.Context, name string, args ...string) (string, error) {
	if name != "netsh" {
		f.t.Errorf("%s is not played", name)
	}
	if err := f.change(); err != nil {
		return "", err
	}
	says := func(key string) string {
		i := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, key+"=") })
		if i < 0 {
			return ""
		}
		return strings.TrimPrefix(args[i], key+"=")
	}
	named := func(text string) bool { return strings.Contains(text, "|Name="+says("name")+"|") }
	switch verb := args[2]; {
	case verb == "add":
		f.rules = append(f.rules, firewallRule(says("name"), says("program"), strings.Split(says("localport"), ",")...))
	case verb == "delete" && slices.ContainsFunc(f.rules, named):
		f.rules = slices.DeleteFunc(f.rules, named)
	default:
		f.t.Errorf("netsh does not %q, with %q", args, f.rules)
	}
	return "", nil
}

func (f *fakeWindows) FirewallRules() ([]string, error) { return slices.Clone(f.rules), nil }

// firewallRule is a rule as Windows keeps it.
func firewallRule(name, program string, ports ...string) string {
	return "v2.31|Action=Allow|Active=TRUE|Dir=In|Protocol=6|LPort=" + strings.Join(ports, "|LPort=") + "|App=" + program + "|Name=" + name + "|"
}

func TestWindowsInstallsAndFindsNothingToDoTheSecondTime(t *testing.T) {
	f := newWindows(t)
	o := f.options()
	o.Firewall = true
	for range 2 {
		list, err := f.windows().Install(t.Context(), o)
		if err == nil {
			err = steps.Run(t.Context(), list, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if f.source != o.Program || len(f.rules) != 1 || f.service == nil || f.service.Account != VirtualAccount || !f.service.AutoStart {
		t.Errorf("got %+v, service %+v", f, f.service)
	}
	want := map[string]string{o.StateDir: "written by " + VirtualAccount, filepath.Dir(o.Config): "read by " + VirtualAccount}
	if !maps.Equal(f.restricted, want) {
		t.Errorf("rights: %v", f.restricted)
	}
	list, err := f.windows().Install(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	planned, err := steps.Plan(t.Context(), list)
	// Rights are set each time: what they are is not compared.
	if err != nil || slices.ContainsFunc(planned[2:], func(p steps.Planned) bool { return p.State != steps.Already }) {
		t.Errorf("the third time: %+v, %v", planned, err)
	}
	st, err := f.windows().Status(t.Context())
	if err != nil || st.Program != o.Program || st.Config != o.Config || st.State != "stopped" || !st.Enabled {
		t.Errorf("status %+v, %v", st, err)
	}
}

// TestWindowsUndoes has each change fail once: the computer is as it was.
func TestWindowsUndoes(t *testing.T) {
	none := func(*fakeWindows) {}
	older := func(f *fakeWindows) {
		f.service = &osservice.Status{State: "running", Command: `C:\old\certconnector.exe run`, Account: "LocalSystem", AutoStart: true}
		f.source = `C:\old\certconnector.exe`
		f.rules = []string{firewallRule(Name, f.source, "443")}
	}
	installs := func(w *Windows, o Options) ([]steps.Step, error) { return w.Install(context.Background(), o) }
	removes := func(w *Windows, o Options) ([]steps.Step, error) { return w.Uninstall(context.Background(), o) }
	for _, row := range []struct {
		name    string
		prepare func(*fakeWindows)
		list    func(*Windows, Options) ([]steps.Step, error)
		changes int
	}{
		{"an installation", none, installs, 6},
		{"an installation over an older one", older, installs, 7},
		{"a removal", older, removes, 4},
	} {
		for n := 1; n <= row.changes; n++ {
			f := newWindows(t)
			row.prepare(f)
			o := f.options()
			o.Firewall = true
			before := f.ground()
			f.failAt = n
			list, err := row.list(f.windows(), o)
			if err == nil {
				err = steps.Run(t.Context(), list, nil)
			}
			if after := f.ground(); !errors.Is(err, errRefusedByWindows) || after != before {
				t.Errorf("%s: change %d failed (%v) and left\n%s\ninstead of\n%s", row.name, n, err, after, before)
			}
		}
	}
}

func TestWindowsRefuses(t *testing.T) {
	for _, row := range []struct {
		name   string
		change func(*fakeWindows, *Options)
		want   string
	}{
		{"our package is there", func(f *fakeWindows, _ *Options) { f.packaged = true }, "Windows Installer manages"},
		{"an account with a password", func(_ *fakeWindows, o *Options) { o.Account = `CONTOSO\svc` }, "group managed service account"},
		{"a relative path", func(_ *fakeWindows, o *Options) { o.Config = "cc.yaml" }, "is not absolute"},
		{"a program that is not there", func(_ *fakeWindows, o *Options) { o.Program += "x" }, "the program"},
		{"somebody's folder", func(f *fakeWindows, o *Options) {
			o.StateDir = f.dir
			if err := os.WriteFile(filepath.Join(f.dir, "cat.jpg"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "choose another --state-dir"},
		{"a folder that has a journal and somebody's files", func(f *fakeWindows, o *Options) {
			o.StateDir = f.dir
			for _, name := range []string{"journal.db", "cat.jpg"} {
				if err := os.WriteFile(filepath.Join(f.dir, name), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}, "would be the service's"},
	} {
		f := newWindows(t)
		o := f.options()
		row.change(f, &o)
		if _, err := f.windows().Install(t.Context(), o); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v", row.name, err)
		}
	}
	for _, account := range []string{VirtualAccount, `NT AUTHORITY\LocalService`, "LocalSystem", `CONTOSO\connector$`} {
		if err := accountName(account); err != nil {
			t.Errorf("%s: %v", account, err)
		}
	}
}

func TestWindowsTellsWhyAStartFailed(t *testing.T) {
	f := newWindows(t)
	f.service = &osservice.Status{State: "stopped", Exit: 1066, Specific: 2, Command: `"C:\a b\certconnector.exe" run --config "C:\c d\cc.yaml"`}
	st, err := f.windows().Status(t.Context())
	if err != nil || st.State != "failed" || st.Failure != "address in use (its own exit code 2)" {
		t.Errorf("got %+v, %v", st, err)
	}
	if st.Program != `C:\a b\certconnector.exe` || st.Config != `C:\c d\cc.yaml` {
		t.Errorf("of its command line: %q, %q", st.Program, st.Config)
	}
	f.service.Exit = 1077 // since the computer was started
	if st, err := f.windows().Status(t.Context()); err != nil || st.State != "stopped" || st.Failure != "" {
		t.Errorf("never started: %+v, %v", st, err)
	}
	f.service = nil
	if st, err := f.windows().Status(t.Context()); err != nil || st.Installed {
		t.Errorf("without a service: %+v, %v", st, err)
	}
	if err := f.windows().Stop(t.Context()); !errors.Is(err, errNone) {
		t.Errorf("stopping none: %v", err)
	}
}

func TestThePackageForWindowsIsKnown(t *testing.T) {
	b, err := os.ReadFile("../windows/certconnector.wxs")
	if err != nil || !strings.Contains(string(b), `UpgradeCode="`+strings.Trim(upgradeCode, "{}")+`"`) {
		t.Errorf("its upgrade code is another: %v", err)
	}
}

func TestAGroupManagedAccountNeedsTwoThings(t *testing.T) {
	f := newWindows(t)
	o := f.options()
	o.Account = `CONTOSO\connector$`
	hints := strings.Join(f.windows().Hints(o), "\n")
	for _, want := range []string{"Log on as a service", "Install-ADServiceAccount", "New-NetFirewallRule", "certconnector init"} {
		if !strings.Contains(hints, want) {
			t.Errorf("the hints lack %q:\n%s", want, hints)
		}
	}
}

// The service reads its configuration in one folder and has its keys in another.
func TestWindowsTellsWhereAConfigurationIsMade(t *testing.T) {
	f := newWindows(t)
	o := f.options()
	hints := f.windows().Hints(o)
	want := `Make a configuration: certconnector init --dir "` + filepath.Dir(o.Config) + `" --state-dir "` + o.StateDir + `"`
	if hints[0] != want {
		t.Errorf("got %s\nwant %s", hints[0], want)
	}
	if err := os.MkdirAll(o.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(o.Config, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if hints := f.windows().Hints(o); strings.Contains(hints[0], "init") {
		t.Errorf("with a configuration: %s", hints[0])
	}
}
