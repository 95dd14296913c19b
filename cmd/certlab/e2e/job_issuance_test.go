//go:build e2e

package e2e

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/jobs/jobqueuetest"
	"github.com/certconnector/certconnector/internal/testkeys"
)

const (
	queueName  = "mail"
	queueLease = 3 * time.Second // a job that was handed out is offered again after it
)

// issuing is a world that polls a queue of issuance jobs.
type issuing struct {
	*world
	queue     *jobqueuetest.Queue
	recipient string          // SHA-256 of the recipient's certificate
	dir       string          // of the queue's keys and of the recipient
	tasks     map[string]task // by the queue's context
}

// task is a job as the queue has it and how it must end.
type task struct {
	name string // the common name of its certificate; "": it gets none
	// refused says that the queue takes no result of it: what was issued is revoked.
	refused bool
	code    string // of the failure
}

func newIssuing(t *testing.T) *issuing {
	t.Helper()
	need(t, "openssl", "openssl")
	w := newWorld(t)
	s := &issuing{world: w, dir: w.path("queue"), tasks: map[string]task{}}
	if err := os.Mkdir(s.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	neighbours(t, s.dir)
	var err error
	if s.queue, err = jobqueuetest.New(jobqueuetest.Options{Lease: queueLease, StateFile: filepath.Join(s.dir, "state.jsonl")}); err != nil {
		t.Fatal(err)
	}
	s.queue.Allow(readCertificate(t, filepath.Join(s.dir, "client.pem")))
	server := httptest.NewUnstartedServer(s.queue)
	server.TLS = jobqueuetest.TLSConfig(pair(t, s.dir, "server"))
	server.Config.ErrorLog = silent
	server.StartTLS()
	t.Cleanup(func() {
		server.Close()
		if err := s.queue.Close(); err != nil {
			t.Error(err)
		}
	})
	s.pin()
	w.edit(func(text string) string {
		return text + fmt.Sprintf(`jobs:
  sources:
    - name: %s
      queue: {url: %q, certificate: queue/client.pem, key: queue/client.key, ca_file: queue/root.pem}
      ca: %s
      template: device
      interval: 1s
      at_most_per_hour: 100000
      allow: {subject: ["CN=task-*"], keys: [rsa2048, p256]}
      recipients: [{certificate: queue/recipient.pem}]
`, queueName, strings.Replace(server.URL, "127.0.0.1", "localhost", 1)+"/", caName)
	})
	return s
}

// pin makes the recipient, whose key only the test has.
func (s *issuing) pin() {
	s.t.Helper()
	key := testkeys.RSA2048(7)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(4), Subject: pkix.Name{CommonName: "Recipient"}, KeyUsage: x509.KeyUsageKeyEncipherment,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(100 * 24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		s.t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	s.recipient = hex.EncodeToString(sum[:])
	writeFile(s.t, filepath.Join(s.dir, "recipient.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	writeKey(s.t, filepath.Join(s.dir, "recipient.key"), key)
}

// add queues a job of a number; every fourth wants an RSA key.
func (s *issuing) add(i int) (context string) {
	s.t.Helper()
	kind := "p256"
	if i%4 == 0 {
		kind = "rsa2048"
	}
	context, name := fmt.Sprintf("context-%d", i), fmt.Sprintf("task-%d", i)
	s.put(jobqueuetest.Job{RequestContext: context, Subject: "CN=" + name, Recipient: s.recipient, Key: &jobqueuetest.KeyType{Type: kind}}, task{name: name})
	return context
}

// refuse queues a job whose results the queue will not take.
func (s *issuing) refuse(i int) {
	s.t.Helper()
	context := fmt.Sprintf("context-%d", i)
	s.queue.Refuse(s.add(i))
	s.tasks[context] = task{name: s.tasks[context].name, refused: true}
}

// wrongly queues a job that gets no certificate.
func (s *issuing) wrongly(i int) {
	s.t.Helper()
	const invalid = "ParameterDataInvalidError"
	context, name := fmt.Sprintf("context-%d", i), fmt.Sprintf("CN=task-%d", i)
	switch i % 3 {
	case 0:
		s.put(jobqueuetest.Job{RequestContext: context, Subject: name, Recipient: strings.Repeat("0", 64)}, task{code: invalid})
	case 1:
		s.put(jobqueuetest.Job{RequestContext: context, Subject: "CN=boss", Recipient: s.recipient}, task{code: invalid})
	case 2:
		raw := fmt.Sprintf(`{"requestContext":%q,"kind":"pfx","subject":7,"recipient":%q}`, context, s.recipient)
		if err := s.queue.AddRaw(context, json.RawMessage(raw)); err != nil {
			s.t.Fatal(err)
		}
		s.tasks[context] = task{code: "DataSerializationError"}
	}
}

func (s *issuing) put(j jobqueuetest.Job, as task) {
	s.t.Helper()
	if err := s.queue.Add(j); err != nil {
		s.t.Fatal(err)
	}
	s.tasks[j.RequestContext] = as
}

// answered tells whether the queue has the last word on each job.
func (s *issuing) answered() bool {
	for _, context := range s.queue.Waiting() {
		if !s.tasks[context].refused {
			return false
		}
	}
	return true
}

// told is what the queue knows now.
func (s *issuing) told() told {
	results := s.queue.Results()
	return func(j jobRow) bool {
		r, taken := results[j.context]
		return taken && r.Succeeded == j.succeeded
	}
}

// bundle is what a recipient finds in a result.
type bundle struct {
	Format   string `json:"format"`
	Password string `json:"password"`
	PFX      []byte `json:"pfx"`
	Source   string `json:"source"`
	Context  string `json:"requestContext"`
}

// open has openssl open a result with the recipient's key, and the PKCS #12
// file in it with the password beside it. The key must be the certificate's.
func (s *issuing) open(context string, result jobqueuetest.Result) (*x509.Certificate, error) {
	dir, err := os.MkdirTemp(s.dir, "open")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "result.der"), result.Sealed, 0o600); err != nil {
		return nil, err
	}
	o := execute(s.t, dir, nil, "openssl", "cms", "-decrypt", "-inform", "DER", "-in", "result.der",
		"-recip", "../recipient.pem", "-inkey", "../recipient.key")
	if o.err != nil {
		return nil, fmt.Errorf("openssl cms -decrypt: %w\n%s", o.err, o.stderr)
	}
	var b bundle
	if err := json.Unmarshal([]byte(o.stdout), &b); err != nil {
		return nil, fmt.Errorf("the content is no bundle: %w", err)
	}
	if b.Format != "certconnector-pfx-1" || b.Source != "issuance/"+queueName || b.Context != context {
		return nil, fmt.Errorf("the bundle says format %q, source %q and context %q", b.Format, b.Source, b.Context)
	}
	s.secret(b.Password)
	if err := os.WriteFile(filepath.Join(dir, "file.pfx"), b.PFX, 0o600); err != nil {
		return nil, err
	}
	o = execute(s.t, dir, []string{"PASSWORD=" + b.Password}, "openssl", "pkcs12", "-in", "file.pfx", "-passin", "env:PASSWORD", "-noenc")
	if o.err != nil {
		return nil, fmt.Errorf("openssl pkcs12: %w\n%s", o.err, o.stderr)
	}
	var certs []*x509.Certificate
	var key any
	for block, rest := pem.Decode([]byte(o.stdout)); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, err
			}
			certs = append(certs, cert)
		} else if key, err = x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
			return nil, err
		}
	}
	if len(certs) != 2 || !certs[1].Equal(s.root) {
		return nil, fmt.Errorf("the file has %d certificates, want that of the job and the CA's", len(certs))
	}
	if !belongs(key, certs[0]) {
		return nil, fmt.Errorf("the file's key is not that of its certificate")
	}
	return certs[0], certs[0].CheckSignatureFrom(s.root)
}

