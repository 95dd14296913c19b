package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/certconnector/certconnector/agent/identity/entra"
	"github.com/certconnector/certconnector/cmd/certlab/device"
	"github.com/certconnector/certconnector/intune/intunetest"
)

// renewsUnderLoad renews the registration authority twice while devices enrol.
// One device has asked GetCACert before and comes with the old certificate.
func (w *world) renewsUnderLoad(ctx context.Context, e *evidence) (err error) {
	early, err := w.prepared(ctx, "windows", w.made.SCEPURL)
	if err != nil {
		return err
	}
	old := early.EncryptedTo()
	began, c := time.Now(), w.gather(ctx)
	home := c.home
	defer func() { err = errors.Join(err, home()) }()
	if err := c.more(ctx); err != nil {
		return err
	}
	e.saw("%d devices enrol at a time; GetCACert has %s for encryption", crowdSize, device.Serial(old.SerialNumber))
	last := old
	for range 2 {
		if _, err := w.run(ctx, "certificates", "renew", "endpoint devices"); err != nil {
			return err
		}
		next, err := w.offered(ctx)
		if err != nil {
			return err
		}
		if next.EncryptedTo().Equal(last) {
			return errors.New("GetCACert still has the old certificate")
		}
		last = next.EncryptedTo()
		e.saw(`certconnector certificates renew "endpoint devices": GetCACert has %s`, device.Serial(last.SerialNumber))
		if err := c.more(ctx); err != nil {
			return err
		}
	}
	if err := early.Send(ctx); err != nil {
		return err
	}
	if err := w.patiently(ctx, early); err != nil {
		return err
	}
	e.saw("a device comes with a message for %s, which GetCACert had at first:", device.Serial(old.SerialNumber))
	if _, err := w.received(e, "windows", early); err != nil {
		return err
	}
	took := time.Since(began)
	home = func() error { return nil }
	n := len(w.delivered)
	if err := c.home(); err != nil {
		return err
	}
	e.saw("%d other devices enrolled in %.1fs, 0 failed", len(w.delivered)-n, took.Seconds())
	return nil
}

// offered is an attempt that has asked GetCACert and goes no further.
func (w *world) offered(ctx context.Context) (*device.Attempt, error) {
	d, err := w.device("linux", w.made.SCEPURL)
	if err != nil {
		return nil, err
	}
	return d.Prepare(ctx, device.Order{Profile: device.Profile{Subject: "CN=nobody"}})
}

// replacesSignIn has "certconnector entra rotate" replace the certificate that
// signs in at Entra, while devices enrol.
func (w *world) replacesSignIn(ctx context.Context, e *evidence) (err error) {
	before, err := w.keys(ctx)
	if err != nil {
		return err
	}
	if len(before) != 1 {
		return fmt.Errorf("the app registration has %d certificates, want one", len(before))
	}
	calls, err := w.cloud.Calls(ctx)
	if err != nil {
		return err
	}
	c := w.gather(ctx)
	home := c.home
	defer func() { err = errors.Join(err, home()) }()
	if err := c.more(ctx); err != nil {
		return err
	}
	e.saw("%d devices enrol at a time; the app registration has the certificate %s, %d sign-ins", crowdSize, before[0].Thumbprint, before[0].SignIns)
	out, err := w.run(ctx, "entra", "rotate", "--within", patience.String(), "--json")
	if err != nil {
		return err
	}
	var made entra.Upload
	if err := json.Unmarshal(out, &made); err != nil {
		return fmt.Errorf("reading what certconnector entra rotate made: %w", err)
	}
	w.rotated = made.Thumbprint
	e.saw("certconnector entra rotate: %s was added by Graph, with a proof of the old one", made.Thumbprint)
	if err := w.signedIn(ctx, e); err != nil {
		return err
	}
	if err := c.more(ctx); err != nil {
		return err
	}
	home = func() error { return nil }
	n := len(w.delivered)
	if err := c.home(); err != nil {
		return err
	}
	e.saw("%d devices enrolled meanwhile, 0 failed", len(w.delivered)-n)
	return w.noneFailed(ctx, e, len(calls))
}

// keys are the certificates of the app registration.
func (w *world) keys(ctx context.Context) ([]intunetest.Key, error) {
	all, err := w.cloud.Keys(ctx)
	return slices.DeleteFunc(all, func(k intunetest.Key) bool { return k.ClientID != w.info.ClientID }), err
}

// signedIn wants the newest certificate beside the old one, and the last
// sign-in to be with it.
func (w *world) signedIn(ctx context.Context, e *evidence) error {
	keys, err := w.keys(ctx)
	if err != nil {
		return err
	}
	if len(keys) != 2 {
		return fmt.Errorf("the app registration has %d certificates, want the old and the new one", len(keys))
	}
	last := slices.MaxFunc(keys, func(a, b intunetest.Key) int { return a.SignedIn.Compare(b.SignedIn) })
	if last.Thumbprint != w.rotated {
		return fmt.Errorf("the last sign-in was with %s, want the new certificate", last.Thumbprint)
	}
	e.saw("the app registration has %d certificates (the old one for the overlap of a week); the last sign-in, at %s, was with the new one",
		len(keys), last.SignedIn.Local().Format(time.TimeOnly))
	return nil
}

// signedInSince wants the restarted connector to have signed in with the newest
// certificate.
func (w *world) signedInSince(ctx context.Context, e *evidence, began time.Time) error {
	keys, err := w.keys(ctx)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if k.SignedIn.After(began) != (k.Thumbprint == w.rotated) {
			return fmt.Errorf("since the restart the last sign-in with %s was at %s, but the newest certificate is %s",
				k.Thumbprint, k.SignedIn.Local().Format(time.TimeOnly), w.rotated)
		}
	}
	e.saw("the restarted connector signed in with the certificate that replaced the first one")
	return nil
}

// noneFailed wants every call to the cloud since then to have succeeded.
func (w *world) noneFailed(ctx context.Context, e *evidence, since int) error {
	calls, err := w.cloud.Calls(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range calls[since:] {
		if c.Status < http.StatusOK || c.Status >= http.StatusMultipleChoices {
			errs = append(errs, fmt.Errorf("%s %s was answered with status %d: %s", c.Method, c.Path, c.Status, c.Verdict))
		}
	}
	e.saw("the cloud answered %d calls, %d of them failed", len(calls)-since, len(errs))
	return errors.Join(errs...)
}
