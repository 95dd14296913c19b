package jobs_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/certconnector/certconnector/agent/jobs"
	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/agent/journal/sqlite"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/leaktest"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune"
)

func TestMain(m *testing.M) { os.Exit(leaktest.Run(m)) }

// fakeCloud is a tenant's queue of revocations: it hands each request out
// once, and again after a retryable result, and keeps what it was told.
type fakeCloud struct {
	mu      sync.Mutex
	queue   []intune.RevocationRequest
	down    func() error                          // a download's failure
	refuse  func([]intune.RevocationResult) error // an upload's failure
	asked   []time.Time
	uploads [][]intune.RevocationResult
	told    map[string][]intune.RevocationResult // taken, by context
	known   map[string]intune.RevocationRequest
	hang    time.Duration
	again   bool // whatever was not answered is handed out again
}

func (c *fakeCloud) DownloadRevocations(ctx context.Context, most int, _ string) (intune.RevocationBatch, error) {
	c.mu.Lock()
	hang := c.hang
	c.mu.Unlock()
	select {
	case <-time.After(hang):
	case <-ctx.Done():
		return intune.RevocationBatch{}, ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, time.Now())
	if c.down != nil {
		if err := c.down(); err != nil {
			return intune.RevocationBatch{}, err
		}
	}
	if c.again {
		for handle, q := range c.known {
			if len(c.told[handle]) == 0 && !slices.Contains(c.queue, q) {
				c.queue = append(c.queue, q)
			}
		}
	}
	n := min(most, len(c.queue))
	batch := slices.Clone(c.queue[:n])
	c.queue = c.queue[n:]
	for _, q := range batch {
		c.known[q.Context] = q
	}
	return intune.RevocationBatch{Requests: batch}, nil
}

func (c *fakeCloud) UploadRevocations(_ context.Context, results []intune.RevocationResult) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.uploads = append(c.uploads, slices.Clone(results))
	if c.refuse != nil {
		if err := c.refuse(results); err != nil {
			return err
		}
	}
	for _, r := range results {
		c.told[r.Context] = append(c.told[r.Context], r)
		if r.Code.Retryable() {
			c.queue = append(c.queue, c.known[r.Context])
		}
	}
	return nil
}

// ask puts requests into the queue.
func (c *fakeCloud) ask(list ...intune.RevocationRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.queue = append(c.queue, list...)
}

func (c *fakeCloud) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

func (c *fakeCloud) downloads() []time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.asked)
}

// sent are the uploads, taken or not.
func (c *fakeCloud) sent() [][]intune.RevocationResult {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.uploads)
}

// answered is how many requests have an answer.
func (c *fakeCloud) answered() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.told)
}

// times is how often a request was answered.
func (c *fakeCloud) times(handle string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.told[handle])
}

// answer is the one answer that a request has had, "" for none.
func (c *fakeCloud) answer(t *testing.T, handle string) string {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	list := c.told[handle]
	if len(list) == 0 {
		return ""
	}
	for _, r := range list {
		if r.Succeeded != list[0].Succeeded || r.Code != list[0].Code {
			t.Errorf("request %s was told %v and %v", handle, list[0], r)
		}
	}
	return list[0].Code.String()
}

// fakeCA is an issuing CA whose certificate list is a map.
type fakeCA struct {
	mu      sync.Mutex
	chain   []*x509.Certificate
	issued  map[string]bool
	revoked map[string]int // calls that succeeded
	calls   int
	fail    func(serial string) error
	hang    time.Duration
	after   func() // once revoked, before the answer
}

func (c *fakeCA) Issue(context.Context, ca.Request) (*ca.Issued, error) {
	return nil, ca.ErrUnavailable
}
func (c *fakeCA) Chain(context.Context) ([]*x509.Certificate, error) { return c.chain, nil }

func (c *fakeCA) Revoke(ctx context.Context, serial *big.Int, reason ca.Reason) error {
	c.mu.Lock()
	c.calls++
	fail, hang, after := c.fail, c.hang, c.after
	c.mu.Unlock()
	select {
	case <-time.After(hang):
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ca.ErrOutcomeUnknown, ctx.Err())
	}
	text := serialText(serial)
	if fail != nil {
		if err := fail(text); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if reason != ca.CessationOfOperation {
		return fmt.Errorf("reason %s", reason)
	}
	if !c.issued[text] {
		return ca.ErrNotFound
	}
	c.revoked[text]++
	if after != nil {
		after()
	}
	return nil
}

