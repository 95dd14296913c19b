package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/certconnector/certconnector/cmd/certlab/device"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
)

// killed stalls the cloud's answer to the success notification, kills the
// connector meanwhile and starts it again.
func (w *world) killed(ctx context.Context, e *evidence) (err error) {
	if err := w.cloud.Fail(ctx, intunetest.Success, 1, intunetest.Fault{Delay: 2 * patience}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.cloud.Heal(context.WithoutCancel(ctx))) }()
	e.saw("the cloud stalls the next success notification")
	a, err := w.prepared(ctx, "android", w.made.SCEPURL)
	if err != nil {
		return err
	}
	before, err := w.notifying(ctx)
	if err != nil {
		return err
	}
	answered := make(chan error, 1)
	go func() { answered <- a.Send(ctx) }()
	err = until(ctx, patience, func() error {
		n, err := w.notifying(ctx)
		if err == nil && n == before {
			err = errors.New("the connector has not begun to report")
		}
		return err
	})
	if err != nil {
		return errors.Join(err, <-answered)
	}
	pid := w.connector.pid()
	if err := w.connector.kill(); err != nil {
		return err
	}
	w.connector = nil
	e.saw("kill -9 of process %d while it reports", pid)
	if err := <-answered; err == nil && a.Status() != scep.Pending {
		return fmt.Errorf("the device was answered with %v by a connector that had reported nothing", a.Status())
	}
	e.saw("the device lost its connection; it has no certificate")
	if err := w.cloud.Heal(ctx); err != nil {
		return err
	}
	began := time.Now()
	took, err := w.startConnector(ctx)
	if err != nil {
		return err
	}
	r, err := w.request(ctx, a.TransactionID())
	if err != nil {
		return err
	}
	if r.Serial == "" {
		return fmt.Errorf("the restarted connector has the request as %s and no certificate: it was lost", r.State)
	}
	e.saw("restarted as process %d in %.2fs; the journal has serial %s as %s", w.connector.pid(), took.Seconds(), r.Serial, r.State)
	return w.afterKill(ctx, e, a, r.Serial, began)
}

// notifying counts the success notifications that were begun.
func (w *world) notifying(ctx context.Context) (int, error) {
	calls, err := w.cloud.Calls(ctx)
	n := 0
	for _, c := range calls {
		if c.Endpoint == intunetest.Success {
			n++
		}
	}
	return n, err
}

// afterKill has the device come back with the same request.
func (w *world) afterKill(ctx context.Context, e *evidence, a *device.Attempt, serial string, began time.Time) error {
	if err := a.Send(ctx); err != nil {
		return err
	}
	if err := w.patiently(ctx, a); err != nil {
		return err
	}
	e.saw("the device sends its request again; %.1fs after the restart began:", time.Since(began).Seconds())
	got, err := w.received(e, "android", a)
	if err != nil {
		return err
	}
	if got != serial {
		return fmt.Errorf("the device got serial %s, but %s had been issued for it", got, serial)
	}
	if err := w.reportedOnce(ctx, e, serial); err != nil || w.rotated == "" {
		return err
	}
	return w.signedInSince(ctx, e, began)
}
