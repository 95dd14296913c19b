package demo

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/certconnector/certconnector/cmd/certlab/device"
	"github.com/certconnector/certconnector/intune/intunetest"
)

// wantsRevoked has the cloud ask for the revocation of a certificate that the
// embedded CA issued.
func (w *world) wantsRevoked(ctx context.Context, e *evidence) error {
	_, err := w.revokedByCloud(ctx, e, w.made.SCEPURL, w.held["linux"])
	return err
}

// wantsRevokedAtCorp does so for one of the Microsoft CA. Another device is
// there to fetch that CA's list.
func (w *world) wantsRevokedAtCorp(ctx context.Context, e *evidence) error {
	other, err := w.enrolled(ctx, e, "macos", w.corpURL())
	if err != nil {
		return err
	}
	serial, err := w.revokedByCloud(ctx, e, w.corpURL(), other.holding)
	if err != nil {
		return err
	}
	rows, _, err := w.corpRows(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(rows, func(r corpRow) bool { return r.Serial == serial })
	if i < 0 || !rows[i].Revoked {
		return fmt.Errorf("the database of %s does not have serial %s as revoked", w.corp.Config, serial)
	}
	e.saw("the database of %s: request %d, revoked, reason %d, as of %s", w.corp.Config, rows[i].RequestID, rows[i].Reason, rows[i].RevokedAt.Local().Format(time.TimeOnly))
	return nil
}

// enrolled is a device that enrols at an endpoint and gets its certificate.
func (w *world) enrolled(ctx context.Context, e *evidence, platform, url string) (*delivery, error) {
	a, err := w.prepared(ctx, platform, url)
	if err != nil {
		return nil, err
	}
	if err := a.Send(ctx); err != nil {
		return nil, err
	}
	if err := w.patiently(ctx, a); err != nil {
		return nil, err
	}
	serial, err := w.received(e, platform, a)
	if err != nil {
		return nil, err
	}
	return w.delivered[len(w.delivered)-1], w.reportedOnce(ctx, e, serial)
}

// revokedByCloud enrols a device, has the cloud ask for the revocation of its
// certificate, and looks for it on the CA's list.
func (w *world) revokedByCloud(ctx context.Context, e *evidence, url string, by *device.Holding) (serial string, err error) {
	if by == nil {
		return "", errors.New("no device is there to fetch the revocation list: its enrolment failed")
	}
	d, err := w.enrolled(ctx, e, "ios", url)
	if err != nil {
		return "", err
	}
	serial = device.Serial(d.holding.Certificate.SerialNumber)
	wanted, err := w.cloud.Revoke(ctx, serial)
	if err != nil {
		return "", err
	}
	e.saw("the cloud wants serial %s of %q revoked", wanted.SerialNumber, wanted.Issuer)
	began := time.Now()
	var told intunetest.Revocation
	err = until(ctx, patience, func() error {
		list, err := w.cloud.Revocations(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(list, func(r intunetest.Revocation) bool { return r.Context == wanted.Context })
		if i < 0 {
			return final{errors.New("the cloud has forgotten what it wanted")}
		}
		if told = list[i]; told.State == intunetest.RevocationFailed {
			return final{fmt.Errorf("the cloud was told that it failed: code %d, %s", told.Code, told.Message)}
		}
		if told.State != intunetest.Revoked || told.Code != 0 {
			return fmt.Errorf("the cloud has the revocation as %s", told.State)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	d.revoked = true
	e.saw("%.1fs later the cloud has it as revoked; deliveries: %d, results: %d", time.Since(began).Seconds(), told.Deliveries, told.Results)
	crl, err := w.listed(ctx, e, url, by, serial)
	if err != nil {
		return "", err
	}
	return serial, w.opensslReads(ctx, e, crl, by.Chain, serial)
}

// listed waits until a serial number is on the revocation list, which another
// device fetches.
func (w *world) listed(ctx context.Context, e *evidence, url string, by *device.Holding, serial string) (crl *x509.RevocationList, err error) {
	d, err := w.device("linux", url)
	if err != nil {
		return nil, err
	}
	err = until(ctx, patience, func() (err error) {
		if crl, err = d.List(ctx, by); err != nil {
			return err
		}
		if !slices.ContainsFunc(crl.RevokedCertificateEntries, func(r x509.RevocationListEntry) bool { return device.Serial(r.SerialNumber) == serial }) {
			return fmt.Errorf("serial %s is not on the revocation list of %d", serial, len(crl.RevokedCertificateEntries))
		}
		e.saw("serial %s is on the list number %s of %s (GetCRL)", serial, crl.Number, crl.Issuer)
		return nil
	})
	return crl, err
}

// opensslReads has openssl verify a revocation list and find a serial number
// on it. Where openssl is not installed, Go's code does.
func (w *world) opensslReads(ctx context.Context, e *evidence, crl *x509.RevocationList, chain []*x509.Certificate, serial string) error {
	i := slices.IndexFunc(chain, func(c *x509.Certificate) bool { return bytes.Equal(c.RawSubject, crl.RawIssuer) })
	if i < 0 {
		return errors.New("the list's issuer is none of the CAs that GetCACert names")
	}
	program, err := exec.LookPath("openssl")
	if err != nil {
		if err := crl.CheckSignatureFrom(chain[i]); err != nil {
			return fmt.Errorf("the list's signature: %w", err)
		}
		e.saw("openssl is not installed; crypto/x509 of Go verified the list")
		return nil
	}
	list, issuer := w.path(serial+".crl"), w.path(serial+"-issuer.pem")
	if err := errors.Join(os.WriteFile(list, crl.Raw, 0o600),
		os.WriteFile(issuer, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: chain[i].Raw}), 0o600)); err != nil {
		return fmt.Errorf("writing the list: %w", err)
	}
	out, err := exec.CommandContext(ctx, program, "crl", "-inform", "DER", "-in", list, "-noout", "-text", "-CAfile", issuer).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "verify OK") || !strings.Contains(string(out), "Serial Number: "+serial) {
		return fmt.Errorf("openssl crl: %w, and does not find serial %s in a list that verifies:\n%s", err, serial, out)
	}
	e.saw("openssl crl -in %s: verify OK, and it lists the serial number", filepath.Base(list))
	return nil
}
