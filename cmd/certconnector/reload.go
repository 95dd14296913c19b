package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certconnector/certconnector/agent/control"
	"github.com/certconnector/certconnector/internal/osservice"
)

func (p *program) reloadCommand() *cobra.Command {
	var socket string
	c := &cobra.Command{
		Use:   "reload",
		Short: "Have the running service read its configuration again",
		Long: `Has the running service read its configuration, certificates and keys again.
Devices notice nothing: connections stay open, and requests under way are
answered. A file that is wrong changes nothing; the service goes on with the
configuration that it has. "systemctl reload certconnector" runs this command.

Exit codes: 0 applied, 1 applied but for settings that need a restart, which are
named, 2 refused, with everything that is wrong.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.reload(cmd.Context(), socket) },
	}
	c.Flags().StringVar(&socket, "socket", "", "control socket of the service (default: the one that the configuration names)")
	return c
}

func (p *program) reload(ctx context.Context, socket string) error {
	client, err := p.dialAt(socket)
	if err != nil {
		return p.wishReload(err)
	}
	done, err := client.Reload(ctx)
	if err != nil {
		return err
	}
	if p.json {
		if err := p.writeJSON(done); err != nil {
			return err
		}
	} else {
		p.reloadPage(done)
	}
	switch {
	case !done.Applied && p.json:
		return errors.New("the configuration was refused")
	case !done.Applied:
		return &reported{errors.New("the configuration was refused")}
	case len(done.Restart) > 0:
		return &refused{}
	}
	return nil
}

// wishReload asks by the service manager where there is no control socket, as
// on Windows Server 2016. It has no answer.
func (p *program) wishReload(because error) error {
	if err := (osservice.Manager{}).Reload(serviceName); err != nil {
		return because
	}
	if p.json {
		return p.writeJSON(map[string]bool{"asked": true})
	}
	p.printf("the service was asked to read its configuration again; its log says how it went\n")
	return nil
}

// dialAt connects to a control socket; "": to that of the configuration, which
// is not the service's when that setting is what changed.
func (p *program) dialAt(socket string) (*control.Client, error) {
	if socket != "" {
		return control.Dial(socket)
	}
	client, err := p.dial()
	if _, unheard := errors.AsType[*net.OpError](err); unheard {
		return nil, fmt.Errorf("%w; if control.socket or state_dir has changed since it started: restart it, or name its present socket with --socket", err)
	}
	return client, err
}

func (p *program) reloadPage(done control.Reload) {
	if !done.Applied {
		p.fail(errors.New("the configuration was refused; the service goes on with the one that it has:\n" + strings.Join(done.Mistakes, "\n")))
		return
	}
	p.printf("the configuration applies\n")
	for _, name := range done.Changed {
		p.printf("changed: %s\n", show(name))
	}
	for _, name := range done.Restart {
		p.printf("needs a restart: %s\n", show(name))
	}
}
