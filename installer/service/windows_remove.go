package service

import (
	"context"
	"errors"

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
		list = append(list, w.closeFirewall())
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
