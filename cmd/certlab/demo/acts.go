package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/certconnector/certconnector/cmd/certlab/device"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// acts are the demonstration, in order.
func (w *world) acts() []act {
	var list []act
	for _, platform := range scepclient.Platforms() {
		list = append(list, act{platform + " enrols", func(ctx context.Context, e *evidence) error {
			return w.enrols(ctx, e, platform)
		}})
	}
	return append(list,
		act{"a request that differs from its challenge is refused", w.differs},
		act{"a forged challenge is refused", w.forged},
		act{"a challenge is good for one key", w.usedTwice},
		act{"the cloud takes no report for a while: the device waits, then gets that certificate", w.outage},
		act{"the cloud takes no report for too long: the certificate is revoked and never leaves", w.longOutage},
		act{"kill -9 between issuing and reporting: nothing is lost", w.killed},
		act{"windows renews with a fresh challenge", w.renews},
		act{"the connector stops in order", w.stops},
		act{"what left was reported, what was reported left", w.reportsMatch},
		act{"every certificate of the CA is in the journal", w.registerMatches},
		act{"nothing is open, nothing is owed", w.nothingOwed},
		act{"what did not leave is revoked", w.restRevoked},
	)
}

// device returns a device of a platform at an endpoint's address.
func (w *world) device(platform, url string) (*device.Device, error) {
	return device.New(device.Options{URL: url, Platform: platform, HTTP: w.http, Hurry: hurry})
}

// prepared asks the cloud for a challenge and prepares a first enrolment.
func (w *world) prepared(ctx context.Context, platform, url string) (*device.Attempt, error) {
	c, err := w.cloud.Challenge(ctx, intunetest.Ask{Platform: platform})
	if err != nil {
		return nil, err
	}
	d, err := w.device(platform, url)
	if err != nil {
		return nil, err
	}
	return d.Prepare(ctx, device.Order{Profile: device.Profiled(c)})
}

// received notes a certificate that a device got.
func (w *world) received(e *evidence, platform string, a *device.Attempt) (string, error) {
	if a.Status() != scep.Success {
		return "", fmt.Errorf("the device was answered with %v %v %s", a.Status(), a.Reply.FailInfo, a.Reply.FailInfoText)
	}
	h := a.Issued()
	w.delivered = append(w.delivered, delivery{platform, h})
	serial := device.Serial(h.Certificate.SerialNumber)
	e.saw("SUCCESS, serial %s, subject %s, until %s", serial, h.Certificate.Subject, h.Certificate.NotAfter.Format(time.DateOnly))
	return serial, nil
}

func (w *world) enrols(ctx context.Context, e *evidence, platform string) error {
	a, err := w.prepared(ctx, platform, w.made.SCEPURL)
	if err != nil {
		return err
	}
	if err := a.Send(ctx); err != nil {
		return err
	}
	e.saw("transaction %s, answered in %.0f ms", a.TransactionID(), a.Reply.Elapsed.Seconds()*1000)
	serial, err := w.received(e, platform, a)
	if err != nil {
		return err
	}
	w.held[platform] = a.Issued()
	return w.reportedOnce(ctx, e, serial)
}

// reportedOnce checks that the cloud took one success notification for a
// serial number.
func (w *world) reportedOnce(ctx context.Context, e *evidence, serial string) error {
	n, at, err := w.reports(ctx, serial)
	if err != nil {
		return err
	}
	if n != 1 {
		return fmt.Errorf("the cloud has %d success notifications for serial %s, want one", n, serial)
	}
	e.saw("the cloud took one success notification for it, at %s", at.Format("15:04:05.000"))
	return nil
}

// unreported checks that the cloud took no success notification for a serial
// number.
func (w *world) unreported(ctx context.Context, serial string) error {
	n, _, err := w.reports(ctx, serial)
	if err == nil && n != 0 {
		err = fmt.Errorf("the cloud has %d success notifications for serial %s, want none", n, serial)
	}
	return err
}

// reports counts the success notifications for a serial number.
func (w *world) reports(ctx context.Context, serial string) (n int, at time.Time, err error) {
	list, err := w.cloud.Notifications(ctx)
	for _, r := range list {
		if r.Success && strings.EqualFold(r.SerialNumber, serial) {
			n++
			at = r.Time
		}
	}
	return n, at, err
}

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
	serial, err := w.withheld(ctx, e, a)
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
// certificate in the journal that has not left.
func (w *world) withheld(ctx context.Context, e *evidence, a *device.Attempt) (serial string, err error) {
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
	if r.State != "withheld" && r.State != "issued" || r.Serial == "" {
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
	url := strings.TrimSuffix(w.made.SCEPURL, "/certsrv/mscep/mscep.dll") + impatientPath
	a, err := w.prepared(ctx, "windows", url)
	if err != nil {
		return err
	}
	began := time.Now()
	serial, err := w.withheld(ctx, e, a)
	if err != nil {
		return err
	}
	e.saw("this endpoint withholds certificates for %s at most", withholdFor)
	err = until(ctx, 20*time.Second, func() error {
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
	if err := w.onList(ctx, e, serial); err != nil {
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

// onList waits until a serial number is on the revocation list, which another
// device fetches.
func (w *world) onList(ctx context.Context, e *evidence, serial string) error {
	by := w.held["linux"]
	if by == nil {
		return errors.New("no device is there to fetch the revocation list: its enrolment failed")
	}
	d, err := w.device("linux", w.made.SCEPURL)
	if err != nil {
		return err
	}
	return until(ctx, 15*time.Second, func() error {
		list, err := d.Revoked(ctx, by)
		if err != nil {
			return err
		}
		if !list[serial] {
			return fmt.Errorf("serial %s is not on the revocation list of %d", serial, len(list))
		}
		e.saw("serial %s is on the revocation list (GetCRL)", serial)
		return nil
	})
}

func (w *world) renews(ctx context.Context, e *evidence) error {
	old := w.held["windows"]
	if old == nil {
		return errors.New("there is nothing to renew: the first enrolment failed")
	}
	c, err := w.cloud.Challenge(ctx, intunetest.Ask{Platform: "windows"})
	if err != nil {
		return err
	}
	d, err := w.device("windows", w.made.SCEPURL)
	if err != nil {
		return err
	}
	a, err := d.Prepare(ctx, device.Order{Profile: device.Profiled(c), Renew: old})
	if err != nil {
		return err
	}
	e.saw("signed with the certificate %s", device.Serial(old.Certificate.SerialNumber))
	if err := a.Send(ctx); err != nil {
		return err
	}
	serial, err := w.received(e, "windows", a)
	if err != nil {
		return err
	}
	if a.Issued().Certificate.SerialNumber.Cmp(old.Certificate.SerialNumber) == 0 {
		return errors.New("the renewal brought the old certificate")
	}
	return w.reportedOnce(ctx, e, serial)
}
