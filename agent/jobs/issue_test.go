package jobs_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/jobs/jobqueuetest"
	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/testkeys"
)

func hexDigest(c *x509.Certificate) string { return fmt.Sprintf("%x", sha256.Sum256(c.Raw)) }

func oids(dotted ...string) (list []asn1.ObjectIdentifier) {
	for _, d := range dotted {
		oid, _ := pkcs10.AttributeType(d)
		list = append(list, oid)
	}
	return list
}

// documented is the script in docs/issuance-jobs.md by which a recipient opens
// a result.
func documented(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "issuance-jobs.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "```sh\n")
	script, _, end := strings.Cut(rest, "```")
	if !ok || !end || !strings.Contains(script, "openssl cms -decrypt") {
		t.Fatal("the page has no script that opens a result")
	}
	return script
}

// openAsRecipient runs that script and returns the certificates it ends with.
func openAsRecipient(t *testing.T, sealed []byte, recipient *x509.Certificate) (key any, certs []*x509.Certificate) {
	t.Helper()
	dir := t.TempDir()
	der, err := x509.MarshalPKCS8PrivateKey(testkeys.RSA2048(5))
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"result.der":    sealed,
		"recipient.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		"recipient.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: recipient.Raw}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("sh", "-eu", "-c", documented(t))
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("the documented script: %v: %s", err, out)
	}
	opened, err := os.ReadFile(filepath.Join(dir, "opened.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for block, rest := pem.Decode(opened); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			certs = append(certs, cert)
			continue
		}
		if key, err = x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
			t.Fatal(err)
		}
	}
	return key, certs
}

// From the queue to a file that openssl opens, with every name and wish in it.
func TestJobBecomesAFileThatOpensslOpens(t *testing.T) {
	type opened struct {
		sealed    []byte
		recipient *x509.Certificate
		root      *x509.Certificate
	}
	results := map[string]opened{}
	inOffice(t, func(t *testing.T, o *office) {
		full := o.job("laptop")
		full.Subject = "CN=laptop.corp.example,O=Corp,DC=corp"
		full.SANs = []string{"dns:laptop.corp.example", "email:ann@corp.example", "upn:änn@corp.example", "ip:10.1.2.3"}
		full.KeyUsage, full.EKUs = []string{"digitalSignature", "keyAgreement"}, []string{"ClientAuth", "1.3.6.1.5.5.7.3.4"}
		full.ValiditySeconds = 20 * 24 * 3600
		full.CAConfiguration = "issuing"
		plain := o.job("phone")
		plain.Key, plain.KeyUsage, plain.EKUs = nil, nil, nil
		o.add(full, plain)
		o.later(2 * time.Minute)
		for context, r := range o.queue.Results() {
			if !r.Succeeded || r.Times != 1 {
				t.Fatalf("%s: %+v", context, r)
			}
			results[context] = opened{r.Sealed, o.recipient, o.root}
		}
		if n := len(o.issued()); n != 2 {
			t.Errorf("%d certificates", n)
		}
		o.nothingSecretIsLeft()
		o.later(settled)
		if c := o.queue.Counts(); c.Offered != 2 || c.Early != 0 || c.Malformed != 0 || c.Downloads < 4 {
			t.Errorf("the queue was asked %+v", c)
		}
	})
	if len(results) != 2 {
		t.Fatalf("%d results", len(results))
	}
	for context, r := range results {
		key, certs := openAsRecipient(t, r.sealed, r.recipient)
		if len(certs) != 2 || !certs[1].Equal(r.root) || certs[0].CheckSignatureFrom(r.root) != nil {
			t.Fatalf("%s: %d certificates, or not of our CA", context, len(certs))
		}
		checkKeyFits(t, key, certs[0])
		if context == "laptop" {
			checkNames(t, certs[0])
		}
	}
}

// nothingSecretIsLeft: after delivery neither key nor result is in the journal,
// and no line ever had a password.
func (o *office) nothingSecretIsLeft() {
	o.t.Helper()
	list, err := o.journal.ListJobs(o.t.Context(), journal.JobQuery{})
	if err != nil {
		o.t.Fatal(err)
	}
	for _, j := range list {
		if j.State == journal.JobOver && (len(j.Work) > 0 || j.Result == nil || len(j.Result.Payload) > 0) {
			o.t.Errorf("job %s keeps %d octets of work and %+v", j.Context, len(j.Work), j.Result)
		}
	}
	for _, line := range o.logs.All() {
		text, err := json.Marshal(line.ContextMap())
		if err != nil {
			continue
		}
		for _, word := range []string{"PRIVATE", "password", "sealed\":\""} {
			if strings.Contains(string(text), word) {
				o.t.Errorf("line %q has %q", line.Message, word)
			}
		}
	}
}

