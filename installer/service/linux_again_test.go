//go:build unix

package service

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/installer/steps"
)

const serviceUnit, socketUnit = "certconnector.service", "certconnector.socket"

// running has a host's service run, as after "certconnector service start".
func (h *fakeHost) running() {
	for _, u := range []string{socketUnit, serviceUnit} {
		if h.has(unitDir+"/"+u) && !strings.Contains(h.units[u], "active") {
			h.units[u] = strings.TrimSpace(h.units[u] + " active")
		}
	}
	h.show = "LoadState=loaded\nActiveState=active\nFragmentPath=" + unitDir + "/" + serviceUnit + "\n"
}

func (h *fakeHost) socket() string {
	b, err := os.ReadFile(filepath.Join(h.root, unitDir, socketUnit))
	if err != nil {
		return ""
	}
	return string(b)
}

// TestLinuxInstalledAgainChangesWhatDiffers goes from one set of options to
// another while the service runs.
func TestLinuxInstalledAgainChangesWhatDiffers(t *testing.T) {
	for _, row := range []struct {
		name            string
		change          func(*Options)
		service, socket string // what the units are afterwards
		listens         string
	}{
		{"the same", func(*Options) {}, "enabled active", "enabled active", "ListenStream=443"},
		{"another port", func(o *Options) { o.Ports = []string{"444"} }, "enabled active", "enabled", "ListenStream=444"},
		{"no port below 1024", func(o *Options) { o.Ports = nil }, "enabled active", "", ""},
		{"no start with the system", func(o *Options) { o.Manual = true }, "active", "active", "ListenStream=443"},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := newHost(t)
			h.occupied()
			install(t, h, options())
			h.running()
			o := options()
			row.change(&o)
			install(t, h, o)
			if h.units[serviceUnit] != row.service || h.units[socketUnit] != row.socket {
				t.Errorf("units: %v", h.units)
			}
			if has := h.has(unitDir + "/" + socketUnit); has != (row.listens != "") || !strings.Contains(h.socket(), row.listens) {
				t.Errorf("the socket:\n%s", h.socket())
			}
			list, err := h.linux().Install(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			planned, err := steps.Plan(t.Context(), list)
			if err != nil || slices.ContainsFunc(planned, func(p steps.Planned) bool { return p.State != steps.Already }) {
				t.Errorf("there is still something to do: %+v, %v", planned, err)
			}
			if err := h.linux().Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			if open := strings.Contains(h.units[socketUnit], "active"); open != (row.listens != "") || !strings.Contains(h.units[serviceUnit], "active") {
				t.Errorf("after a restart: %v", h.units)
			}
		})
	}
}

// TestLinuxLeavesSocketsOfOthers: an administrator may have a socket unit for a
// port that the service could open itself.
func TestLinuxLeavesSocketsOfOthers(t *testing.T) {
	h := newHost(t)
	h.put(unitDir+"/"+socketUnit, "[Socket]\nListenStream=8443\n", 0o644)
	o := options()
	o.Ports = nil
	install(t, h, o)
	if !strings.Contains(h.socket(), "8443") {
		t.Error("it is gone")
	}
}

// TestLinuxStartsWhatDoesNotStartWithTheSystem: without its socket the service
// could not open a port below 1024.
func TestLinuxStartsWhatDoesNotStartWithTheSystem(t *testing.T) {
	h := newHost(t)
	h.occupied()
	o := options()
	o.Manual = true
	install(t, h, o)
	h.show = "LoadState=loaded\nActiveState=inactive\nFragmentPath=" + unitDir + "/" + serviceUnit + "\n"
	if err := h.linux().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h.units[serviceUnit] != "active" || h.units[socketUnit] != "active" {
		t.Errorf("units: %v", h.units)
	}
	h.running()
	if err := h.linux().Start(t.Context()); err != nil {
		t.Errorf("once more: %v", err)
	}
}

// TestLinuxARestartKeepsConnectionsWaiting: what is right is not closed, and
// devices that come meanwhile wait in systemd's socket.
func TestLinuxARestartKeepsConnectionsWaiting(t *testing.T) {
	h := newHost(t)
	h.occupied()
	install(t, h, options())
	h.running()
	h.log = nil
	if err := h.linux().Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if slices.ContainsFunc(h.log, func(line string) bool { return strings.HasPrefix(line, "systemctl stop") }) {
		t.Errorf("it did %q", h.log)
	}
}

// TestLinuxUninstallsWhatHasLostItsUnits: somebody has removed the files by
// hand, and the service still runs.
func TestLinuxUninstallsWhatHasLostItsUnits(t *testing.T) {
	for name, enabled := range map[string]bool{"it starts with the system": true, "it does not": false} {
		h := newHost(t)
		o := options()
		o.Manual = !enabled
		install(t, h, o)
		h.running()
		for _, u := range []string{serviceUnit, socketUnit} {
			if err := os.Remove(filepath.Join(h.root, unitDir, u)); err != nil {
				t.Fatal(err)
			}
		}
		list, err := h.linux().Uninstall(t.Context(), options())
		if err == nil {
			err = steps.Run(t.Context(), list, nil)
		}
		if err != nil || h.units[serviceUnit]+h.units[socketUnit] != "" || h.has(wants(serviceUnit)) || h.has(wants(socketUnit)) {
			t.Errorf("%s: left %v, %v", name, h.units, err)
		}
	}
}
