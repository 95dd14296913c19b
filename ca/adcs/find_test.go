package adcs

import (
	"errors"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/adcstest"
	"github.com/certconnector/certconnector/ca/catest"
)

// quirks are the points in which servers differ and documents are silent.
var quirks = map[string]adcstest.Quirks{
	"as documented":               {},
	"rows from 1, 0 refused":      {FirstRow: 1},
	"rows from 1, 0 empty":        {FirstRow: 1, EmptyRowZero: true},
	"end without S_FALSE":         {NoSFalse: true},
	"no closing row":              {NoClosingRow: true},
	"neither":                     {NoSFalse: true, NoClosingRow: true},
	"rows from 1, neither":        {FirstRow: 1, NoSFalse: true, NoClosingRow: true},
	"rows from 1, empty, neither": {FirstRow: 1, EmptyRowZero: true, NoSFalse: true, NoClosingRow: true},
	"short pages":                 {PageLimit: 3},
	"short pages from 1":          {PageLimit: 1, FirstRow: 1, NoClosingRow: true},
	"dispositions of the note":    {DocumentDispositions: true},
	"no comparison of binaries":   {NoBinaryEqual: true},
	"columns of 2003":             {OldSchema: true},
	"upper-case serial numbers":   {UpperCaseSerials: true},
	"attributes dropped":          {DropAttributes: true},
	"refusals as return values":   {ReturnsHResult: true},
	"unknown serials are empty":   {UnknownSerialEmpty: true},
}

func TestSearchAndRevokeWithEachQuirk(t *testing.T) {
	for name, q := range quirks {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, nil, adcstest.Options{Quirks: q})
			c := l.connect(t, "svc", Config{Find: CSRA, Revoke: CSRA})
			f := finder{c}
			if _, err := f.Find(t.Context(), queryOf(newRequest(t))); !errors.Is(err, ca.ErrNotFound) {
				t.Errorf("in an empty database: %v, want ErrNotFound", err)
			}
			var requests []ca.Request
			var serials []*big.Int
			for range 7 {
				req := newRequest(t)
				got, err := c.Issue(t.Context(), req)
				if err != nil {
					t.Fatal(err)
				}
				requests, serials = append(requests, req), append(serials, got.Certificate.SerialNumber)
			}
			for i, req := range requests {
				got, err := f.Find(t.Context(), queryOf(req))
				if err != nil || got.Certificate.SerialNumber.Cmp(serials[i]) != 0 || got.RequestID != fmt.Sprint(i+1) {
					t.Errorf("request %d: %v", i+1, err)
				}
			}
			if _, err := f.Find(t.Context(), queryOf(newRequest(t))); !errors.Is(err, ca.ErrNotFound) {
				t.Errorf("not submitted: %v, want ErrNotFound", err)
			}
			revokeAndRefuse(t, c, requests[0], serials[0])
		})
	}
}

func revokeAndRefuse(t *testing.T, c *CA, req ca.Request, serial *big.Int) {
	r := revoker{c}
	if err := r.Revoke(t.Context(), serial, ca.KeyCompromise); err != nil {
		t.Errorf("Revoke: %v", err)
	}
	if err := r.Revoke(t.Context(), big.NewInt(0x5eed), ca.KeyCompromise); !errors.Is(err, ca.ErrNotFound) {
		t.Errorf("unknown serial number: %v, want ErrNotFound", err)
	}
	if _, err := (finder{c}).Find(t.Context(), queryOf(req)); !isDenied(err) {
		t.Errorf("revoked meanwhile: %v, want *ca.Denied", err)
	}
	refused := newRequest(t)
	refused.Template = forbidden
	if _, err := c.Issue(t.Context(), refused); !isDenied(err) {
		t.Errorf("forbidden template: %v, want *ca.Denied", err)
	}
	if _, err := (finder{c}).Find(t.Context(), queryOf(refused)); !isDenied(err) {
		t.Errorf("search for a refused request: %v, want *ca.Denied", err)
	}
}

func isDenied(err error) bool {
	_, ok := errors.AsType[*ca.Denied](err)
	return ok
}

func TestParkedRequestIsFound(t *testing.T) {
	l := newLab(t, nil, adcstest.Options{})
	c := l.connect(t, "svc", Config{Find: CSRA})
	req := newRequest(t)
	req.Template = parking
	_, err := c.Issue(t.Context(), req)
	parked, _ := errors.AsType[*ca.Pending](err)
	_, err = (finder{c}).Find(t.Context(), queryOf(req))
	if found, ok := errors.AsType[*ca.Pending](err); !ok || parked == nil || found.RequestID != parked.RequestID {
		t.Errorf("search: %v, want pending under the same ID", err)
	}
}

