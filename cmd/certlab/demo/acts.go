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
		act{"the cloud wants a certificate revoked: it is on the CA's list", w.wantsRevoked},
		act{"the cloud wants one of a Microsoft CA revoked: it is on that CA's list", w.wantsRevokedAtCorp},
		act{"a job of the queue: key and certificate reach the recipient", w.job},
		act{"the registration authority renews under load: no enrolment fails", w.renewsUnderLoad},
		act{"the sign-in certificate at Entra is replaced: no call fails", w.replacesSignIn},
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
	w.delivered = append(w.delivered, &delivery{platform: platform, holding: h})
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
