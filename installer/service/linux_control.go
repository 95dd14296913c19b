//go:build unix

package service

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/certconnector/certconnector/installer/linux"
)

// This returns the service manager of this system. A root, which is for tests,
// is put before each path of a file. Why a service failed is known to systemd;
// failure is for Windows.
func This(root string, _ func(config string) string) System { return &Linux{Root: root} }

// Start implements System.
func (l *Linux) Start(ctx context.Context) error { return l.control(ctx, "start") }

// Restart implements System.
func (l *Linux) Restart(ctx context.Context) error { return l.control(ctx, "restart") }

// Stop implements System. The socket is stopped too: the next device would
// start the service again.
func (l *Linux) Stop(ctx context.Context) error {
	st, err := l.Status(ctx)
	if err != nil {
		return err
	}
	if !st.Installed {
		return errNone
	}
	units := []string{linux.ServiceUnit}
	if l.active(ctx, linux.SocketUnit) {
		units = []string{linux.SocketUnit, linux.ServiceUnit}
	}
	_, err = l.run(ctx, "systemctl", append([]string{"stop"}, units...)...)
	return err
}

// control starts the service; its Type=notify has systemctl wait until it
// serves.
func (l *Linux) control(ctx context.Context, verb string) error {
	st, err := l.Status(ctx)
	if err != nil {
		return err
	}
	if !st.Installed {
		return errNone
	}
	if gone, err := missing(l.path(st.Config)); gone && err == nil && st.Config != "" {
		return fmt.Errorf("there is no configuration at %q: make one by \"certconnector init\"", st.Config)
	}
	if verb == "restart" || !st.Running() {
		if err := l.open(ctx); err != nil {
			return err
		}
	}
	_, err = l.run(ctx, "systemctl", verb, linux.ServiceUnit)
	if err == nil {
		return nil
	}
	if st, statusErr := l.Status(ctx); statusErr == nil && st.Failure != "" {
		return fmt.Errorf("the service does not start: %s", st.Failure)
	}
	return err
}

// open has systemd open the ports of the service, if it is to and has not: where
// the socket starts with the system, or was written here. The service is stopped
// before, since systemd opens nothing for one that is there. Ports that are open
// stay so: connections wait in them.
func (l *Linux) open(ctx context.Context) error {
	wanted := l.written(linux.SocketUnit) || l.enabled(ctx, linux.SocketUnit)
	if !wanted || l.active(ctx, linux.SocketUnit) {
		return nil
	}
	if l.active(ctx, linux.ServiceUnit) {
		if err := l.systemctl(ctx, "stop", []string{linux.ServiceUnit}); err != nil {
			return err
		}
	}
	return l.systemctl(ctx, "start", []string{linux.SocketUnit})
}

// Status implements System.
func (l *Linux) Status(ctx context.Context) (Status, error) {
	properties := "LoadState,UnitFileState,ActiveState,MainPID,ActiveEnterTimestamp,NRestarts,User,FragmentPath,Result,ExecMainStatus,ConditionResult"
	out, err := l.run(ctx, "systemctl", "show", "--timestamp=unix", "-p", properties, linux.ServiceUnit)
	if err != nil { // before version 248 it knows no such option
		out, err = l.run(ctx, "systemctl", "show", "-p", properties, linux.ServiceUnit)
	}
	if err != nil {
		return Status{}, err
	}
	show := map[string]string{}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		show[key] = value
	}
	if show["LoadState"] != "loaded" {
		return Status{State: "not installed"}, nil
	}
	st := Status{Installed: true, Enabled: show["UnitFileState"] == "enabled", State: states[show["ActiveState"]], Account: show["User"]}
	if st.State == "" {
		st.State = show["ActiveState"]
	}
	st.PID, _ = strconv.Atoi(show["MainPID"])        // 0 where there is none
	st.Restarts, _ = strconv.Atoi(show["NRestarts"]) // 0 where there were none
	if s, err := strconv.ParseInt(strings.TrimPrefix(show["ActiveEnterTimestamp"], "@"), 10, 64); err == nil && st.Running() {
		st.Since = time.Unix(s, 0)
	}
	st.Program, st.Config = l.command(show["FragmentPath"])
	st.Package, _, err = l.managed(ctx)
	if err == nil && !st.Running() {
		st.Failure = l.failure(ctx, show)
	}
	return st, err
}

// states are systemd's in our words.
var states = map[string]string{
	"active": "running", "reloading": "running", "inactive": "stopped", "failed": "failed",
	"activating": "starting", "deactivating": "stopping",
}

// command reads program and configuration from a unit.
func (l *Linux) command(fragment string) (program, config string) {
	b, err := os.ReadFile(l.path(filepath.Clean(fragment)))
	if err != nil {
		return "", ""
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "ExecStart="); ok {
			words := strings.Fields(rest)
			for i, w := range words {
				if w == "--config" && i+1 < len(words) {
					config = words[i+1]
				}
			}
			if len(words) > 0 {
				program = words[0]
			}
		}
	}
	return program, config
}

// failure is why the service does not run: what it said last, if it failed.
func (l *Linux) failure(ctx context.Context, show map[string]string) string {
	if show["ConditionResult"] == "no" {
		return "its configuration is not there"
	}
	if (show["Result"] == "" || show["Result"] == "success") && (show["ExecMainStatus"] == "" || show["ExecMainStatus"] == "0") {
		return ""
	}
	why := "systemd says " + show["Result"] + ", exit status " + show["ExecMainStatus"]
	lines, err := l.run(ctx, "journalctl", "--no-pager", "-o", "cat", "-n", "200", "-u", linux.ServiceUnit)
	if err != nil {
		return why
	}
	if said := lastError(lines); said != "" {
		return said + " (" + why + ")"
	}
	return why
}

// lastError finds the last error that the service has written: a line of its
// log, or, before it has one, what it says on standard error. That may have
// several lines, which are indented.
func lastError(text string) string {
	var last string
	said := false
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if rest, ok := strings.CutPrefix(line, "certconnector: "); ok {
			last, said = rest, true
			continue
		}
		if said && strings.HasPrefix(line, "  ") {
			last += "; " + strings.TrimSpace(line)
			continue
		}
		said = false
		var entry struct{ Level, Message, Error string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Level == "error" {
			last = strings.TrimSuffix(entry.Message+": "+entry.Error, ": ")
		}
	}
	return last
}