// What a queue may not have, it does not get, and is told why.
func TestRefusals(t *testing.T) {
	for name, row := range map[string]struct {
		change func(j *jobqueuetest.Job)
		code   string
		rule   string
	}{
		"a subject outside":           {func(j *jobqueuetest.Job) { j.Subject = "CN=dc.other.example" }, "ParameterDataInvalidError", "subject_not_allowed"},
		"an alternative name outside": {func(j *jobqueuetest.Job) { j.SANs = []string{"dns:www.other.example"} }, "ParameterDataInvalidError", "san_not_allowed"},
		"an address outside":          {func(j *jobqueuetest.Job) { j.SANs = []string{"ip:192.0.2.1"} }, "ParameterDataInvalidError", "san_not_allowed"},
		"a name of no kind":           {func(j *jobqueuetest.Job) { j.SANs = []string{"www.corp.example"} }, "ParameterDataInvalidError", "job_names"},
		"a security identifier": {func(j *jobqueuetest.Job) {
			j.SANs = []string{"uri:tag:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-500"}
		}, "ParameterDataInvalidError", "job_sid"},
		"a subject that is none":         {func(j *jobqueuetest.Job) { j.Subject = "Ann" }, "ParameterDataInvalidError", "job_names"},
		"a key type that is not allowed": {func(j *jobqueuetest.Job) { j.Key.Type = "rsa4096" }, "ParameterDataInvalidError", "job_key_type"},
		"a key type that nobody knows":   {func(j *jobqueuetest.Job) { j.Key.Type = "rsa1024" }, "ParameterDataInvalidError", "job_key_type"},
		"another usage":                  {func(j *jobqueuetest.Job) { j.EKUs = []string{"serverAuth"} }, "ParameterDataInvalidError", "extended_key_usage"},
		"an unknown usage":               {func(j *jobqueuetest.Job) { j.EKUs = []string{"anything"} }, "ParameterDataInvalidError", "job_names"},
		"certificate signing":            {func(j *jobqueuetest.Job) { j.KeyUsage = []string{"keyCertSign"} }, "ParameterDataInvalidError", "job_names"},
		"too long a life":                {func(j *jobqueuetest.Job) { j.ValiditySeconds = 101 * 24 * 3600 }, "ParameterDataInvalidError", "job_validity"},
		"another CA":                     {func(j *jobqueuetest.Job) { j.CAConfiguration = "other" }, "ParameterDataInvalidError", "job_ca"},
		"a recipient that is not pinned": {func(j *jobqueuetest.Job) { j.Recipient = strings.Repeat("ab", 32) }, "ParameterDataInvalidError", "job_delivery"},
		"no recipient":                   {func(j *jobqueuetest.Job) { j.Recipient = "" }, "ParameterDataInvalidError", "job_delivery"},
		"an import that is off":          {func(j *jobqueuetest.Job) { j.Kind = "importedPfx" }, "NotSupportedError", "job_kind"},
		"a recipient that is no digest":  {func(j *jobqueuetest.Job) { j.Recipient = "ann" }, "DataSerializationError", "job_malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			inOffice(t, func(t *testing.T, o *office) {
				j, good := o.job("bad"), o.job("good")
				row.change(&j)
				o.add(j, good)
				o.later(2 * time.Minute)
				r := o.queue.Results()
				if r["bad"].Succeeded || r["bad"].ErrorCode != row.code || !strings.HasPrefix(r["bad"].ErrorMessage, row.rule+": ") {
					t.Errorf("%+v", r["bad"])
				}
				if !r["good"].Succeeded {
					t.Errorf("the good job beside it: %+v", r["good"])
				}
				if len(o.issued()) != 1 {
					t.Errorf("%d certificates", len(o.issued()))
				}
			})
		})
	}
}

// The endpoint is for jobs: a device that reaches it gets nothing, even with
// names that a job may have.
func TestNobodyButAJobIsVouchedFor(t *testing.T) {
	inOffice(t, func(t *testing.T, o *office) {
		res, err := o.endpoint.Enroll(t.Context(), deviceRequest(t, "laptop.corp.example"))
		if err != nil || res.Certificate != nil || !strings.HasPrefix(res.FailText, "job_missing") {
			t.Errorf("%+v, %v", res, err)
		}
	})
}

