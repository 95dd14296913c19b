package jobs_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
)

// crashes is a journal that ends the world at one write: before it, so that
// nothing is recorded, or after it, so that all is recorded and nobody knows.
// From then on it refuses everything, as a dead process does.
type crashes struct {
	journal.Jobs
	at string // as "save 2 after"

	mu    sync.Mutex
	count map[string]int
	dead  bool
}

func (c *crashes) wrap(j journal.Jobs) journal.Jobs {
	c.Jobs, c.count = j, map[string]int{}
	return c
}

func (c *crashes) hit() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead
}

// write does one write unless the world ended.
func (c *crashes) write(name string, do func() error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead {
		return errPower
	}
	c.count[name]++
	step := fmt.Sprintf("%s %d", name, c.count[name])
	if c.at == step+" before" {
		c.dead = true
		return errPower
	}
	err := do()
	if c.at == step+" after" {
		c.dead = true
		return errPower
	}
	return err
}

func (c *crashes) AcceptJobs(ctx context.Context, l journal.Lead, list []journal.NewJob, now time.Time) (b journal.Batch, err error) {
	err = c.write("accept", func() error { b, err = c.Jobs.AcceptJobs(ctx, l, list, now); return err })
	return b, err
}

func (c *crashes) ClaimJobs(ctx context.Context, kind journal.JobKind, now time.Time, lease time.Duration, limit int) ([]journal.Job, error) {
	if c.hit() {
		return nil, errPower
	}
	return c.Jobs.ClaimJobs(ctx, kind, now, lease, limit)
}

func (c *crashes) ClaimReports(ctx context.Context, source string, now time.Time, lease time.Duration, limit int) ([]journal.Job, error) {
	if c.hit() {
		return nil, errPower
	}
	return c.Jobs.ClaimReports(ctx, source, now, lease, limit)
}

func (c *crashes) SaveJob(ctx context.Context, j journal.Job, work []byte) error {
	return c.write("save", func() error { return c.Jobs.SaveJob(ctx, j, work) })
}

func (c *crashes) PostponeJob(ctx context.Context, j journal.Job, at time.Time, why string) error {
	return c.write("postpone", func() error { return c.Jobs.PostponeJob(ctx, j, at, why) })
}

func (c *crashes) FinishJob(ctx context.Context, j journal.Job, r journal.JobResult, now time.Time) error {
	return c.write("finish", func() error { return c.Jobs.FinishJob(ctx, j, r, now) })
}

func (c *crashes) SettleReports(ctx context.Context, list []journal.Job, how journal.DebtOutcome, now time.Time) error {
	return c.write("settle", func() error { return c.Jobs.SettleReports(ctx, list, how, now) })
}

func (c *crashes) AddJob(ctx context.Context, j journal.NewJob, source string, now time.Time) error {
	return c.write("add", func() error { return c.Jobs.AddJob(ctx, j, source, now) })
}

// Whichever write the power fails at, the job ends with one certificate and
// one result.
func TestPowerFailsAtEachWrite(t *testing.T) {
	long(t)
	for _, write := range []string{"accept 1", "save 1", "save 2", "finish 1", "settle 1"} {
		for _, side := range []string{"before", "after"} {
			t.Run(write+" "+side, func(t *testing.T) {
				inOffice(t, func(t *testing.T, o *office) {
					crash := &crashes{at: write + " " + side}
					o.close()
					o.wrap = crash.wrap
					o.open()
					o.add(o.job("one"))
					o.later(time.Minute)
					if !crash.hit() {
						t.Fatal("the power did not fail")
					}
					o.wrap = nil
					o.reopen()
					o.later(settled)
					r := o.queue.Results()["one"]
					if !r.Succeeded || len(o.issued()) != 1 || len(o.queue.Contradictions()) > 0 || o.revoked() != 0 {
						t.Errorf("%+v, %d certificates, %+v", r, len(o.issued()), o.queue.Contradictions())
					}
					o.nothingSecretIsLeft()
				})
			})
		}
	}
}

// The refusal of a result and the revocation that follows from it are not
// torn apart.
func TestPowerFailsAtARefusedResult(t *testing.T) {
	long(t)
	for _, at := range []string{"add 1 before", "add 1 after", "settle 1 before", "settle 1 after"} {
		t.Run(at, func(t *testing.T) {
			inOffice(t, func(t *testing.T, o *office) {
				crash := &crashes{at: at}
				o.close()
				o.wrap = crash.wrap
				o.open()
				o.add(o.job("one"))
				o.queue.Refuse("one")
				o.later(time.Minute)
				if !crash.hit() {
					t.Fatal("the power did not fail")
				}
				o.wrap = nil
				o.reopen()
				o.later(settled)
				if len(o.issued()) != 1 || o.revoked() != 1 {
					t.Errorf("%d certificates, %d revoked", len(o.issued()), o.revoked())
				}
			})
		})
	}
}

