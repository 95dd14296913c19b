package jobs_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/jobs"
	"github.com/certconnector/certconnector/agent/jobs/jobqueue"
	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/mtls"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
)

// A CA that wants a person to look keeps the job waiting, over restarts.
func TestParkedJobWaitsForAPerson(t *testing.T) {
	inOffice(t, func(t *testing.T, o *office) {
		o.profiles[0].Approval = embedded.Manual
		o.reopen()
		o.add(o.job("one"))
		o.later(20 * time.Minute)
		o.reopen()
		if len(o.queue.Results()) > 0 {
			t.Fatalf("%+v", o.queue.Results())
		}
		entries, err := o.journal.List(t.Context(), journal.Query{})
		if err != nil || len(entries) != 1 || entries[0].State != journal.Parked {
			t.Fatalf("%+v, %v", entries, err)
		}
		if err := o.ca.Approve(t.Context(), entries[0].CARequestID); err != nil {
			t.Fatal(err)
		}
		o.later(settled)
		if r := o.queue.Results()["one"]; !r.Succeeded || len(o.issued()) != 1 {
			t.Errorf("%+v, %d certificates", r, len(o.issued()))
		}
	})
}

// When the local key was replaced, the key that waits cannot be opened: the
// job ends, and a certificate that it had got is revoked.
func TestLocalKeyIsReplaced(t *testing.T) {
	for at, revoked := range map[string]int{"save 1 after": 0, "save 2 after": 1} {
		t.Run(at, func(t *testing.T) {
			inOffice(t, func(t *testing.T, o *office) {
				crash := &crashes{at: at}
				o.close()
				o.wrap = crash.wrap
				o.open()
				o.add(o.job("one"))
				o.later(time.Minute)
				if !crash.hit() {
					t.Fatal("the work was not saved")
				}
				o.wrap = nil
				o.close()
				var err error
				if o.sealer, err = secret.NewSealer(bytes.Repeat([]byte{8}, 32)); err != nil {
					t.Fatal(err)
				}
				o.open()
				o.later(settled)
				r := o.queue.Results()["one"]
				if r.Succeeded || r.ErrorCode != "CryptographyError" || !strings.HasPrefix(r.ErrorMessage, "work_sealed: ") || o.revoked() != revoked {
					t.Errorf("%+v, %d revoked", r, o.revoked())
				}
			})
		})
	}
}

// enroller answers as a registration authority would.
type enroller struct {
	answer func() (*scep.Result, error)
	asked  []*scep.Request
}

func (e *enroller) Enroll(_ context.Context, req *scep.Request) (*scep.Result, error) {
	e.asked = append(e.asked, req)
	return e.answer()
}

// desk is an Issuer alone.
func desk(t *testing.T, e *enroller) (*jobs.Issuer, journal.Job) {
	t.Helper()
	o := &office{t: t}
	recipient := o.certificate("recipient", testkeys.RSA2048(5), 100*24*time.Hour, func(*x509.Certificate) {})
	sealer, err := secret.NewSealer(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	policy, err := jobs.NewIssuePolicy(jobs.IssueRules{Subject: []string{"*"}, KeyTypes: []string{"p256"}})
	if err != nil {
		t.Fatal(err)
	}
	sink, err := jobs.NewSealed([]*x509.Certificate{recipient}, nil)
	if err != nil {
		t.Fatal(err)
	}
	i, err := jobs.NewIssuer(jobs.IssueConfig{
		Source: "issuance/mail", Policy: policy, Enroller: e, CAName: "issuing", Sinks: []jobs.Sink{sink}, Sealer: sealer, Log: zap.NewNop(), Audit: zap.NewNop(),
		Chain:  func(context.Context) ([]*x509.Certificate, error) { return nil, nil },
		Revoke: func(context.Context, jobs.Undelivered) error { return errors.New("not recorded") },
	})
	if err != nil {
		t.Fatal(err)
	}
	content, err := json.Marshal(jobqueue.Job{Context: "one", Kind: "pfx", Subject: "CN=one", Key: jobqueue.Key{Type: "p256"}, Recipient: hexDigest(recipient)})
	if err != nil {
		t.Fatal(err)
	}
	return i, journal.Job{ID: 1, Source: "issuance/mail", NewJob: journal.NewJob{Kind: journal.IssueJob, Context: "one", Content: content}, AcceptedAt: time.Now()}
}

// What the registration authority says becomes a code for the queue; what the
// CA said stays here.
func TestAnswersOfTheRegistrationAuthority(t *testing.T) {
	for _, row := range []struct {
		name      string
		answer    func() (*scep.Result, error)
		code      jobqueue.Code // None: tried later
		retryable bool
	}{
		{"cannot be asked", func() (*scep.Result, error) { return nil, errors.New("journal is full") }, jobqueue.None, false},
		{"pending", func() (*scep.Result, error) { return &scep.Result{Status: scep.Pending}, nil }, jobqueue.None, false},
		{"nonsense", func() (*scep.Result, error) {
			return &scep.Result{Status: scep.Success, Certificate: []byte{1}}, nil
		}, jobqueue.None, false},
		{"CA down for too long", func() (*scep.Result, error) { return scep.Refuse(scep.BadRequest, "ca_unavailable: ca01 is down"), nil }, jobqueue.ServiceUnavailableException, true},
		{"CA denies", func() (*scep.Result, error) {
			return scep.Refuse(scep.BadRequest, "ca_denied: user ca01 may not"), nil
		}, jobqueue.NonRetryableServiceError, false},
		{"a rule", func() (*scep.Result, error) { return scep.Refuse(scep.BadAlg, "key_weak: ca01"), nil }, jobqueue.ParameterDataInvalidError, false},
		{"no rule", func() (*scep.Result, error) { return scep.Refuse(scep.BadRequest, "Something about ca01"), nil }, jobqueue.NonRetryableServiceError, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			e := &enroller{answer: row.answer}
			i, j := desk(t, e)
			end := i.Do(t.Context(), j)
			if len(end.Save) == 0 || len(e.asked) != 0 {
				t.Fatalf("%+v: the key is saved before anybody is asked", end)
			}
			j.Work = end.Save
			for range 2 { // again after a crash
				end = i.Do(t.Context(), j)
			}
			if len(e.asked) != 2 || !bytes.Equal(e.asked[0].CSR.Raw, e.asked[1].CSR.Raw) || e.asked[0].TransactionID != e.asked[1].TransactionID ||
				e.asked[0].Signer.KeyDigest() != e.asked[0].CSR.KeyDigest() || e.asked[0].CSR.CheckSignature() != nil {
				t.Fatal("a repetition is another request")
			}
			if row.code == jobqueue.None {
				if end.Later == nil || end.Result != nil {
					t.Errorf("%+v", end)
				}
				return
			}
			if r := end.Result; r == nil || r.Code != int(row.code) || r.Retryable != row.retryable || strings.Contains(r.Text, "ca01") {
				t.Errorf("%+v", r)
			}
		})
	}
}

