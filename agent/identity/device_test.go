package identity_test

import (
	"context"
	"crypto/x509/pkix"
	"fmt"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/identity"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
	"github.com/certconnector/certconnector/scep/scephttp"
)

// Enroll lets the CA sign whatever is asked, for devices of a test.
func (f *fakeCA) Enroll(ctx context.Context, req *scep.Request) (*scep.Result, error) {
	f.mu.Lock()
	issuer := f.issuer
	f.mu.Unlock()
	issued, err := issuer.Issue(ctx, ca.Request{CSR: req.CSR, Template: "ra"})
	if err != nil {
		return nil, err
	}
	return &scep.Result{Status: scep.Success, Certificate: issued.Certificate.Raw}, nil
}

// device speaks to an endpoint whose RA is live. It knows what it learned
// when it asked GetCACert last.
type device struct {
	client  *scepclient.Client
	service *scepclient.Service
	key     int
}

func (w *world) serve(ra *identity.RA) string {
	w.t.Helper()
	h, err := scephttp.New([]scephttp.Endpoint{{
		Name: "corp", Path: "/scep/corp", Enroller: w.ca, RA: ra.Live, Clock: w.clock.Now,
	}}, scephttp.Limits{FailuresPerMinute: -1}, zap.NewNop(), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	s := httptest.NewServer(h)
	w.t.Cleanup(s.Close)
	return s.URL + "/scep/corp"
}

func newDevice(t *testing.T, url string, key int) *device {
	t.Helper()
	quirks, err := scepclient.Platform("linux")
	if err != nil {
		t.Fatal(err)
	}
	d := &device{client: &scepclient.Client{URL: url, Quirks: quirks}, key: key}
	if err := d.discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *device) discover(ctx context.Context) (err error) {
	d.service, err = d.client.Discover(ctx)
	return err
}

// enrol believes only a reply that is signed by a certificate it knows.
func (d *device) enrol(ctx context.Context) error {
	reply, err := d.client.Enroll(ctx, scepclient.EnrollRequest{
		Key: testkeys.RSA2048(d.key), CSR: scepclient.CSR{Subject: pkix.Name{CommonName: "device"}}, Service: d.service,
	})
	if err != nil {
		return err
	}
	if reply.Status != scep.Success {
		return fmt.Errorf("status %v", reply.Status)
	}
	return nil
}

// Devices enrol all the time, some with what they learned before a renewal,
// while the RA is renewed again and again: not one enrolment fails.
func TestRenewalUnderLoadCostsNoEnrolment(t *testing.T) {
	w := newWorld(t)
	ra := w.open(w.config())
	url := w.serve(ra)
	ctx, stop := context.WithCancel(t.Context())
	var done sync.WaitGroup
	var enrolled, stale atomic.Int64
	for i := range 4 {
		d := newDevice(t, url, 4+i)
		done.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				known := ra.Live()
				if err := d.enrol(t.Context()); err != nil {
					t.Errorf("enrolment %d of device %d: %v", n, i, err)
					return
				}
				enrolled.Add(1)
				if !d.service.Recipient.Equal(known.Encryption.Certificate) {
					stale.Add(1)
				}
				if n%5 == i { // now and then it asks GetCACert
					if err := d.discover(t.Context()); err != nil {
						t.Errorf("device %d: %v", i, err)
						return
					}
				}
			}
		})
	}
	first := ra.Live()
	for range 3 {
		before, count := ra.Live(), enrolled.Load()
		w.clock.Add(time.Hour) // the next pair ends later than this one
		if err := ra.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
		if ra.Live() == before {
			t.Fatal("nothing was renewed")
		}
		for enrolled.Load() < count+20 && !t.Failed() {
			time.Sleep(time.Millisecond)
		}
	}
	stop()
	done.Wait()
	if len(first.Previous) != 0 || len(ra.Live().Previous) != 3 {
		t.Errorf("%d older pairs, want 3", len(ra.Live().Previous))
	}
	if stale.Load() == 0 {
		t.Error("no device used an older pair: the test shows nothing")
	}
	t.Logf("%d enrolments, %d of them with an older pair, none failed", enrolled.Load(), stale.Load())
}
