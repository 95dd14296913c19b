package service

import (
	"context"
	"errors"
	"strings"

	"github.com/certconnector/certconnector/installer/steps"
	"github.com/certconnector/certconnector/internal/osservice"
)

// Uninstall implements System. The service goes last: it cannot be brought
// back as it was.
func (w *Windows) Uninstall(_ context.Context, o Options) ([]steps.Step, error) {
	if err := w.unmanaged(); err != nil {
		return nil, err
	}
	list := []steps.Step{w.stop(), w.unsource()}
	if o.Firewall {
		list = append(list, w.closeFirewall(o))
	}
	list = append(list, w.delete())
	if !o.Purge {
		return list, nil
	}
	purged, err := purge(o, func(p string) string { return p })
	return append(list, purged...), err
}

// stop is the step that stops the service.
func (w *Windows) stop() steps.Step {
	return steps.Step{
		Does: "stop the service",
		Holds: func(context.Context) (bool, error) {
			st, err := w.Manager.Status(Name)
			if errors.Is(err, osservice.ErrNotInstalled) {
				return true, nil
			}
			return st.State == "stopped", err
		},
		Do:   func(ctx context.Context) error { return w.Manager.Stop(ctx, Name) },
		Undo: func() error { return w.Manager.Start(context.Background(), Name) },
	}
}

// unsource is the step that removes the event source.
func (w *Windows) unsource() steps.Step {
	var was string
	return steps.Step{
		Does: "remove the event source " + Name,
		Holds: func(context.Context) (bool, error) {
			file, err := w.Manager.EventSource(Name)
			return file == "", err
		},
		Do: func(context.Context) (err error) {
			if was, err = w.Manager.EventSource(Name); err != nil {
				return err
			}
			return w.Manager.UnregisterEventSource(Name)
		},
		Undo: func() error { return w.Manager.RegisterEventSource(Name, was) },
	}
}

// delete is the step that removes the service.
func (w *Windows) delete() steps.Step {
	return steps.Step{
		Does: "remove the service " + Name,
		Holds: func(context.Context) (bool, error) {
			_, err := w.Manager.Status(Name)
			if errors.Is(err, osservice.ErrNotInstalled) {
				return true, nil
			}
			return false, err
		},
		Do: func(context.Context) error { return w.Manager.Uninstall(Name) },
	}
}

// rule is the firewall's rule, as netsh takes it.
func rule(o Options) []string {
	return []string{
		"advfirewall", "firewall", "add", "rule", "name=" + Name, "dir=in", "action=allow", "protocol=TCP",
		"localport=" + strings.Join(ports(o), ","), "program=" + o.Program,
	}
}

func ports(o Options) []string {
	if len(o.Ports) == 0 {
		return []string{"443"}
	}
	return o.Ports
}

// firewall is the step that lets devices through.
func (w *Windows) firewall(o Options) steps.Step {
	s := steps.Step{
		Does:  "let port " + strings.Join(ports(o), ", ") + " through the firewall of Windows",
		Holds: w.hasRule,
		Do: func(ctx context.Context) error {
			_, err := w.Run(ctx, "netsh", rule(o)...)
			return err
		},
	}
	s.Undo = func() error { return w.dropRule(context.Background()) }
	return s
}

// closeFirewall is the step that takes the rule away.
func (w *Windows) closeFirewall(o Options) steps.Step {
	return steps.Step{
		Does: "remove the rule " + Name + " from the firewall of Windows",
		Holds: func(ctx context.Context) (bool, error) {
			has, err := w.hasRule(ctx)
			return !has, err
		},
		Do: w.dropRule,
		Undo: func() error {
			_, err := w.Run(context.Background(), "netsh", rule(o)...)
			return err
		},
	}
}

func (w *Windows) hasRule(ctx context.Context) (bool, error) {
	_, err := w.Run(ctx, "netsh", "advfirewall", "firewall", "show", "rule", "name="+Name) // fails where there is none
	return err == nil, nil
}

func (w *Windows) dropRule(ctx context.Context) error {
	_, err := w.Run(ctx, "netsh", "advfirewall", "firewall", "delete", "rule", "name="+Name)
	return err
}
