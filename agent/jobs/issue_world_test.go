package jobs_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/certconnector/certconnector/agent/enroll"
	"github.com/certconnector/certconnector/agent/jobs"
	"github.com/certconnector/certconnector/agent/jobs/jobqueue"
	"github.com/certconnector/certconnector/agent/jobs/jobqueuetest"
	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/agent/journal/sqlite"
	"github.com/certconnector/certconnector/agent/outbox"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/policymodule"
)

// office is everything that an issuance job passes, none of it faked but the
// network: the simulated queue behind mutual TLS, the poller, a journal on
// disk, the registration authority, and a CA in the process. Reopen closes and
// opens all of it but the queue.
type office struct {
	t         *testing.T
	path      string
	queue     *jobqueuetest.Queue
	pipes     *pipes
	clientTLS *tls.Certificate
	roots     *x509.CertPool
	sealer    *secret.Sealer
	root      *x509.Certificate
	rootKey   crypto.Signer
	recipient *x509.Certificate
	logs      *observer.ObservedLogs
	core      zapcore.Core

	rules    jobs.IssueRules
	profiles []embedded.Profile
	sinks    func() []jobs.Sink
	wrap     func(journal.Jobs) journal.Jobs // breaks the journal; nil: whole
	issuing  func(ca.Authority) ca.Authority // stands before the CA; nil: nothing
	pins     []*x509.Certificate

	journal  *sqlite.Journal
	ca       *embedded.CA
	endpoint *enroll.Endpoint
	running  *jobs.Jobs
	stop     func()
}

const queueName = "mail"

// settled is when everything has been tried again: leases of queue and journal
// have ended, and the queue was asked since.
const settled = 20 * time.Minute

func inOffice(t *testing.T, test func(t *testing.T, o *office)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		defer func() {
			o.close()
			o.pipes.shut()
		}()
		test(t, o)
	})
}

func newOffice(t *testing.T) *office {
	o := &office{
		t: t, path: filepath.Join(t.TempDir(), "journal.db"), rootKey: testkeys.P256(0), pipes: newPipes(),
		rules: jobs.IssueRules{
			Subject: []string{"CN=*.corp.example", "O=Corp", "DC=*", "emailAddress=*@corp.example"}, SANs: []string{"dns:*.corp.example", "email:*@corp.example", "upn:*@corp.example", "ip:10.0.0.0/8"},
			ExtKeyUsages: []string{"clientAuth", "emailProtection"}, KeyTypes: []string{"rsa2048", "p256", "p384"}, MaxValidity: 100 * 24 * time.Hour,
		},
		profiles: []embedded.Profile{{Name: "job", ExtKeyUsages: oids("1.3.6.1.5.5.7.3.2", "1.3.6.1.5.5.7.3.4"), KeyUsages: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement}},
	}
	o.core, o.logs = observer.New(zapcore.DebugLevel)
	var err error
	if o.sealer, err = secret.NewSealer(bytes.Repeat([]byte{9}, 32)); err != nil {
		t.Fatal(err)
	}
	year := 365 * 24 * time.Hour
	o.root = o.certificate("Job CA", o.rootKey, 30*year, func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign|x509.KeyUsageDigitalSignature
	})
	o.recipient = o.certificate("Recipient", testkeys.RSA2048(5), 2*year, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment })
	o.pins = []*x509.Certificate{o.recipient}
	client := o.certificate("connector", testkeys.RSA2048(1), 2*year, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })
	o.clientTLS = &tls.Certificate{Certificate: [][]byte{client.Raw}, PrivateKey: testkeys.RSA2048(1), Leaf: client}
	server := o.certificate("queue", testkeys.RSA2048(2), 2*year, func(c *x509.Certificate) { c.DNSNames = []string{"queue.corp.example"} })
	o.roots = x509.NewCertPool()
	o.roots.AddCert(server)
	if o.queue, err = jobqueuetest.New(jobqueuetest.Options{CoolDown: 4 * time.Minute, Lease: 5 * time.Minute}); err != nil {
		t.Fatal(err)
	}
	o.queue.Allow(client)
	o.pipes.serve(o.queue, jobqueuetest.TLSConfig(tls.Certificate{Certificate: [][]byte{server.Raw}, PrivateKey: testkeys.RSA2048(2)}))
	o.sinks = func() []jobs.Sink {
		s, err := jobs.NewSealed(o.pins, nil)
		if err != nil {
			t.Fatal(err)
		}
		return []jobs.Sink{s}
	}
	if err := sqlite.Create(o.path); err != nil {
		t.Fatal(err)
	}
	o.open()
	return o
}