// openAll opens every result and returns the certificates' serial numbers, by
// context.
func (s *issuing) openAll(results map[string]jobqueuetest.Result) map[string]string {
	s.t.Helper()
	serials, todo := map[string]string{}, make(chan string, len(results))
	for context, r := range results {
		if r.Succeeded {
			todo <- context
		}
	}
	close(todo)
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for context := range todo {
				cert, err := s.open(context, results[context])
				switch {
				case err != nil:
					s.t.Errorf("the result of %s: %v", context, err)
				case cert.Subject.CommonName != s.tasks[context].name:
					s.t.Errorf("the result of %s has a certificate for %q", context, cert.Subject.CommonName)
				default:
					mu.Lock()
					serials[context] = serialText(cert)
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	return serials
}

// reconcileIssuance compares what the queue wanted and got, what the journal
// has, and what the CA issued. Nothing is open. most is how often the queue may
// have got one result.
func (s *issuing) reconcileIssuance(jobs map[[2]string]jobRow, most int) {
	t := s.t
	t.Helper()
	if list := s.queue.Contradictions(); len(list) != 0 {
		t.Errorf("the queue was given two results of %d jobs, first of %s", len(list), list[0].Context)
	}
	results := s.queue.Results()
	opened := s.openAll(results)
	good, bad := map[string][]string{}, map[string][]string{} // serial numbers by name
	for _, c := range s.certificates() {
		if name := c.Subject.CommonName; strings.HasPrefix(name, "task-") && !c.revoked {
			good[name] = append(good[name], c.serial)
		} else if strings.HasPrefix(name, "task-") {
			bad[name] = append(bad[name], c.serial)
		}
	}
	repeated, refused := 0, 0
	for context, task := range s.tasks {
		row, accepted := jobs[[2]string{"issuance/" + queueName, context}]
		result, told := results[context]
		if result.Times > 1 {
			repeated++
		}
		switch {
		case !accepted:
			t.Errorf("%s: the journal does not know it", context)
		case task.refused: // revoked by a job of our own
			refused++
			own := jobs[[2]string{"undelivered/" + queueName, caName + "/" + row.serial}]
			again := row.state == jobOwed // it was offered again, and will be refused again
			if told || !row.refused && !again || !row.succeeded || len(good[task.name]) != 0 || len(bad[task.name]) != 1 || !own.succeeded || !own.own {
				t.Errorf("%s was refused: %v; certificates %q and revoked %q; told %t; revocation %v", context, row, good[task.name], bad[task.name], told, own)
			}
		case !told || result.Succeeded != row.succeeded || result.Times > most:
			t.Errorf("%s: the queue was told %d times (succeeded %t), at most %d are right; the journal has %v", context, result.Times, result.Succeeded, most, row)
		case task.name == "":
			if result.Succeeded || result.ErrorCode != task.code || row.serial != "" {
				t.Errorf("%s: got succeeded %t with %s, want %s; the journal has %v", context, result.Succeeded, result.ErrorCode, task.code, row)
			}
		case !result.Succeeded:
			t.Errorf("%s failed: %s %s", context, result.ErrorCode, result.ErrorMessage)
		case len(good[task.name]) != 1 || good[task.name][0] != opened[context] || row.serial != opened[context]:
			t.Errorf("%s: delivered %s, the journal has %s, the CA %q", context, opened[context], row.serial, good[task.name])
		}
		delete(good, task.name)
		if !task.refused && len(bad[task.name]) != 0 {
			t.Errorf("%s: certificates %q were revoked: was one issued twice?", context, bad[task.name])
		}
	}
	for name, serials := range good {
		t.Errorf("certificates %q of %s are neither delivered nor revoked", serials, name)
	}
	if n := counted(jobs, "issuance/", func(jobRow) bool { return true }); n != len(s.tasks) {
		t.Errorf("%d jobs, want %d", n, len(s.tasks))
	}
	if n := counted(jobs, "undelivered/", func(jobRow) bool { return true }); n != refused {
		t.Errorf("%d revocations of our own, want %d", n, refused)
	}
	t.Logf("%d jobs, %d opened with openssl, %d refused and revoked, %d results told again", len(s.tasks), len(opened), refused, repeated)
}
