package enroll_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/scep"
)

func TestCertificateLeavesAfterTheCloudWasTold(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		res := w.want(w.ask(newDevice(0, "good")), scep.Success)
		w.told(1, 0)
		e := w.entries(1)[0]
		if e.State != journal.Released || !bytes.Equal(e.Certificate, res.Certificate) {
			t.Errorf("entry is %v", e.State)
		}
		if e.SealedCSR != nil {
			t.Error("the sealed CSR, which holds the challenge, was not wiped")
		}
		if got := w.cloud.successes[0]; got.TransactionID != "T0" || got.IssuingCA != "issuing" || !bytes.Equal(got.Certificate.Raw, res.Certificate) {
			t.Errorf("cloud was told %+v", got)
		}
	})
}

func TestRefusedChallengeLeavesNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.wantFailure(w.ask(newDevice(0, "bad")), scep.BadRequest)
		w.entries(0)
		w.told(0, 0)
		if w.core.issues != 0 {
			t.Error("the CA was asked")
		}
	})
}

func TestCloudThatCannotBeAskedStoresNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.cloud.set(func(c *cloud) { c.down = true })
		d := newDevice(0, "good")
		if res, err := w.endpoint.Enroll(t.Context(), d.request(t, scep.PKCSReq)); err == nil {
			t.Fatalf("got %v, want an error that becomes HTTP 503", res.Status)
		}
		w.entries(0)
		w.cloud.set(func(c *cloud) { c.down = false })
		w.want(w.ask(d), scep.Success)
	})
}

func TestIdenticalRequestsAtOnceYieldOneCertificate(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.core.slow = time.Second
		d := newDevice(0, "good")
		csr := d.request(t, scep.PKCSReq).CSR
		var mu sync.Mutex
		seen := map[string]int{}
		var all sync.WaitGroup
		for range 64 {
			req := d.request(t, scep.PKCSReq) // a fresh signer certificate, the same CSR bytes
			req.CSR = csr
			all.Go(func() {
				res := w.send(req)
				mu.Lock()
				defer mu.Unlock()
				seen[string(res.Certificate)]++
			})
		}
		all.Wait()
		if len(seen) != 1 || w.core.issues != 1 || w.cloud.asked != 1 {
			t.Errorf("%d different answers, CA asked %d times, cloud asked %d times; want 1 of each", len(seen), w.core.issues, w.cloud.asked)
		}
		w.told(1, 0)
		w.entries(1)
	})
}

func TestOneChallengeYieldsOneCertificate(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.core.slow = time.Second
		var mu sync.Mutex
		var issued, refused int
		var all sync.WaitGroup
		for i := range 64 {
			d := newDevice(i%8, "good, but only once")
			d.cn, d.transaction = fmt.Sprintf("thief %d", i), fmt.Sprintf("X%d", i)
			req := d.request(t, scep.PKCSReq)
			all.Go(func() {
				res := w.send(req)
				mu.Lock()
				defer mu.Unlock()
				switch res.Status {
				case scep.Success:
					issued++
				case scep.Failure:
					refused++
				}
			})
		}
		all.Wait()
		if issued != 1 || refused != 63 || w.core.issues != 1 {
			t.Errorf("%d issued, %d refused, CA asked %d times; want 1, 63, 1", issued, refused, w.core.issues)
		}
		w.told(1, 0)
	})
}

func TestRepeatedRequestGetsTheSameCertificate(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		d := newDevice(0, "good")
		first := w.want(w.ask(d), scep.Success)
		for name, repeat := range map[string]func() *scep.Result{
			"a CSR signed anew":            func() *scep.Result { return w.ask(d) },
			"under another transaction ID": func() *scep.Result { d := d; d.transaction = "T-again"; return w.ask(d) },
			"a CertPoll":                   func() *scep.Result { return w.send(d.request(t, scep.CertPoll)) },
			"after a restart":              func() *scep.Result { w.restart(); return w.ask(d) },
		} {
			if res := w.want(repeat(), scep.Success); !bytes.Equal(res.Certificate, first.Certificate) {
				t.Errorf("%s: another certificate", name)
			}
		}
		if w.core.issues != 1 {
			t.Errorf("CA was asked %d times", w.core.issues)
		}
		w.told(1, 0)
	})
}

func TestPollByAnotherKeyLearnsNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.want(w.ask(newDevice(0, "good")), scep.Success)
		thief := newDevice(1, "")
		thief.transaction = "T0"
		w.wantFailure(w.send(thief.request(t, scep.CertPoll)), scep.BadCertID)
	})
}

func TestCertificateIsWithheldUntilTheCloudAccepts(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.cloud.set(func(c *cloud) { c.deaf = true })
		d := newDevice(0, "good")
		began := time.Now()
		w.want(w.ask(d), scep.Pending)
		if held := time.Since(began); held != 25*time.Second {
			t.Errorf("exchange was held for %v, want answer_within", held)
		}
		w.want(w.send(d.request(t, scep.CertPoll)), scep.Pending)
		if e := w.entries(1)[0]; e.State != journal.Withheld {
			t.Errorf("entry is %v, want withheld", e.State)
		}
		w.restart()
		w.want(w.ask(d), scep.Pending)
		w.cloud.set(func(c *cloud) { c.deaf = false })
		w.want(w.send(d.request(t, scep.CertPoll)), scep.Success)
		if w.core.issues != 1 {
			t.Errorf("CA was asked %d times", w.core.issues)
		}
		w.told(1, 0)
	})
}

func TestRefusedNotificationRevokes(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.cloud.set(func(c *cloud) { c.against = true })
		d := newDevice(0, "good")
		w.wantFailure(w.ask(d), scep.BadRequest)
		w.later(5 * time.Second)
		w.wantRevoked()
		w.wantFailure(w.ask(d), scep.BadRequest)
	})
}

func TestWithheldTooLongIsAbandonedAndRevoked(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.cloud.set(func(c *cloud) { c.deaf = true })
		d := newDevice(0, "good")
		w.want(w.ask(d), scep.Pending)
		w.later(51 * time.Minute)
		if e := w.entries(1)[0]; e.State != journal.Abandoned {
			t.Fatalf("entry is %v, want abandoned", e.State)
		}
		w.wantRevoked()
		w.cloud.set(func(c *cloud) { c.deaf = false })
		w.later(time.Hour)
		w.told(0, 0)
		w.wantFailure(w.ask(d), scep.BadRequest)
	})
}

// A notification that is under way when the certificate has been withheld for
// too long may still be taken: until that is known nothing is revoked.
func TestNotificationUnderWayDecidesAtTheEnd(t *testing.T) {
	for _, taken := range []bool{true, false} {
		t.Run(fmt.Sprintf("taken=%t", taken), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.cloud.set(func(c *cloud) { c.deaf = true })
				d := newDevice(0, "good")
				w.want(w.ask(d), scep.Pending)
				w.later(48*time.Minute + 15*time.Second)
				w.cloud.set(func(c *cloud) { c.deaf, c.slow = !taken, 150*time.Second }) // it is asked once a minute
				w.later(105 * time.Second)                                               // 50 minutes are over
				if e := w.entries(1)[0]; e.State != journal.Withheld {
					t.Fatalf("with a notification under way the entry is %v, want withheld", e.State)
				}
				w.later(5 * time.Minute)
				if !taken {
					w.told(0, 0)
					w.wantRevoked()
					w.wantFailure(w.ask(d), scep.BadRequest)
					return
				}
				w.told(1, 0)
				w.want(w.ask(d), scep.Success)
				if len(w.core.revoked) != 0 {
					t.Error("a certificate that the cloud was told of is revoked")
				}
			})
		})
	}
}

// wantRevoked wants every certificate at the CA revoked, and at least one there.
func (w *world) wantRevoked() {
	w.t.Helper()
	w.core.mu.Lock()
	defer w.core.mu.Unlock()
	if len(w.core.issued) == 0 || len(w.core.revoked) != len(w.core.issued) {
		w.t.Fatalf("%d issued, %d revoked", len(w.core.issued), len(w.core.revoked))
	}
}

func TestDeviceThatHangsUpChangesNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.core.slow = 5 * time.Second
		d := newDevice(0, "good")
		ctx, hangUp := context.WithTimeout(t.Context(), time.Second)
		defer hangUp()
		res, err := w.endpoint.Enroll(ctx, d.request(t, scep.PKCSReq))
		if err != nil || res.Status != scep.Pending {
			t.Fatalf("got %v, %v", res, err)
		}
		w.later(10 * time.Second)
		w.told(1, 0)
		w.want(w.ask(d), scep.Success)
		if w.core.issues != 1 {
			t.Errorf("CA was asked %d times", w.core.issues)
		}
	})
}