// A CA that is down for a day delays; the job is not refused.
func TestCAIsDownForADay(t *testing.T) {
	long(t)
	inOffice(t, func(t *testing.T, o *office) {
		o.close()
		down := &downCA{}
		o.issuing = func(a ca.Authority) ca.Authority { down.Authority = a; return down }
		o.open()
		down.set(true)
		o.add(o.job("one"))
		o.later(aDay())
		if len(o.queue.Results()) > 0 || len(o.issued()) > 0 {
			t.Fatalf("%+v", o.queue.Results())
		}
		o.reopen()
		down.set(false)
		o.later(settled)
		if r := o.queue.Results()["one"]; !r.Succeeded || len(o.issued()) != 1 {
			t.Errorf("%+v, %d certificates", r, len(o.issued()))
		}
	})
}

// aDay is shorter where every second of it costs ten times as much.
func aDay() time.Duration {
	if testing.Short() {
		return 2 * time.Hour
	}
	return 24 * time.Hour
}

type downCA struct {
	ca.Authority
	mu   sync.Mutex
	down bool
}

func (d *downCA) set(down bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = down
}

func (d *downCA) Issue(ctx context.Context, req ca.Request) (*ca.Issued, error) {
	d.mu.Lock()
	down := d.down
	d.mu.Unlock()
	if down {
		return nil, ca.ErrUnavailable
	}
	return d.Authority.Issue(ctx, req)
}

// revoked counts the certificates of our entries that the CA has revoked.
func (o *office) revoked() int {
	o.t.Helper()
	n := 0
	for serial := range o.issued() {
		if o.isRevoked(serial) {
			n++
		}
	}
	return n
}

func (o *office) isRevoked(serial string) bool {
	o.t.Helper()
	der, err := o.ca.CRL(o.t.Context())
	if err != nil {
		o.t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		o.t.Fatal(err)
	}
	return slices.ContainsFunc(list.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool { return serialText(e.SerialNumber) == serial })
}

func checkKeyFits(t *testing.T, key any, cert *x509.Certificate) {
	t.Helper()
	signer, ok := key.(crypto.Signer)
	if !ok {
		t.Fatalf("the key is %T", key)
	}
	public, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(public, cert.RawSubjectPublicKeyInfo) {
		t.Error("the key is not the certificate's")
	}
}

func checkNames(t *testing.T, cert *x509.Certificate) {
	t.Helper()
	name, err := pkcs10.ParseName(cert.RawSubject)
	if err != nil {
		t.Fatal(err)
	}
	if got := pkcs10.FormatName(name); got != "CN=laptop.corp.example,O=Corp,DC=corp" {
		t.Errorf("subject %s", got)
	}
	life := cert.NotAfter.Sub(cert.NotBefore)
	if strings.Join(cert.DNSNames, " ") != "laptop.corp.example" || strings.Join(cert.EmailAddresses, " ") != "ann@corp.example" ||
		len(cert.IPAddresses) != 1 || cert.IPAddresses[0].String() != "10.1.2.3" || len(cert.ExtKeyUsage) != 2 ||
		cert.KeyUsage != x509.KeyUsageDigitalSignature|x509.KeyUsageKeyAgreement || life < 19*24*time.Hour || life > 21*24*time.Hour {
		t.Errorf("certificate: %v %v %v, usages %v %v, life %v", cert.DNSNames, cert.EmailAddresses, cert.IPAddresses, cert.KeyUsage, cert.ExtKeyUsage, life)
	}
	for _, e := range cert.Extensions {
		if e.Id.String() == "2.5.29.17" {
			names, err := pkcs10.ParseAltNames(e.Value)
			if err != nil || len(names.UPN) != 1 || names.UPN[0] != "änn@corp.example" {
				t.Errorf("user principal name %q, %v", names.UPN, err)
			}
		}
	}
}

// deviceRequest is what a device with a good name would send.
func deviceRequest(t *testing.T, name string) *scep.Request {
	t.Helper()
	key := testkeys.RSA2048(3)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pkcs10.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	return &scep.Request{MessageType: scep.PKCSReq, TransactionID: "device", CSR: csr, Signer: &scep.Signer{
		Raw: []byte{1}, RawSubjectPublicKeyInfo: csr.RawSubjectPublicKeyInfo, PublicKey: csr.PublicKey, SelfIssued: true,
	}}
}