// Work that is in another job's row opens nothing.
func TestWorkBelongsToItsJob(t *testing.T) {
	i, j := desk(t, &enroller{answer: func() (*scep.Result, error) { return nil, errors.New("asked") }})
	j.Work = i.Do(t.Context(), j).Save
	other := j
	other.Context = "two"
	if end := i.Do(t.Context(), other); end.Result == nil || end.Result.Code != int(jobqueue.CryptographyError) {
		t.Errorf("%+v", end)
	}
	if end := i.Do(t.Context(), j); end.Later == nil {
		t.Errorf("its own: %+v", end)
	}
}

func TestJobsOfASourceThatIsGoneWait(t *testing.T) {
	i, j := desk(t, &enroller{})
	j.Source = "issuance/former"
	if end := (jobs.Issuers{i}).Do(t.Context(), j); end.Later == nil || end.Result != nil || end.NotBefore < time.Minute {
		t.Errorf("%+v", end)
	}
}

// Whatever content is in the journal, a handler comes to an end and asks nobody.
func FuzzIssueContent(f *testing.F) {
	f.Add([]byte(`{"requestContext":"a","kind":"pfx","subject":"CN=a,","sans":["ip:1","upn:"],"key":{"type":"p256"}}`))
	f.Add([]byte(`{"requestContext":"a","malformed":"member kind is missing"}`))
	f.Add([]byte(`{"requestContext":"a","kind":"pfx","subject":"CN=\\00","keyUsage":["x"],"ekus":["1.2","2.999.1"],"validitySeconds":1}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		e := &enroller{answer: func() (*scep.Result, error) { return nil, errors.New("asked") }}
		i, j := desk(t, e)
		j.Content = content
		end := i.Do(t.Context(), j)
		if len(e.asked) != 0 || end.Result == nil && end.Save == nil && end.Later == nil || end.Result != nil && end.Result.Succeeded {
			t.Errorf("%+v", end)
		}
	})
}

// tooLarge is a queue behind a proxy that passes on one result at a time.
type tooLarge struct{ jobs.Queue }

func (tooLarge) Upload(_ context.Context, results []jobqueue.Result) error {
	return &jobqueue.StatusError{Refusal: mtls.Refusal{Status: http.StatusRequestEntityTooLarge}}
}

// TestResultsThatAreTooLargeTogether are tried one by one; one that is too
// large for a proxy alone is not given up, and so costs no certificate.
func TestResultsThatAreTooLargeTogether(t *testing.T) {
	revoke := func(context.Context, jobs.Undelivered) error { t.Error("revoked"); return nil }
	q, err := jobs.NewQueue(jobs.QueueConfig{Name: "q", Queue: tooLarge{}, Revoke: revoke, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	job := journal.Job{Result: &journal.JobResult{Succeeded: true, Payload: []byte(`{"sealed":"AAAA"}`)}}
	if err := q.Report(t.Context(), []journal.Job{job, job}); !errors.Is(err, jobs.ErrRefused) {
		t.Errorf("two: %v", err)
	}
	if err := q.Report(t.Context(), []journal.Job{job}); err == nil || errors.Is(err, jobs.ErrRefused) {
		t.Errorf("one: %v", err)
	}
}