// A queue that is down for a day delays; it loses nothing.
func TestQueueIsDownForADay(t *testing.T) {
	long(t)
	inOffice(t, func(t *testing.T, o *office) {
		o.add(o.job("one"))
		o.later(3 * time.Second) // downloaded and done; the report comes later
		if len(o.queue.Results()) > 0 || len(o.issued()) != 1 {
			t.Fatalf("%d certificates, %+v", len(o.issued()), o.queue.Results())
		}
		o.pipes.cut(true)
		o.pipes.drop()
		o.add(o.job("two"))
		o.later(aDay())
		o.reopen()
		o.later(time.Minute)
		if len(o.queue.Results()) > 0 {
			t.Fatal("the queue was reached")
		}
		o.pipes.cut(false)
		o.until(func() bool { return len(o.queue.Results()) == 2 })
		r := o.queue.Results()
		if !r["one"].Succeeded || !r["two"].Succeeded || len(o.issued()) != 2 || len(o.queue.Contradictions()) > 0 {
			t.Errorf("%+v, %d certificates", r, len(o.issued()))
		}
	})
}

// A lease that ends while the job is worked on, and answers that are lost: the
// same job comes again and again, and is one job.
func TestOneContextIsOneCertificate(t *testing.T) {
	inOffice(t, func(t *testing.T, o *office) {
		o.add(o.job("one"))
		o.queue.Fail(jobqueuetest.Faults{TakeNothing: true})
		for range 5 {
			o.later(7 * time.Minute)
			o.queue.Offer()
		}
		if len(o.queue.Results()) > 0 || o.queue.Counts().Offered < 3 {
			t.Fatalf("%+v", o.queue.Counts())
		}
		o.queue.Fail(jobqueuetest.Faults{LoseAnswers: true, Times: 1})
		o.until(func() bool { return len(o.queue.Results()) == 1 })
		r := o.queue.Results()["one"]
		if !r.Succeeded || len(o.issued()) != 1 || len(o.queue.Contradictions()) > 0 {
			t.Errorf("%+v, %d certificates, %+v", r, len(o.issued()), o.queue.Contradictions())
		}
	})
}

// A queue that lost a result it had taken cannot have it again: the key is
// gone. It is told, and there is no second certificate, also when the journal
// has forgotten by then what the job wanted.
func TestResultThatTheQueueLost(t *testing.T) {
	for name, swept := range map[string]bool{"soon": false, "after the job was swept": true} {
		t.Run(name, func(t *testing.T) {
			inOffice(t, func(t *testing.T, o *office) {
				o.add(o.job("one"))
				o.later(2 * time.Minute)
				o.add(o.job("newest"))
				o.later(settled)
				if r := o.queue.Results(); !r["one"].Succeeded || !r["newest"].Succeeded {
					t.Fatal("no results")
				}
				if swept {
					if n, err := o.journal.SweepJobs(t.Context(), time.Now().Add(time.Second), 100); err != nil || n != 1 {
						t.Fatalf("swept %d, %v", n, err)
					}
				}
				if err := o.queue.Forget("one"); err != nil {
					t.Fatal(err)
				}
				o.later(settled)
				r := o.queue.Results()["one"]
				if r.Succeeded || r.ErrorCode != "ConflictError" || !strings.HasPrefix(r.ErrorMessage, "delivered_before: ") || len(o.issued()) != 2 {
					t.Errorf("%+v, %d certificates", r, len(o.issued()))
				}
				if o.revoked() != 0 {
					t.Error("the certificate that was delivered is revoked")
				}
			})
		})
	}
}

// What the queue refuses for good is revoked; a result beside it is taken.
func TestRefusedResultIsRevoked(t *testing.T) {
	inOffice(t, func(t *testing.T, o *office) {
		o.add(o.job("one"), o.job("two"))
		o.queue.Refuse("one")
		o.later(10 * time.Minute)
		r := o.queue.Results()
		if len(r) != 1 || !r["two"].Succeeded || len(o.issued()) != 2 {
			t.Errorf("results %+v", r)
		}
		if n := o.revoked(); n != 1 {
			t.Errorf("%d certificates are revoked, want that of the refused result", n)
		}
		o.nothingSecretIsLeft()
	})
}

// A recipient that is unpinned while the certificate waits gets nothing.
func TestRecipientUnpinnedMeanwhile(t *testing.T) {
	inOffice(t, func(t *testing.T, o *office) {
		o.close()
		crash := &crashes{at: "save 2 after"}
		o.wrap = crash.wrap
		o.open()
		o.add(o.job("one"))
		o.later(time.Minute)
		if !crash.hit() {
			t.Fatal("the certificate was not saved")
		}
		o.wrap = nil
		other := o.certificate("Another", testkeys.RSA2048(6), 24*time.Hour*100, func(*x509.Certificate) {})
		o.pins = []*x509.Certificate{other}
		o.reopen()
		o.later(settled)
		r := o.queue.Results()["one"]
		if r.Succeeded || !strings.HasPrefix(r.ErrorMessage, "job_delivery: ") || o.revoked() != 1 {
			t.Errorf("%+v, %d revoked", r, o.revoked())
		}
	})
}

var errPower = errors.New("the power failed")