func (o *office) certificate(name string, key crypto.Signer, life time.Duration, change func(*x509.Certificate)) *x509.Certificate {
	o.t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<60))
	if err != nil {
		o.t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life)}
	change(tmpl)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		o.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		o.t.Fatal(err)
	}
	return cert
}

// open builds the connector's half, as the agent does.
func (o *office) open() {
	o.t.Helper()
	must := func(err error) {
		o.t.Helper()
		if err != nil {
			o.t.Fatal(err)
		}
	}
	log := zap.New(o.core)
	j, err := sqlite.Open(o.path, sqlite.Options{})
	must(err)
	o.journal = j
	o.ca, err = embedded.Open(embedded.Config{Name: "issuing", Key: o.rootKey, Chain: []*x509.Certificate{o.root}, Register: j, Sealer: o.sealer, Profiles: o.profiles})
	must(err)
	var authority ca.Authority = o.ca
	if o.issuing != nil {
		authority = o.issuing(authority)
	}
	policy, err := jobs.NewIssuePolicy(o.rules)
	must(err)
	name := jobs.QueueName(queueName)
	var reg *enroll.Registration
	out := outbox.New(outbox.Config{
		Journal: j, Sealer: o.sealer, Log: log, Audit: log, Modules: map[string]policymodule.Module{name: policy},
		CAs: map[string]ca.Authority{"issuing": authority}, Changed: func(e journal.Entry) { reg.Published(e) },
	})
	reg = enroll.New(enroll.Config{Journal: j, Teller: out, Sealer: o.sealer, Log: log, Audit: log})
	o.endpoint, err = reg.Add(enroll.EndpointConfig{
		Name: name, Tenant: name, Module: policy, CA: authority, CAName: "issuing", Templates: enroll.Templates{Signature: "job", Encryption: "job", General: "job"},
		Rules:        enroll.Rules{Names: policy.Names(), ExtKeyUsages: policy.ExtKeyUsages(), ECDSA: true},
		ReplayWindow: jobs.IssueReplayWindow, WithholdFor: jobs.IssueWithholdFor, SameStore: o.issuing == nil,
	})
	must(err)
	client, err := jobqueue.New(jobqueue.Config{
		URL: "https://queue.corp.example", RootCAs: o.roots, Dial: o.pipes.dial, Certificate: func() (*tls.Certificate, error) { return o.clientTLS, nil },
	})
	must(err)
	var durable journal.Jobs = j
	if o.wrap != nil {
		durable = o.wrap(j)
	}
	revoke := jobs.Withdrawing(jobs.RevokeByJob(durable, queueName, nil), o.sinks(), log)
	source, err := jobs.NewQueue(jobs.QueueConfig{Name: queueName, Queue: client, Revoke: revoke, Log: log})
	must(err)
	issuer, err := jobs.NewIssuer(jobs.IssueConfig{
		Source: source.Name(), Policy: policy, Enroller: o.endpoint, CAName: "issuing", Chain: o.ca.Chain, Sinks: o.sinks(),
		Sealer: o.sealer, Revoke: revoke, Log: log, Audit: log,
	})
	must(err)
	revoker := jobs.NewRevoker(jobs.RevokerConfig{
		Entries: j, Imported: j, CAs: []jobs.RevocationCA{{Name: "issuing", Authority: authority}}, Log: log, Audit: log,
	})
	o.running, err = jobs.New(jobs.Config{
		Journal: durable, Owner: "one", Log: log, Audit: log, Sources: []jobs.Polled{{Source: source, Kind: journal.IssueJob, Interval: 6 * time.Minute}},
		Work: map[journal.JobKind]jobs.Work{journal.IssueJob: {Handler: jobs.Issuers{issuer}}, journal.RevokeJob: {Handler: revoker}},
	})
	must(err)
	o.runAll(reg, out, client)
}

