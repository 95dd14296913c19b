package demo

import (
	"context"
	"fmt"

	"github.com/certconnector/certconnector/cmd/certlab/device"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
)

// refused sends a request that must be refused, and checks that nothing was
// issued for it.
func (w *world) refused(ctx context.Context, e *evidence, a *device.Attempt, want scep.FailInfo) error {
	before, err := w.requests(ctx)
	if err != nil {
		return err
	}
	if err := a.Send(ctx); err != nil {
		return err
	}
	if a.Status() != scep.Failure || a.Reply.FailInfo != want || a.Issued() != nil {
		return fmt.Errorf("the device was answered with %v %v, want FAILURE %v", a.Status(), a.Reply.FailInfo, want)
	}
	e.saw("FAILURE %v %s", a.Reply.FailInfo, a.Reply.FailInfoText)
	after, err := w.requests(ctx)
	if err != nil {
		return err
	}
	if len(after) != len(before) {
		return fmt.Errorf("the journal had %d requests and has %d: something was begun", len(before), len(after))
	}
	e.saw("the journal still has %d requests; nothing was begun", len(after))
	return nil
}

func (w *world) differs(ctx context.Context, e *evidence) error {
	c, err := w.cloud.Challenge(ctx, intunetest.Ask{Platform: "windows"})
	if err != nil {
		return err
	}
	d, err := w.device("windows", w.made.SCEPURL)
	if err != nil {
		return err
	}
	p := device.Profiled(c)
	p.Subject = "CN=administrator"
	e.saw("the challenge says %s, the request CN=administrator", c.Subject)
	a, err := d.Prepare(ctx, device.Order{Profile: p})
	if err != nil {
		return err
	}
	return w.refused(ctx, e, a, scep.BadRequest)
}

func (w *world) forged(ctx context.Context, e *evidence) error {
	c, err := w.cloud.Challenge(ctx, intunetest.Ask{Platform: "android", Flaw: intunetest.Forged})
	if err != nil {
		return err
	}
	d, err := w.device("android", w.made.SCEPURL)
	if err != nil {
		return err
	}
	a, err := d.Prepare(ctx, device.Order{Profile: device.Profiled(c)})
	if err != nil {
		return err
	}
	return w.refused(ctx, e, a, scep.BadMessageCheck)
}

func (w *world) usedTwice(ctx context.Context, e *evidence) error {
	c, err := w.cloud.Challenge(ctx, intunetest.Ask{Platform: "macos"})
	if err != nil {
		return err
	}
	d, err := w.device("macos", w.made.SCEPURL)
	if err != nil {
		return err
	}
	first, err := d.Prepare(ctx, device.Order{Profile: device.Profiled(c)})
	if err != nil {
		return err
	}
	if err := first.Send(ctx); err != nil {
		return err
	}
	if _, err := w.received(e, "macos", first); err != nil {
		return err
	}
	second, err := d.Prepare(ctx, device.Order{Profile: device.Profiled(c)})
	if err != nil {
		return err
	}
	e.saw("the same challenge again, with another key")
	return w.refused(ctx, e, second, scep.BadRequest)
}
