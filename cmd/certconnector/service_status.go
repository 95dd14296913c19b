package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/certconnector/certconnector/installer/service"
)

// serviceStatus is what "service status" knows, from the system and from the
// service itself.
type serviceStatus struct {
	service.Status
	Version        string   `json:"version,omitempty"`         // of the program on disk
	RunningVersion string   `json:"running_version,omitempty"` // of the one that runs
	Ready          *bool    `json:"ready,omitempty"`           // nil: it was not asked, or did not answer
	Problems       []string `json:"problems,omitempty"`
}

func (p *program) serviceStatusCommand(root *string) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show whether the service is installed and runs, and why it does not",
		Long: `Shows what the system knows of the service: installed, starts with the system,
runs since when, why it ended when it failed; and what the service says of
itself, as "certconnector status" does.

Exit codes: 0 it runs and is ready, 1 not, 2 error.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.serviceStatus(cmd.Context(), *root) },
	}
}

func (p *program) serviceStatus(ctx context.Context, root string) error {
	of, err := thisSystem(root).Status(ctx)
	if err != nil {
		return err
	}
	st := serviceStatus{Status: of}
	if st.Program != "" {
		st.Version = versionOf(ctx, st.Program)
	}
	if st.Running() {
		p.askHealth(ctx, &st)
	}
	if p.json {
		err = p.writeJSON(st)
	} else {
		p.serviceStatusPage(st)
	}
	if err == nil && (!st.Running() || len(st.Problems) > 0 || st.Ready == nil || !*st.Ready) {
		return &refused{}
	}
	return err
}

// askHealth asks the service over its control socket.
func (p *program) askHealth(ctx context.Context, st *serviceStatus) {
	if st.Config != "" {
		p.config = st.Config
	}
	client, err := p.dial()
	if err != nil {
		st.Problems = append(st.Problems, err.Error())
		return
	}
	health, err := client.Status(ctx)
	if err != nil {
		st.Problems = append(st.Problems, err.Error())
		return
	}
	st.Ready, st.RunningVersion = &health.Ready, health.Version
	st.Problems = append(st.Problems, health.Problems...)
	if st.Version != "" && st.Version != health.Version {
		st.Problems = append(st.Problems, "version "+health.Version+" runs, version "+st.Version+" is on disk: restart the service")
	}
}

// versionOf asks a program on disk for its version; "" where it does not tell.
func versionOf(ctx context.Context, program string) string {
	if own, err := os.Executable(); err == nil && own == program {
		return currentVersion()
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, "version", "--json").Output()
	if err != nil {
		return ""
	}
	var v struct{ Version string }
	if json.Unmarshal(out, &v) != nil {
		return ""
	}
	return v.Version
}

func (p *program) serviceStatusPage(st serviceStatus) {
	if !st.Installed {
		p.printf("not installed\n")
		return
	}
	line := func(name, value string) {
		if value != "" {
			p.printf("%-12s %s\n", name, showLines(value))
		}
	}
	state := st.State
	if st.PID != 0 {
		state += fmt.Sprintf(", process %d", st.PID)
	}
	if !st.Since.IsZero() {
		state += ", since " + st.Since.Local().Format(time.DateTime)
	}
	line("state", state)
	line("why", st.Failure)
	if st.Restarts > 0 {
		line("restarts", fmt.Sprintf("%d without being asked", st.Restarts))
	}
	line("at boot", map[bool]string{true: "starts", false: "does not start"}[st.Enabled])
	line("package", st.Package)
	line("account", st.Account)
	line("program", st.Program)
	line("version", st.Version)
	line("config", st.Config)
	if st.Ready != nil {
		line("health", map[bool]string{true: "ready", false: "not ready"}[*st.Ready])
	}
	for _, text := range st.Problems {
		p.printf("PROBLEM: %s\n", showLines(text))
	}
}

// showLines makes a text of several lines fit for a terminal.
func showLines(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = show(lines[i])
	}
	return strings.Join(lines, "\n")
}