func TestNewestOfSeveralCertificatesIsFound(t *testing.T) {
	l := newLab(t, nil, adcstest.Options{})
	c := l.connect(t, "svc", Config{Find: CSRA})
	req := newRequest(t)
	if _, err := c.Issue(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	newest, err := c.Issue(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	got, err := (finder{c}).Find(t.Context(), queryOf(req))
	if err != nil || !got.Certificate.Equal(newest.Certificate) {
		t.Errorf("another certificate, or error %v", err)
	}
}

func TestDamagedRowsProveNothing(t *testing.T) {
	l := newLab(t, nil, adcstest.Options{})
	c := l.connect(t, "svc", Config{Find: CSRA})
	req := newRequest(t)
	if _, err := c.Issue(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	l.ca.Fail(adcstest.DamagedRows, 1)
	if _, err := (finder{c}).Find(t.Context(), queryOf(req)); err == nil || errors.Is(err, ca.ErrNotFound) {
		t.Errorf("error %v, want one that proves nothing", err)
	}
	if _, err := (finder{c}).Find(t.Context(), queryOf(req)); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestWindowOfMoreThanOnePage(t *testing.T) {
	l := newLab(t, nil, adcstest.Options{})
	c := l.connect(t, "svc", Config{Find: CSRA})
	csr := catest.NewCSR(t, catest.CSROptions{Key: catestKey(2)})
	for range 2*pageRows + 5 {
		l.ca.Submit(t.Context(), "svc", "CertificateTemplate:"+issuing, csr.Raw)
	}
	req := newRequest(t)
	if _, err := c.Issue(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if _, err := (finder{c}).Find(t.Context(), queryOf(req)); err != nil {
		t.Errorf("last of 206 requests: %v", err)
	}
	if _, err := (finder{c}).Find(t.Context(), queryOf(newRequest(t))); !errors.Is(err, ca.ErrNotFound) {
		t.Errorf("absent from 206 requests: %v, want ErrNotFound", err)
	}
}

func TestWalkOverRequestIDs(t *testing.T) {
	l := newLab(t, nil, adcstest.Options{})
	c := l.connect(t, "svc", Config{Find: CSRA})
	why := errors.New("no right to search")
	lost := ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{Key: catestKey(3)}), Template: issuing}
	if _, err := c.walk(t.Context(), queryOf(lost), why); !errors.Is(err, why) {
		t.Errorf("without a beginning: %v, want the reason", err)
	}
	mustIssue(t, c)
	if _, err := c.walk(t.Context(), queryOf(lost), why); !errors.Is(err, ca.ErrNotFound) {
		t.Errorf("down to the first request: %v, want ErrNotFound", err)
	}
	l.ca.Submit(t.Context(), "svc", "CertificateTemplate:"+issuing, lost.CSR.Raw)
	got, err := c.walk(t.Context(), queryOf(lost), why)
	if err != nil || got.RequestID != "2" {
		t.Errorf("newer request: %v", err)
	}
	later := queryOf(lost)
	later.From = time.Now().Add(3 * time.Hour) // its certificate is older than that
	if _, err := c.walk(t.Context(), later, why); !errors.Is(err, ca.ErrNotFound) {
		t.Errorf("from before the window: %v, want ErrNotFound", err)
	}
	parked := newRequest(t)
	parked.Template = parking
	if _, err := c.Issue(t.Context(), parked); err == nil {
		t.Fatal("not parked")
	}
	absent := ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{Key: catestKey(4)})}
	if _, err := c.walk(t.Context(), queryOf(absent), why); !errors.Is(err, why) {
		t.Errorf("beside a parked request: %v, want the reason", err)
	}
}

func TestSearchesAndStatusesDoNotWaitForEachOther(t *testing.T) {
	l := newLab(t, nil, adcstest.Options{})
	c := l.connect(t, "svc", Config{Find: CSRA, Revoke: CSRA})
	req := newRequest(t)
	got, err := c.Issue(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, 32)
	for range cap(errs) / 2 {
		go func() {
			_, err := finder{c}.Find(t.Context(), queryOf(req))
			errs <- err
		}()
		go func() {
			status, err := revoker{c}.Check(t.Context(), got.Certificate.SerialNumber)
			if err == nil && status.Certificate == nil {
				err = errors.New("status without the certificate")
			}
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