// asked is how often the CA was called.
func (c *fakeCA) asked() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls
}

func (c *fakeCA) isRevoked(serial string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.revoked[serial] > 0
}

func (c *fakeCA) set(change func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change()
}

func serialText(n *big.Int) string { return fmt.Sprintf("%X", n.Bytes()) }

// world is one journal, a tenant's queue, two CAs and, while it runs, the jobs.
type world struct {
	t       *testing.T
	path    string
	journal *sqlite.Journal
	cloud   *fakeCloud
	issuing *fakeCA
	branch  *fakeCA
	logs    *observer.ObservedLogs
	audit   *observer.ObservedLogs
	owner   string
	skew    time.Duration // of the injected clock
	skewMu  sync.Mutex
	change  func(*jobs.Config)
	tenant  jobs.RevocationTenant
	polled  jobs.Polled
	revoker func(*jobs.RevokerConfig)
	running *jobs.Jobs
	count   int
	log     zapcore.Core
	auditTo zapcore.Core
}

const tenant = "contoso"

func inWorld(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	issuing, branch := chainOf(t, "Contoso Issuing CA"), chainOf(t, "Contoso Branch CA")
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			t: t, path: filepath.Join(t.TempDir(), "journal.db"), owner: "one",
			cloud:   &fakeCloud{told: map[string][]intune.RevocationResult{}, known: map[string]intune.RevocationRequest{}},
			issuing: &fakeCA{chain: issuing, issued: map[string]bool{}, revoked: map[string]int{}},
			branch:  &fakeCA{chain: branch, issued: map[string]bool{}, revoked: map[string]int{}},
			tenant:  jobs.RevocationTenant{Name: tenant, Reason: ca.CessationOfOperation},
			polled:  jobs.Polled{Kind: journal.RevokeJob, AtMostPerHour: 500},
		}
		w.log, w.logs = observer.New(zapcore.InfoLevel)
		w.auditTo, w.audit = observer.New(zapcore.InfoLevel)
		if err := sqlite.Create(w.path); err != nil {
			t.Fatal(err)
		}
		w.open()
		test(t, w)
		w.close()
	})
}

func (w *world) open() {
	w.t.Helper()
	j, err := sqlite.Open(w.path, sqlite.Options{Clock: w.now})
	if err != nil {
		w.t.Fatal(err)
	}
	w.journal = j
}

func (w *world) close() {
	w.t.Helper()
	if err := w.journal.Close(); err != nil {
		w.t.Error(err)
	}
}

// now is the injected clock: the bubble's, put forward or back.
func (w *world) now() time.Time {
	w.skewMu.Lock()
	defer w.skewMu.Unlock()
	return time.Now().Add(w.skew)
}

func (w *world) jump(d time.Duration) {
	w.skewMu.Lock()
	defer w.skewMu.Unlock()
	w.skew += d
}

func (w *world) build() *jobs.Jobs {
	w.t.Helper()
	revoker := jobs.RevokerConfig{
		Entries: w.journal, Imported: w.journal, Clock: w.now, Log: zap.New(w.log), Audit: zap.New(w.auditTo),
		CAs:     []jobs.RevocationCA{{Name: "issuing", Authority: w.issuing}, {Name: "branch", Authority: w.branch}},
		Tenants: map[string]jobs.RevocationTenant{jobs.RevocationSource(tenant): w.tenant},
	}
	if w.revoker != nil {
		w.revoker(&revoker)
	}
	polled := w.polled
	if polled.Source == nil {
		polled.Source = jobs.NewRevocations(tenant, "", w.cloud, zap.New(w.log))
	}
	cfg := jobs.Config{
		Journal: w.journal, Owner: w.owner, Clock: w.now, Log: zap.New(w.log), Audit: zap.New(w.auditTo),
		Sources: []jobs.Polled{polled},
		Work:    map[journal.JobKind]jobs.Work{journal.RevokeJob: {Handler: jobs.NewRevoker(revoker), AtOnce: 8}},
	}
	if w.change != nil {
		w.change(&cfg)
	}
	j, err := jobs.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return j
}

