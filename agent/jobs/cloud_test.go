package jobs_test

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/jobs"
	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/agent/journal/sqlite"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/catest"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/retry"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/intune/intunetest"
)

// real is the simulated cloud behind the real client, and an embedded CA.
type real struct {
	*world
	simulator *intunetest.Cloud
	authority *embedded.CA
	client    *intune.Client
}

func newReal(t *testing.T) *real {
	t.Helper()
	w := &world{t: t, path: filepath.Join(t.TempDir(), "journal.db"), owner: "one", polled: jobs.Polled{Kind: journal.RevokeJob, AtMostPerHour: 500}}
	w.log, w.auditTo = zap.NewNop().Core(), zap.NewNop().Core()
	w.tenant = jobs.RevocationTenant{Name: tenant, Reason: ca.CessationOfOperation}
	if err := sqlite.Create(w.path); err != nil {
		t.Fatal(err)
	}
	w.open()
	t.Cleanup(w.close)
	cloud, err := intunetest.New(intunetest.Options{Clock: w.now, Revocation: intunetest.RevocationOptions{CoolDown: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	if err := cloud.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cloud.Close() })
	cfg := cloud.ClientConfig()
	cfg.Log, cfg.Backoff = zap.NewNop(), retry.Schedule{First: time.Millisecond, Most: 5 * time.Millisecond}
	client, err := intune.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	r := &real{world: w, simulator: cloud, client: client, authority: embeddedCA(t, w)}
	w.polled.Source = jobs.NewRevocations(tenant, "", client, zap.NewNop())
	w.revoker = func(c *jobs.RevokerConfig) { c.CAs = []jobs.RevocationCA{{Name: "lab", Authority: r.authority}} }
	return r
}

func embeddedCA(t *testing.T, w *world) *embedded.CA {
	t.Helper()
	sealer, err := secret.NewSealer(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	root := chainOf(t, "Lab CA")[0]
	tmpl := &x509.Certificate{
		SerialNumber: root.SerialNumber, Subject: root.Subject, NotBefore: w.now().Add(-time.Hour), NotAfter: w.now().AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(nil, tmpl, tmpl, testkeys.P256(1).Public(), testkeys.P256(1))
	if err != nil {
		t.Fatal(err)
	}
	if root, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	authority, err := embedded.Open(embedded.Config{Name: "lab", Key: testkeys.P256(1), Chain: []*x509.Certificate{root}, Register: w.journal, Sealer: sealer, Clock: w.now})
	if err != nil {
		t.Fatal(err)
	}
	return authority
}

// issueReal issues a certificate and records it as the enrolment does.
func (r *real) issueReal() string {
	r.t.Helper()
	issued, err := r.authority.Issue(context.Background(), ca.Request{CSR: catest.NewCSR(r.t, catest.CSROptions{Key: testkeys.RSA2048(0)})})
	if err != nil {
		r.t.Fatal(err)
	}
	r.count++
	id := sha256.Sum256(fmt.Append(nil, r.count))
	now, serial := r.now(), serialText(issued.Certificate.SerialNumber)
	_, owned, err := r.journal.Begin(context.Background(), journal.Intent{
		Endpoint: "corp", Tenant: tenant, TransactionID: serial, SignerKey: id, CSRDigest: id, CSRKey: id, CA: "lab",
		Now: now, Lease: time.Minute, GiveUp: now.Add(time.Hour), Submit: true,
	})
	if err == nil {
		_, err = r.journal.Advance(context.Background(), owned, journal.Step{To: journal.Released, Now: now, Certificate: issued.Certificate.Raw, Serial: serial})
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return serial
}

// until lets time pass, two seconds of it in each moment, until something
// holds. A lease of five minutes is three seconds then: whoever takes longer
// does its work twice, with the same result.
func (r *real) until(what string, holds func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("never: %s", what)
		}
		r.jump(2 * time.Second)
	}
}

func (r *real) states() map[string]intunetest.RevocationState {
	m := map[string]intunetest.RevocationState{}
	for _, v := range r.simulator.Revocations() {
		m[v.Context] = v.State
	}
	return m
}

// TestSimulatedCloud runs the real client against the simulated cloud: what is
// revoked there ends in the CRL, whatever else stands in the answer, and a
// cloud that takes nothing for a while is told in the end.
func TestSimulatedCloud(t *testing.T) {
	r := newReal(t)
	var serials []string
	for i := range 12 {
		serial := r.issueReal()
		serials = append(serials, serial)
		if _, err := r.simulator.Inject(intunetest.ContosoID, intunetest.Injection{Context: fmt.Sprint("ours ", i), SerialNumber: serial, Issuer: "lab", Copies: 1 + i%2}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.simulator.Inject(intunetest.ContosoID,
		intunetest.Injection{Context: "foreign", SerialNumber: serials[0], Issuer: "Fabrikam CA"},
		intunetest.Injection{Context: "unknown", SerialNumber: "99", Issuer: "lab"},
		intunetest.Injection{Context: "bad", Raw: json.RawMessage(`{"requestContext":"bad","serialNumber":{}}`)},
	); err != nil {
		t.Fatal(err)
	}
	r.simulator.Fail(intunetest.Upload, 2, intunetest.Fault{Status: http.StatusServiceUnavailable})
	stop := r.start()
	defer stop()
	r.until("all of ours revoked", func() bool {
		states := r.states()
		for i := range 12 {
			if states[fmt.Sprint("ours ", i)] != intunetest.Revoked {
				return false
			}
		}
		return states["unknown"] == intunetest.RevocationFailed
	})
	if states := r.states(); states["foreign"] != intunetest.RevocationDelivered {
		t.Errorf("another connector's request is %s", states["foreign"])
	}
	der, err := r.authority.CRL(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	crl, err := x509.ParseRevocationList(der)
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, e := range crl.RevokedCertificateEntries {
		listed = append(listed, serialText(e.SerialNumber))
		if e.ReasonCode != int(ca.CessationOfOperation) {
			t.Errorf("reason %d", e.ReasonCode)
		}
	}
	slices.Sort(listed)
	slices.Sort(serials)
	if !slices.Equal(listed, serials) {
		t.Errorf("the CRL lists %q, want %q", listed, serials)
	}
	if c := r.simulator.Contradictions(); len(c) > 0 {
		t.Errorf("two fates: %v", c)
	}
}
