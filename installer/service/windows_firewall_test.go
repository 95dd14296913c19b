package service

import (
	"slices"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/installer/steps"
)

// A rule is the one that was asked for, not just one of its name.
func TestWindowsFirewallFollowsPortAndProgram(t *testing.T) {
	somebodys := firewallRule("web", `C:\inetpub\web.exe`, "443")
	for _, row := range []struct {
		name  string
		rules func(Options) []string
		ports []string
		does  steps.State
	}{
		{"no rule", func(Options) []string { return nil }, []string{"443"}, steps.Done},
		{"the same", func(o Options) []string { return []string{firewallRule(Name, strings.ToUpper(o.Program), "443")} }, []string{"443"}, steps.Already},
		{"the same ports in another order", func(o Options) []string { return []string{firewallRule(Name, o.Program, "80", "443")} }, []string{"443", "80"}, steps.Already},
		{"another port", func(o Options) []string { return []string{firewallRule(Name, o.Program, "443")} }, []string{"8443"}, steps.Done},
		{"one port more", func(o Options) []string { return []string{firewallRule(Name, o.Program, "443")} }, []string{"443", "8443"}, steps.Done},
		{"another program", func(Options) []string { return []string{firewallRule(Name, `C:\old\certconnector.exe`, "443")} }, []string{"443"}, steps.Done},
		{"an old rule beside the right one", func(o Options) []string {
			return []string{firewallRule(Name, o.Program, "443"), firewallRule(Name, o.Program, "80")}
		}, []string{"443"}, steps.Done},
		{"somebody narrowed it", func(o Options) []string { return []string{firewallRule(Name, o.Program, "443") + "RA4=LocalSubnet|"} }, []string{"443"}, steps.Already},
	} {
		f := newWindows(t)
		o := f.options()
		o.Firewall, o.Ports = true, row.ports
		f.rules = append(row.rules(o), somebodys)
		before := slices.Clone(f.rules)
		list, err := f.windows().Install(t.Context(), o)
		var last steps.Planned
		if err == nil {
			err = steps.Run(t.Context(), list, func(p steps.Planned) { last = p })
		}
		if err != nil || last.State != row.does {
			t.Errorf("%s: %+v, %v", row.name, last, err)
		}
		if row.does == steps.Already {
			if !slices.Equal(f.rules, before) {
				t.Errorf("%s: changed to %q", row.name, f.rules)
			}
			continue
		}
		want := []string{somebodys, firewallRule(Name, o.Program, row.ports...)}
		if !slices.Equal(f.rules, want) {
			t.Errorf("%s: got %q\nwant %q", row.name, f.rules, want)
		}
	}
}

// Rules that let nothing in are not taken for one that does.
func TestReadRule(t *testing.T) {
	const right = `v2.10|Action=Allow|Active=TRUE|Dir=In|Protocol=6|LPort=80|LPort2_10=8000-8010|App=C:\cc.exe|Name=certconnector|Desc=a=b|`
	if r, ok := readRule(right); !ok || r != (rule{`C:\cc.exe`, "80,8000-8010"}) {
		t.Errorf("got %+v, %v", r, ok)
	}
	for _, change := range [][2]string{{"Allow", "Block"}, {"Dir=In", "Dir=Out"}, {"Protocol=6", "Protocol=17"}, {"Name=cert", "Name=other"}} {
		if _, ok := readRule(strings.Replace(right, change[0], change[1], 1)); ok {
			t.Errorf("with %s: taken for a rule that lets devices in", change[1])
		}
	}
	for _, text := range []string{"", "|", "=|=", "v2.10", strings.Repeat("|LPort", 1000)} {
		if r, ok := readRule(text); ok {
			t.Errorf("%.20q: got %+v", text, r)
		}
	}
}