// run lets a connector run for a while and stops it.
func (w *world) run(d time.Duration) {
	w.t.Helper()
	stop := w.start()
	time.Sleep(d)
	stop()
}

// start starts a connector; stop ends it and waits.
func (w *world) start() (stop func()) {
	w.t.Helper()
	j := w.build()
	w.running = j
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- j.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	}
}

// issue records a certificate that a CA issued through us, and returns its serial number.
func (w *world) issue(authority *fakeCA, name, forTenant string, serial int64) string {
	w.t.Helper()
	w.count++
	id := fmt.Sprint("device ", w.count)
	now := w.now()
	e, owned, err := w.journal.Begin(context.Background(), journal.Intent{
		Endpoint: "corp", Tenant: forTenant, TransactionID: id, SignerKey: sha256.Sum256([]byte(id)), CSRDigest: sha256.Sum256([]byte(id)), CSRKey: sha256.Sum256([]byte(id)),
		CA: name, Now: now, Lease: time.Minute, GiveUp: now.Add(time.Hour), Submit: true,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	text := serialText(big.NewInt(serial))
	if _, err = w.journal.Advance(context.Background(), owned, journal.Step{
		To: journal.Issued, Now: now, Certificate: []byte("certificate of " + id), Serial: text,
	}); err != nil {
		w.t.Fatalf("entry %d: %v", e.ID, err)
	}
	authority.mu.Lock()
	defer authority.mu.Unlock()
	authority.issued[text] = true
	return text
}

// request asks for a serial number, under a handle that names it.
func request(handle, serial, issuer string) intune.RevocationRequest {
	return intune.RevocationRequest{Context: handle, Serial: serial, Issuer: issuer, CAConfiguration: issuer}
}

func (w *world) source() journal.Source {
	w.t.Helper()
	list, err := w.journal.Sources(context.Background())
	if err != nil || len(list) != 1 {
		w.t.Fatalf("sources %v, %v", list, err)
	}
	return list[0]
}

// answers compares what the cloud was told with what it should have been.
func (w *world) answers(want map[string]string) {
	w.t.Helper()
	for handle, code := range want {
		if got := w.cloud.answer(w.t, handle); got != code {
			w.t.Errorf("request %s was answered %q, want %q", handle, got, code)
		}
	}
}

// logged counts lines whose message begins with words.
func logged(logs *observer.ObservedLogs, words string) int {
	n := 0
	for _, line := range logs.All() {
		if strings.HasPrefix(line.Message, words) {
			n++
		}
	}
	return n
}

// chainOf makes a root and an issuing CA below it, named as Microsoft CAs are.
func chainOf(t *testing.T, cn string) []*x509.Certificate {
	t.Helper()
	dc := func(v string) pkix.AttributeTypeAndValue {
		return pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}, Value: v}
	}
	name := func(cn string) []byte {
		raw, err := asn1.Marshal(pkix.RDNSequence{
			{dc("example")}, {dc("corp")}, {{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: "Contoso, Ltd."}}, {{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: cn}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	var chain []*x509.Certificate
	for i, cn := range []string{cn, cn + " Root"} {
		tmpl := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), RawSubject: name(cn), NotAfter: time.Now().AddDate(10, 0, 0)}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, testkeys.P256(0).Public(), testkeys.P256(0))
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain = append(chain, cert)
	}
	return chain
}

// restored says that the journal was restored some time ago.
func restored(ago time.Duration) func(*jobs.RevokerConfig) {
	return func(c *jobs.RevokerConfig) { c.RestoredAt = c.Clock().Add(-ago) }
}

func (w *world) imports(serial, forTenant string) {
	w.t.Helper()
	n, err := w.journal.ImportIssued(context.Background(), []journal.ImportedCertificate{{Tenant: forTenant, CA: "issuing", Serial: serial}}, w.now())
	if err != nil || n != 1 {
		w.t.Fatalf("imported %d, %v", n, err)
	}
}

// long leaves a test to "make test": it lets many hours pass, which takes
// minutes under the race detector.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("many simulated hours; runs without -short")
	}
}