func TestDownCAIsTriedUntilTheDeadline(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.core.set(func(f *fakeCA) { f.down = true })
		d := newDevice(0, "good")
		w.want(w.ask(d), scep.Pending)
		w.core.set(func(f *fakeCA) { f.down = false })
		w.later(2 * time.Minute)
		w.told(1, 0) // by the settle worker: no device had come back
		w.want(w.ask(d), scep.Success)

		w.core.set(func(f *fakeCA) { f.down = true })
		late := newDevice(1, "good too")
		w.want(w.ask(late), scep.Pending)
		w.later(time.Hour)
		w.told(1, 1)
		if got := w.cloud.failures[0].HResult; got != ca.HResultUnavailable {
			t.Errorf("HRESULT %#x", uint32(got))
		}
		w.wantFailure(w.ask(late), scep.BadRequest)
	})
}

func TestPanicOfABridgeCostsOneTry(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.core.set(func(f *fakeCA) { f.broken = true })
		d := newDevice(0, "good")
		w.want(w.ask(d), scep.Pending)
		w.want(w.ask(d), scep.Pending)
		w.core.set(func(f *fakeCA) { f.broken = false })
		w.later(10 * time.Minute)
		w.want(w.ask(d), scep.Success)
		w.told(1, 0)
	})
}

func TestUnknownOutcomeIsSearchedBeforeASecondSubmission(t *testing.T) {
	for name, carriedOut := range map[string]bool{"carried out": true, "not carried out": false} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.core.set(func(f *fakeCA) { f.mute, f.deafTo = carriedOut, !carriedOut })
				d := newDevice(0, "good")
				w.core.slow = 30 * time.Second
				w.want(w.ask(d), scep.Pending)
				w.later(10 * time.Second)
				w.core.set(func(f *fakeCA) { f.mute, f.deafTo, f.slow = false, false, 0 })
				w.later(2 * time.Minute)
				w.want(w.ask(d), scep.Success)
				if n := len(w.core.issued); n != 1 {
					t.Errorf("the CA has %d certificates, want 1", n)
				}
				w.told(1, 0)
			})
		})
	}
}

// The process dies while the CA is being asked, and the CA was never reached.
func TestSubmissionCutOffByACrashIsRepeated(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.core.set(func(f *fakeCA) { f.deafTo = true })
		d := newDevice(0, "good")
		w.want(w.ask(d), scep.Pending)
		w.dieIn(journal.Submitted, journal.Step{})
		w.core.set(func(f *fakeCA) { f.deafTo = false })
		w.start()
		w.later(time.Second)
		w.told(1, 0)
		w.want(w.ask(d), scep.Success)
		if n := len(w.core.issued); n != 1 {
			t.Errorf("the CA has %d certificates, want 1", n)
		}
	})
}

// The process dies between recording the certificate and telling the cloud.
func TestNotificationCutOffByACrashIsSentAtOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.core.set(func(f *fakeCA) { f.deafTo = true })
		d := newDevice(0, "good")
		w.want(w.ask(d), scep.Pending)
		csr := d.request(t, scep.PKCSReq).CSR
		var cert *x509.Certificate
		var err error
		w.core.set(func(f *fakeCA) { cert, err = f.sign(csr) })
		if err != nil {
			t.Fatal(err)
		}
		issued := cert.Raw
		w.dieIn(journal.Issued, journal.Step{
			Certificate: issued, Serial: "01", Owe: []journal.DebtKind{journal.OweSuccess}, OweAt: time.Now().Add(3 * time.Minute),
		})
		w.start()
		w.later(time.Second)
		w.told(1, 0)
		if res := w.want(w.ask(d), scep.Success); string(res.Certificate) != string(issued) {
			t.Error("the device got another certificate")
		}
	})
}

// TestOneStoreForJournalAndCA runs the short path of an endpoint where nobody
// else knows of the grant: intent and submission are one write.
func TestOneStoreForJournalAndCA(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.stop()
		w.config.SameStore, w.cloud.indifferent = true, true
		w.start()
		w.want(w.ask(newDevice(0, "good")), scep.Success)

		w.core.set(func(f *fakeCA) { f.down = true })
		d := newDevice(1, "good")
		w.want(w.ask(d), scep.Pending)
		if e := w.entries(2)[0]; e.State != journal.Verified {
			t.Errorf("with the CA down the entry is %v, want verified", e.State)
		}
		w.core.set(func(f *fakeCA) { f.down = false; f.slow = time.Minute })
		w.later(30 * time.Second)
		w.restart() // in the middle of a submission
		w.later(2 * time.Minute)
		w.want(w.ask(d), scep.Success)
		if n := len(w.core.issued); n != 2 {
			t.Errorf("the CA has %d certificates, want one a device", n)
		}
	})
}

