package onetime_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/agent/journal/sqlite"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/policymodule/onetime"
)

const endpoint = "jamf"

// at is a clock that a test sets.
type at struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *at { return &at{now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)} }

func (a *at) Now() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.now
}

func (a *at) Pass(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now = a.now.Add(d)
}

// cuttable is a ledger that can be out of reach.
type cuttable struct {
	policymodule.Ledger
	cut bool
}

func (c *cuttable) FindChallenge(ctx context.Context, endpoint, id string) (policymodule.Challenge, error) {
	if c.cut {
		return policymodule.Challenge{}, context.DeadlineExceeded
	}
	return c.Ledger.FindChallenge(ctx, endpoint, id)
}

func (c *cuttable) AddChallenge(ctx context.Context, ch policymodule.Challenge, q policymodule.Quota) error {
	if c.cut {
		return context.DeadlineExceeded
	}
	return c.Ledger.AddChallenge(ctx, ch, q)
}

func sealer(t testing.TB) *secret.Sealer {
	t.Helper()
	s, err := secret.NewSealer(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// openJournal opens a journal file, a new one where it is missing.
func openJournal(t testing.TB, path string, clock *at) *sqlite.Journal {
	t.Helper()
	j, err := sqlite.Open(path, sqlite.Options{Clock: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() }) // a second time after a test that restarts
	return j
}

func newJournal(t testing.TB, clock *at) *sqlite.Journal {
	t.Helper()
	path := filepath.Join(t.TempDir(), "journal.db")
	if err := sqlite.Create(path); err != nil {
		t.Fatal(err)
	}
	return openJournal(t, path, clock)
}

var (
	clientAuth = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
	smartCard  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 2}
)

// phones may have CN=phone… and its DNS name, for client authentication.
func phones(t testing.TB) policymodule.Rights {
	t.Helper()
	names, err := policymodule.ParseNames([]string{"CN=phone*"}, []string{"dns:phone*.corp.example"})
	if err != nil {
		t.Fatal(err)
	}
	return policymodule.Rights{Names: names, ExtKeyUsages: []asn1.ObjectIdentifier{clientAuth}}
}

// config is what most tests change little of: two principals at one endpoint.
func config(t testing.TB, ledger policymodule.Ledger, clock *at) onetime.Config {
	t.Helper()
	return onetime.Config{
		Endpoint: endpoint, Ledger: ledger, Sealer: sealer(t), Clock: clock.Now,
		Rights: map[string]policymodule.Rights{"jamf": phones(t), "ivanti": phones(t)},
	}
}

func module(t testing.TB, c onetime.Config) *onetime.Module {
	t.Helper()
	m, err := onetime.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// principal is one that has a right at these endpoints.
func principal(name string, endpoints ...string) policymodule.Principal {
	p := policymodule.Principal{Name: name, Rights: map[string]policymodule.Rights{}}
	for _, e := range endpoints {
		p.Rights[e] = policymodule.Rights{}
	}
	return p
}

func generate(t testing.TB, m *onetime.Module) policymodule.MadeChallenge {
	t.Helper()
	made, err := m.GenerateChallenge(context.Background(), principal("jamf", endpoint), policymodule.ChallengeWish{})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// request is one of phone 7 with a challenge.
func request(id string, challenge secret.Text) policymodule.Request {
	return policymodule.Request{
		Endpoint: endpoint, TransactionID: id,
		CSR: &pkcs10.Request{
			Raw: []byte(id), ChallengePassword: challenge, PublicKey: testkeys.RSA2048(0).Public(),
			Subject:     commonName("phone 7"),
			ExtKeyUsage: []asn1.ObjectIdentifier{clientAuth},
		},
	}
}

func commonName(cn string) pkix.RDNSequence {
	return pkix.RDNSequence{{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: cn}}}
}

func verify(t testing.TB, m *onetime.Module, r policymodule.Request) policymodule.Decision {
	t.Helper()
	d, err := m.Verify(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// begin spends a challenge as the registration authority does.
func begin(t testing.TB, j *sqlite.Journal, clock *at, r policymodule.Request, id string) error {
	t.Helper()
	digest := r.CSR.Digest()
	_, _, err := j.Begin(context.Background(), journal.Intent{
		Endpoint: endpoint, TransactionID: r.TransactionID, SignerKey: digest, SignerID: digest, CSRDigest: digest, CSRKey: digest,
		Names: digest, ChallengeID: id, CA: "issuing", Now: clock.Now(), Lease: time.Minute, GiveUp: clock.Now().Add(time.Hour),
	})
	return err
}

func authority() *x509.Certificate { return &x509.Certificate{Raw: []byte("CA certificate")} }
