package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/certconnector/certconnector/cmd/certlab/device"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
)

// noReports keeps the cloud from taking success notifications.
func (w *world) noReports(ctx context.Context, e *evidence) (heal func() error, err error) {
	if err := w.cloud.Fail(ctx, intunetest.Success, intunetest.Always, intunetest.Fault{Status: 500}); err != nil {
		return nil, err
	}
	e.saw("the cloud answers success notifications with HTTP status 500")
	return func() error { return w.cloud.Heal(context.WithoutCancel(ctx)) }, nil
}

func (w *world) outage(ctx context.Context, e *evidence) (err error) {
	heal, err := w.noReports(ctx, e)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, heal()) }()
	a, err := w.prepared(ctx, "ios", w.made.SCEPURL)
	if err != nil {
		return err
	}
	serial, err := w.withheld(ctx, e, a, "issued", "withheld")
	if err != nil {
		return err
	}
	if err := a.Poll(ctx); err != nil {
		return err
	}
	if a.Status() != scep.Pending {
		return fmt.Errorf("the poll was answered with %v, want PENDING", a.Status())
	}
	e.saw("the device polls: PENDING again")
	if err := heal(); err != nil {
		return err
	}
	began := time.Now()
	if err := w.patiently(ctx, a); err != nil {
		return err
	}
	e.saw("the cloud takes notifications again; %.1fs and %d polls later:", time.Since(began).Seconds(), a.Polls)
	got, err := w.received(e, "ios", a)
	if err != nil {
		return err
	}
	if got != serial {
		return fmt.Errorf("the device got serial %s, but %s was withheld for it", got, serial)
	}
	return w.reportedOnce(ctx, e, serial)
}

// withheld sends a request while no report is taken: PENDING, and a
// certificate in the journal that has not left, in one of these states.
func (w *world) withheld(ctx context.Context, e *evidence, a *device.Attempt, states ...string) (serial string, err error) {
	if err := a.Send(ctx); err != nil {
		return "", err
	}
	if a.Status() != scep.Pending {
		return "", fmt.Errorf("the device was answered with %v, want PENDING", a.Status())
	}
	e.saw("PENDING after %.1fs", a.Reply.Elapsed.Seconds())
	r, err := w.request(ctx, a.TransactionID())
	if err != nil {
		return "", err
	}
	if !slices.Contains(states, r.State) || r.Serial == "" {
		return "", fmt.Errorf("the journal has the request as %s, serial %q; want a withheld certificate", r.State, r.Serial)
	}
	e.saw("the journal has serial %s as %s", r.Serial, r.State)
	return r.Serial, w.unreported(ctx, r.Serial)
}

// patiently polls until the answer is another than PENDING.
func (w *world) patiently(ctx context.Context, a *device.Attempt) error {
	for a.Status() == scep.Pending {
		if err := a.Poll(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) longOutage(ctx context.Context, e *evidence) (err error) {
	heal, err := w.noReports(ctx, e)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, heal()) }()
	a, err := w.prepared(ctx, "windows", w.endpointURL(impatientPath))
	if err != nil {
		return err
	}
	began := time.Now()
	// A busy machine may take longer to look than the endpoint's patience.
	serial, err := w.withheld(ctx, e, a, "issued", "withheld", "abandoned")
	if err != nil {
		return err
	}
	e.saw("this endpoint withholds certificates for %s at most", withholdFor)
	err = until(ctx, patience, func() error {
		r, err := w.request(ctx, a.TransactionID())
		if err == nil && r.State != "abandoned" {
			err = fmt.Errorf("the journal has the request as %s, want abandoned", r.State)
		}
		return err
	})
	if err != nil {
		return err
	}
	e.saw("abandoned after %.1fs, with the cloud still out", time.Since(began).Seconds())
	by := w.held["linux"]
	if by == nil {
		return errors.New("no device is there to fetch the revocation list: its enrolment failed")
	}
	if _, err := w.listed(ctx, e, w.made.SCEPURL, by, serial); err != nil {
		return err
	}
	if err := a.Poll(ctx); err != nil {
		return err
	}
	if a.Status() != scep.Failure {
		return fmt.Errorf("the device polls and is answered with %v, want FAILURE", a.Status())
	}
	e.saw("the device polls: FAILURE %v", a.Reply.FailInfo)
	if err := heal(); err != nil {
		return err
	}
	if err := w.unreported(ctx, serial); err != nil {
		return err
	}
	e.saw("the cloud took no success notification for it")
	return nil
}