func (o *office) runAll(reg *enroll.Registration, out *outbox.Outbox, client *jobqueue.Client) {
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	for _, run := range []func(context.Context) error{out.Run, reg.Settle, o.running.Run} {
		parts.Go(func() {
			if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				o.t.Error(err)
			}
		})
	}
	o.stop = func() {
		cancel()
		reg.AnswerNow()
		parts.Wait()
		closing, done := context.WithTimeout(context.Background(), time.Minute)
		defer done()
		if err := reg.Close(closing); err != nil {
			o.t.Error(err)
		}
		client.Reconnect()
	}
}

func (o *office) close() {
	o.t.Helper()
	o.stop()
	if err := o.journal.Close(); err != nil {
		o.t.Error(err)
	}
}

// reopen is a restart.
func (o *office) reopen() {
	o.t.Helper()
	o.close()
	o.open()
}

func (o *office) later(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// until lets time pass until something is so, a day at the most, and then as
// long as anything else may come of it: the longest rest is the exception, and
// simulated hours cost minutes under the race detector.
func (o *office) until(so func() bool) {
	o.t.Helper()
	for range 24 * 12 {
		if so() {
			o.later(settled)
			return
		}
		o.later(5 * time.Minute)
	}
	o.t.Fatal("it did not come to be within a day")
}

// job is one that may be done.
func (o *office) job(context string) jobqueuetest.Job {
	return jobqueuetest.Job{
		RequestContext: context, Subject: "CN=" + context + ".corp.example,O=Corp", SANs: []string{"dns:" + context + ".corp.example"},
		KeyUsage: []string{"digitalSignature"}, EKUs: []string{"clientAuth"}, Key: &jobqueuetest.KeyType{Type: "p256"}, Recipient: hexDigest(o.recipient),
	}
}

func (o *office) add(list ...jobqueuetest.Job) {
	o.t.Helper()
	if err := o.queue.Add(list...); err != nil {
		o.t.Fatal(err)
	}
}

// issued are the serial numbers of all entries that got a certificate.
func (o *office) issued() map[string]journal.State {
	o.t.Helper()
	entries, err := o.journal.List(o.t.Context(), journal.Query{})
	if err != nil {
		o.t.Fatal(err)
	}
	all := map[string]journal.State{}
	for _, e := range entries {
		if e.Serial != "" {
			all[e.Serial] = e.State
		}
	}
	return all
}

// pipes is a network inside the bubble.
type pipes struct {
	incoming chan net.Conn
	closed   chan struct{}
	once     sync.Once
	server   *http.Server
	done     chan struct{}
	mu       sync.Mutex
	down     bool
	open     []net.Conn
}

// drop breaks the connections that are there.
func (p *pipes) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.open {
		_ = c.Close()
	}
	p.open = nil
}

func newPipes() *pipes {
	return &pipes{incoming: make(chan net.Conn), closed: make(chan struct{}), done: make(chan struct{})}
}

func (p *pipes) serve(h http.Handler, config *tls.Config) {
	p.server = &http.Server{Handler: h, TLSConfig: config, ErrorLog: log.New(io.Discard, "", 0)}
	go func() {
		defer close(p.done)
		_ = p.server.ServeTLS(p, "", "")
	}()
}

func (p *pipes) shut() {
	_ = p.server.Close()
	<-p.done
}

// cut makes the queue unreachable, or reachable again.
func (p *pipes) cut(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	p.mu.Lock()
	down := p.down
	p.mu.Unlock()
	if down {
		return nil, &net.OpError{Op: "dial", Net: "pipe", Err: errors.New("nobody there")}
	}
	ours, theirs := net.Pipe()
	select {
	case p.incoming <- theirs:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.open = append(p.open, theirs)
		return ours, nil
	case <-p.closed:
	case <-ctx.Done():
	}
	return nil, &net.OpError{Op: "dial", Net: "pipe", Err: errors.New("nobody there")}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.incoming:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }
