package enroll_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/certconnector/certconnector/agent/enroll"
	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/agent/journal/sqlite"
	"github.com/certconnector/certconnector/agent/outbox"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/scep"
)

// world is a registration authority with a real journal and outbox, between
// a cloud and a CA that misbehave on demand. Restart leaves cloud and CA as
// they are and opens the journal again.
type world struct {
	t        *testing.T
	path     string
	cloud    *cloud
	ca       ca.Authority
	core     *fakeCA
	sealer   *secret.Sealer
	config   enroll.EndpointConfig
	endpoint *enroll.Endpoint
	reg      *enroll.Registration
	journal  *sqlite.Journal
	audit    *observer.ObservedLogs
	log      *observer.ObservedLogs
	setup    func(*enroll.Config) // nil: as it comes
	stop     func()
}

// inWorld runs a test in a bubble where waiting costs no time.
func inWorld(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		sealer, err := secret.NewSealer(bytes.Repeat([]byte{7}, 32))
		if err != nil {
			t.Fatal(err)
		}
		core := newFakeCA(t)
		w := &world{t: t, path: filepath.Join(t.TempDir(), "journal.db"), cloud: &cloud{sealer: sealer}, core: core, ca: core, sealer: sealer}
		if err := sqlite.Create(w.path); err != nil {
			t.Fatal(err)
		}
		w.start()
		defer func() { w.stop() }()
		test(t, w)
	})
}