func TestDenialIsFinalAndTold(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.core.deny = &ca.Denied{HResult: ca.HResultTemplateDenied, Text: "no enrol right"}
		d := newDevice(0, "good")
		w.wantFailure(w.ask(d), scep.BadRequest)
		w.later(5 * time.Second)
		w.told(0, 1)
		if got := w.cloud.failures[0]; got.HResult != ca.HResultTemplateDenied || got.Description != "no enrol right" {
			t.Errorf("cloud was told %#x %q", uint32(got.HResult), got.Description)
		}
		w.core.set(func(f *fakeCA) { f.deny = nil })
		w.wantFailure(w.ask(d), scep.BadRequest) // a denial spends the challenge
		if w.core.issues != 1 {
			t.Errorf("CA was asked %d times", w.core.issues)
		}
	})
}

func TestFailureThatSpentNothingMayBeRetried(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.cloud.indifferent = true // like a static challenge
		w.core.set(func(f *fakeCA) { f.deny = &ca.Denied{HResult: ca.HResultTemplateDenied, Text: "no enrol right"} })
		req := newDevice(0, "good").request(t, scep.PKCSReq)
		w.wantFailure(w.send(req), scep.BadRequest)
		w.core.set(func(f *fakeCA) { f.deny = nil })
		w.wantFailure(w.send(req), scep.BadRequest) // certmonger polls like this
		w.later(11 * time.Minute)
		w.want(w.send(req), scep.Success)
		w.want(w.send(req), scep.Success)
		if w.core.issues != 2 {
			t.Errorf("CA was asked %d times, want once before and once after it was mended", w.core.issues)
		}
	})
}

func TestParkedRequestWaitsForAPerson(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.core.park = true
		d := newDevice(0, "good")
		began := time.Now()
		w.want(w.ask(d), scep.Pending)
		if held := time.Since(began); held != 25*time.Second {
			t.Errorf("exchange was held for %v, want answer_within", held)
		}
		w.later(2 * time.Hour) // longer than a challenge lives
		w.restart()
		w.want(w.send(d.request(t, scep.CertPoll)), scep.Pending)
		w.core.set(func(f *fakeCA) { f.parked["1"].approved = true })
		w.reg.Nudge(t.Context(), w.entries(1)[0].ID)
		w.later(time.Second)
		w.want(w.send(d.request(t, scep.CertPoll)), scep.Success)
		w.told(1, 0)
	})
}

func TestApprovalReachesAHeldExchange(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.core.park = true
		d := newDevice(0, "good")
		w.want(w.ask(d), scep.Pending)
		// The settle worker looks at whole seconds. An approval in the same instant
		// may find the entry in its hands, asked too early, and then waits for the
		// next look at it.
		const approved = 20*time.Second + 500*time.Millisecond
		time.AfterFunc(approved, func() {
			w.core.set(func(f *fakeCA) { f.parked["1"].approved = true })
			w.reg.Nudge(t.Context(), 1)
		})
		began := time.Now()
		w.want(w.send(d.request(t, scep.CertPoll)), scep.Success)
		if held := time.Since(began); held != approved {
			t.Errorf("the certificate came after %v, want at the approval", held)
		}
	})
}

func TestParkedRequestDenied(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.core.park = true
		d := newDevice(0, "good")
		w.want(w.ask(d), scep.Pending)
		w.core.set(func(f *fakeCA) { f.parked["1"].denied = true })
		w.later(5 * time.Minute)
		w.wantFailure(w.send(d.request(t, scep.CertPoll)), scep.BadRequest)
		w.told(0, 1)
	})
}

func TestPersonsDenialIsFinalAlsoWhereNothingWasSpent(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.cloud.indifferent, w.core.park = true, true
		req := newDevice(0, "good").request(t, scep.PKCSReq)
		w.want(w.send(req), scep.Pending)
		w.core.set(func(f *fakeCA) { f.parked["1"].denied = true })
		w.later(time.Hour)
		w.wantFailure(w.send(req), scep.BadRequest)
		w.entries(1)
	})
}
