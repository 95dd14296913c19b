package device

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// Device speaks to one SCEP endpoint as one platform does.
type Device struct {
	client scepclient.Client
}

// Options describe a device.
type Options struct {
	URL      string       // of the endpoint, without query
	Platform string       // windows, ios, macos, android or linux
	HTTP     *http.Client // nil: one with a timeout of a minute

	// Hurry divides the platform's waiting times: 60 makes the five minutes of
	// Windows five seconds. 0 counts as 1.
	Hurry float64
}

// New returns a device.
func New(o Options) (*Device, error) {
	quirks, err := scepclient.Platform(o.Platform)
	if err != nil {
		return nil, err
	}
	if o.Hurry < 0 {
		return nil, fmt.Errorf("hurry is %v, want a factor such as 60", o.Hurry)
	}
	return &Device{client: scepclient.Client{
		URL: o.URL, HTTP: o.HTTP, Quirks: quirks, DelayScale: 1 / cmp.Or(o.Hurry, 1),
	}}, nil
}

// Order is what to enrol for.
type Order struct {
	Profile Profile
	Key     *rsa.PrivateKey // nil: a new one, as devices do
	Renew   *Holding        // what to renew; nil: a first enrolment

	TransactionID string // "": in the platform's form
}

// Holding is what a device has after an enrolment.
type Holding struct {
	Key         *rsa.PrivateKey
	Certificate *x509.Certificate
	Chain       []*x509.Certificate // of the CA, as GetCACert named it
}

// Attempt is an enrolment under way.
type Attempt struct {
	device      *Device
	transaction *scepclient.Transaction

	Key   *rsa.PrivateKey
	Reply *scepclient.Reply // the last one
	Polls int
}

// Prepare asks what the endpoint can do and makes the request.
func (d *Device) Prepare(ctx context.Context, o Order) (*Attempt, error) {
	request := scepclient.EnrollRequest{Key: o.Key, TransactionID: o.TransactionID}
	var err error
	if request.CSR, err = o.Profile.CSR(); err != nil {
		return nil, err
	}
	if request.Key == nil {
		if request.Key, err = rsa.GenerateKey(rand.Reader, cmp.Or(o.Profile.KeySize, 2048)); err != nil {
			return nil, fmt.Errorf("making the device's key: %w", err)
		}
	}
	if o.Renew != nil {
		request.Renew = &scepclient.Identity{Certificate: o.Renew.Certificate.Raw, Key: o.Renew.Key}
		if o.Profile.Subject == "" {
			request.CSR.RawSubject = o.Renew.Certificate.RawSubject
		}
	}
	t, err := d.client.Prepare(ctx, request)
	if err != nil {
		return nil, err
	}
	return &Attempt{device: d, transaction: t, Key: request.Key}, nil
}

// TransactionID is what both sides call the attempt.
func (a *Attempt) TransactionID() string { return a.transaction.Message.TransactionID }

// Send sends the request. It may be called again: the same message.
func (a *Attempt) Send(ctx context.Context) error {
	r, err := a.device.client.Send(ctx, a.transaction.Message)
	return a.take(r, err)
}

// Poll asks what became of the request, in the platform's way.
func (a *Attempt) Poll(ctx context.Context) error {
	a.Polls++
	r, err := a.device.client.Poll(ctx, a.transaction)
	return a.take(r, err)
}

// take keeps a reply. A certificate in it must be for our key, and from a CA
// that GetCACert named.
func (a *Attempt) take(r *scepclient.Reply, err error) error {
	if r != nil {
		a.Reply = r
	}
	if err != nil || r.Status != scep.Success {
		return err
	}
	if !a.Key.PublicKey.Equal(r.Certificate.PublicKey) {
		return errors.New("the certificate of the reply is not for the key of the request")
	}
	for _, issuer := range a.transaction.Service.Certificates {
		if string(issuer.RawSubject) == string(r.Certificate.RawIssuer) && r.Certificate.CheckSignatureFrom(issuer) == nil {
			return nil
		}
	}
	return errors.New("the certificate of the reply is not signed by a CA that GetCACert names")
}

// Status is that of the last reply.
func (a *Attempt) Status() scep.Status { return a.Reply.Status }

// Issued is what the device has once the status is SUCCESS, else nil.
func (a *Attempt) Issued() *Holding {
	if a.Reply == nil || a.Reply.Certificate == nil {
		return nil
	}
	h := &Holding{Key: a.Key, Certificate: a.Reply.Certificate}
	for _, c := range a.transaction.Service.Certificates {
		if c.IsCA {
			h.Chain = append(h.Chain, c)
		}
	}
	return h
}

// Enroll goes all the way: it sends the request and polls while the answer is
// PENDING and the platform's patience lasts. told hears of every answer; it
// may be nil. A refusal and a last PENDING are in the attempt, no error.
func (d *Device) Enroll(ctx context.Context, o Order, told func(*Attempt)) (*Attempt, error) {
	if told == nil {
		told = func(*Attempt) {}
	}
	a, err := d.Prepare(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := a.Send(ctx); err != nil {
		return a, err
	}
	told(a)
	q := d.client.Quirks
	for a.Status() == scep.Pending && a.Polls < q.Retries {
		if a.Polls > 0 || !q.FirstRetryAtOnce {
			if err := d.wait(ctx); err != nil {
				return a, err
			}
		}
		if err := a.Poll(ctx); err != nil {
			return a, err
		}
		told(a)
	}
	return a, nil
}

func (d *Device) wait(ctx context.Context) error {
	timer := time.NewTimer(time.Duration(float64(d.client.Quirks.RetryDelay) * d.client.DelayScale))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// EncryptedTo is the certificate that the request is encrypted to: one of
// those that GetCACert named when the attempt was prepared.
func (a *Attempt) EncryptedTo() *x509.Certificate { return a.transaction.Service.Recipient }

// List asks for the CRL with a certificate that the device holds.
func (d *Device) List(ctx context.Context, by *Holding) (*x509.RevocationList, error) {
	r, err := d.client.GetCRL(ctx, scepclient.Identity{Certificate: by.Certificate.Raw, Key: by.Key}, by.Certificate)
	if err != nil {
		return nil, err
	}
	if r.Status != scep.Success {
		return nil, fmt.Errorf("GetCRL was answered with %v %v", r.Status, r.FailInfo)
	}
	return r.CRL, nil
}