func (w *world) start() {
	w.t.Helper()
	j, err := sqlite.Open(w.path, sqlite.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	core, logs := observer.New(zapcore.DebugLevel)
	audit := zap.New(core)
	operation, operations := observer.New(zapcore.DebugLevel)
	var reg *enroll.Registration
	out := outbox.New(outbox.Config{
		Journal: j, Sealer: w.sealer, Log: zap.NewNop(), Audit: audit,
		Modules: map[string]policymodule.Module{"corp": w.cloud, enroll.ReportedName("ndes", "contoso"): w.cloud}, CAs: map[string]ca.Authority{"issuing": w.ca},
		Changed: func(e journal.Entry) { reg.Published(e) },
	})
	config := enroll.Config{Journal: j, Teller: out, Sealer: w.sealer, Log: zap.New(operation), Audit: audit}
	if w.setup != nil {
		w.setup(&config)
	}
	reg = enroll.New(config)
	cfg := w.config
	cfg.Name, cfg.Tenant, cfg.Module, cfg.CA, cfg.CAName = "corp", "contoso", w.cloud, w.ca, "issuing"
	p, err := reg.Add(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := reg.AddFrontEnd("ndes", "contoso", "issuing", w.cloud); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var workers sync.WaitGroup
	workers.Go(func() { _ = out.Run(ctx) })
	workers.Go(func() { _ = reg.Settle(ctx) })
	w.endpoint, w.reg, w.journal, w.audit, w.log = p, reg, j, logs, operations
	w.stop = func() {
		cancel()
		closing, done := context.WithTimeout(context.Background(), time.Minute)
		defer done()
		if err := reg.Close(closing); err != nil {
			w.t.Error(err)
		}
		workers.Wait()
		if err := j.Close(); err != nil {
			w.t.Error(err)
		}
	}
}

func (w *world) restart() {
	w.t.Helper()
	w.stop()
	w.start()
}

// dieIn stops the registration authority and leaves the only entry, whose
// outcome is unknown, in a state as a process leaves it that is killed there.
func (w *world) dieIn(state journal.State, st journal.Step) {
	w.t.Helper()
	w.stop()
	j, err := sqlite.Open(w.path, sqlite.Options{})
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() {
		if err := j.Close(); err != nil {
			w.t.Error(err)
		}
	}()
	w.journal = j
	now := time.Now()
	c, err := j.ClaimEntry(w.t.Context(), w.entries(1)[0].ID, now, 3*time.Minute)
	if err != nil {
		w.t.Fatal(err)
	}
	st.To, st.Now, st.NextAt, st.SubmittedAt = state, now, now.Add(3*time.Minute), now
	if _, err := j.Advance(w.t.Context(), c.Owned, st); err != nil {
		w.t.Fatal(err)
	}
}

// device is a key pair that asks for names with a challenge.
type device struct {
	key         *rsa.PrivateKey
	cn          string
	challenge   string
	transaction string
	extra       []pkix.Extension
	signer      *x509.Certificate // a certificate to renew; nil: self-signed
}

func newDevice(i int, challenge string) device {
	return device{key: testkeys.RSA2048(i), cn: fmt.Sprintf("device %d", i), challenge: challenge, transaction: fmt.Sprintf("T%d", i)}
}

// request builds what package scep would hand on.
func (d device) request(t *testing.T, kind scep.MessageType) *scep.Request {
	t.Helper()
	req := &scep.Request{MessageType: kind, TransactionID: d.transaction, Signer: d.signerCertificate(t)}
	if kind == scep.CertPoll {
		return req
	}
	csr, err := pkcs10.Parse(d.csr(t))
	if err != nil {
		t.Fatal(err)
	}
	req.CSR = csr
	return req
}

func (d device) csr(t *testing.T) []byte {
	t.Helper()
	tmpl := &x509.CertificateRequest{Subject: pkix.Name{CommonName: d.cn}, DNSNames: []string{"device.example.test"}, ExtraExtensions: d.extra}
	if d.challenge != "" {
		// x509 writes no attributes but these, whose values it wraps in a way
		// that a challenge does not have; pkcs10's own tests cover its shape.
		return withChallenge(t, tmpl, d.key, d.challenge)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, tmpl, d.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// withChallenge adds a challengePassword attribute and signs anew.
func withChallenge(t *testing.T, tmpl *x509.CertificateRequest, key *rsa.PrivateKey, challenge string) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, tmpl, key)
	if err != nil {
		t.Fatal(err)
	}
	var outer struct {
		Info struct {
			Version    int
			Subject    asn1.RawValue
			Key        asn1.RawValue
			Attributes []asn1.RawValue `asn1:"tag:0,set"`
		}
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		t.Fatal(err)
	}
	attribute, err := asn1.Marshal(struct {
		ID     asn1.ObjectIdentifier
		Values []string `asn1:"set"`
	}{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}, []string{challenge}})
	if err != nil {
		t.Fatal(err)
	}
	outer.Info.Attributes = append(outer.Info.Attributes, asn1.RawValue{FullBytes: attribute})
	tbs, err := asn1.Marshal(outer.Info)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(tbs)
	sig, err := rsa.SignPKCS1v15(nil, key, 5, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	out, err := asn1.Marshal(struct {
		Info      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, outer.Algorithm, asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (d device) signerCertificate(t *testing.T) *scep.Signer {
	t.Helper()
	cert := d.signer
	if cert == nil {
		serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
		tmpl := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "signer"}, NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, d.key.Public(), d.key)
		if err != nil {
			t.Fatal(err)
		}
		if cert, err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
	}
	return &scep.Signer{
		Raw: cert.Raw, RawIssuer: cert.RawIssuer, RawSubject: cert.RawSubject, RawSubjectPublicKeyInfo: cert.RawSubjectPublicKeyInfo,
		Serial: cert.SerialNumber, PublicKey: cert.PublicKey, SelfIssued: bytes.Equal(cert.RawIssuer, cert.RawSubject),
	}
}

// ask sends a PKCSReq and wants an answer, not an error.
func (w *world) ask(d device) *scep.Result { return w.send(d.request(w.t, scep.PKCSReq)) }

func (w *world) send(req *scep.Request) *scep.Result {
	w.t.Helper()
	res, err := w.endpoint.Enroll(w.t.Context(), req)
	if err != nil {
		w.t.Fatalf("Enroll: %v", err)
	}
	return res
}

func (w *world) want(res *scep.Result, status scep.Status) *scep.Result {
	w.t.Helper()
	if res.Status != status {
		w.t.Fatalf("device got %v (%v, %q), want %v", res.Status, res.FailInfo, res.FailText, status)
	}
	if (res.Certificate != nil) != (status == scep.Success) {
		w.t.Fatalf("certificate present: %v, status %v", res.Certificate != nil, status)
	}
	return res
}

func (w *world) wantFailure(res *scep.Result, info scep.FailInfo) {
	w.t.Helper()
	if w.want(res, scep.Failure); res.FailInfo != info {
		w.t.Fatalf("failInfo %v (%q), want %v", res.FailInfo, res.FailText, info)
	}
}

// later lets time pass and the workers settle.
func (w *world) later(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// entries lists the journal, which must hold n entries.
func (w *world) entries(n int) []journal.Entry {
	w.t.Helper()
	es, err := w.journal.List(w.t.Context(), journal.Query{})
	if err != nil {
		w.t.Fatal(err)
	}
	if len(es) != n {
		w.t.Fatalf("journal has %d entries, want %d", len(es), n)
	}
	return es
}

// cloud is a policy module with state: it grants challenges that begin with
// "good", and can be down, deaf or set against a notification.
type cloud struct {
	sealer *secret.Sealer

	mu      sync.Mutex
	down    bool          // cannot be asked
	deaf    bool          // answers 500 to notifications
	slow    time.Duration // before it takes a notification
	against bool          // refuses notifications for good
	maxLife time.Duration
	// indifferent: it vouches, but remembers no challenge and wants no news
	indifferent bool
	vouches     bool      // for the names, even for a SID
	made        time.Time // when its challenges were made; zero: it cannot tell
	broken      bool      // panics
	strict      bool      // refuses every challenge
	uninformed  bool      // its challenges are spent, and it wants no news
	asked       int
	successes   []policymodule.Outcome
	failures    []policymodule.Outcome
	before      func() // runs while a question is being answered
}

func (c *cloud) set(change func(*cloud)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(c)
}

func (c *cloud) Verify(_ context.Context, req policymodule.Request) (policymodule.Decision, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	if c.before != nil {
		c.before()
	}
	challenge := req.CSR.ChallengePassword
	switch {
	case c.broken:
		panic("a bug in the module")
	case c.down:
		return policymodule.Decision{}, errors.New("cloud is down")
	case req.Renewal != nil:
		return policymodule.Decision{Granted: true, Notify: true}, nil
	case c.strict, !bytes.HasPrefix([]byte(challenge.Reveal()), []byte("good")):
		return policymodule.Refuse("challenge_wrong", policymodule.BadRequest, "wrong challenge"), nil
	}
	if c.indifferent {
		return policymodule.Decision{Granted: true, VouchedNames: c.vouches}, nil
	}
	return policymodule.Decision{
		Granted: true, Notify: !c.uninformed, ChallengeID: c.sealer.ChallengeID("contoso", challenge), MaxValidity: c.maxLife,
		VouchedNames: c.vouches, ChallengeMade: c.made,
	}, nil
}

func (c *cloud) Notify(_ context.Context, o policymodule.Outcome) error {
	c.mu.Lock()
	slow := c.slow
	c.mu.Unlock()
	time.Sleep(slow)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.deaf:
		return errors.New("cloud answers 500")
	case c.against:
		return fmt.Errorf("code Unknown: %w", policymodule.ErrNotifyRefused)
	case o.Certificate != nil:
		c.successes = append(c.successes, o)
	default:
		c.failures = append(c.failures, o)
	}
	return nil
}

// told wants exact numbers of accepted notifications.
func (w *world) told(successes, failures int) {
	w.t.Helper()
	w.cloud.mu.Lock()
	defer w.cloud.mu.Unlock()
	if len(w.cloud.successes) != successes || len(w.cloud.failures) != failures {
		w.t.Fatalf("cloud took %d successes and %d failures, want %d and %d",
			len(w.cloud.successes), len(w.cloud.failures), successes, failures)
	}
}
