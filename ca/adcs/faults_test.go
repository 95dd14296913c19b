package adcs

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/adcstest"
	"github.com/certconnector/certconnector/ca/catest"
)

// bothRoads runs a test for each road of issuing.
func bothRoads(t *testing.T, test func(t *testing.T, l *lab, c *CA)) {
	for _, road := range []Road{DCOM, ICPR} {
		t.Run(string(road), func(t *testing.T) {
			l := newLab(t, nil, adcstest.Options{})
			test(t, l, l.connect(t, "svc", Config{Issue: []Road{road}, Find: CSRA, Revoke: CSRA}))
		})
	}
}

func newRequest(t testing.TB) ca.Request {
	return ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{}), Template: issuing}
}

func queryOf(req ca.Request) ca.Query {
	return ca.Query{CSRDigest: req.CSR.Digest(), KeyDigest: req.CSR.KeyDigest(), From: time.Now().Add(-time.Hour), To: time.Now().Add(time.Minute)}
}

func TestLostAnswerIsUnknownThenFound(t *testing.T) {
	for name, fault := range map[string]adcstest.Fault{
		"connection cut after issuing": adcstest.DropAfterIssue, "reply damaged": adcstest.CorruptReply,
	} {
		t.Run(name, func(t *testing.T) {
			bothRoads(t, func(t *testing.T, l *lab, c *CA) {
				mustIssue(t, c) // activation and sign-in are over
				req := newRequest(t)
				l.ca.Fail(fault, 1)
				_, err := c.Issue(t.Context(), req)
				if !errors.Is(err, ca.ErrOutcomeUnknown) || errors.Is(err, ca.ErrUnavailable) {
					t.Fatalf("error %v, want ErrOutcomeUnknown", err)
				}
				if !strings.Contains(err.Error(), "CA issuing") {
					t.Errorf("error %v does not name the CA", err)
				}
				found, err := (finder{c}).Find(t.Context(), queryOf(req))
				if err != nil || !bytes.Equal(found.Certificate.RawSubjectPublicKeyInfo, req.CSR.RawSubjectPublicKeyInfo) {
					t.Errorf("Find: %v", err)
				}
				if n := len(l.ca.Rows()); n != 2 {
					t.Errorf("%d requests in the CA's database, want 2", n)
				}
			})
		})
	}
}

func mustIssue(t testing.TB, c *CA) *ca.Issued {
	t.Helper()
	got, err := c.Issue(t.Context(), newRequest(t))
	if err != nil {
		t.Fatalf("Issue: %v", err)
	}
	return got
}

func TestStalledCAEndsWithTheDeadline(t *testing.T) {
	bothRoads(t, func(t *testing.T, l *lab, c *CA) {
		mustIssue(t, c)
		patient := c.deadline
		// A busy machine may need longer than the deadline to reach the CA: then
		// nothing was sent, and it is tried with a longer one.
		for c.deadline = time.Second; ; c.deadline *= 4 {
			l.ca.Fail(adcstest.Stall, 1)
			_, err := c.Issue(t.Context(), newRequest(t))
			if l.ca.Left(adcstest.Stall) > 0 && errors.Is(err, ca.ErrUnavailable) && c.deadline < time.Minute {
				continue
			}
			if !errors.Is(err, ca.ErrOutcomeUnknown) {
				t.Errorf("error %v, want ErrOutcomeUnknown", err)
			}
			break
		}
		l.ca.Heal()
		c.deadline = patient
		mustIssue(t, c)
	})
}

func TestAnothersCertificateIsNeverReleased(t *testing.T) {
	bothRoads(t, func(t *testing.T, l *lab, c *CA) {
		other := ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{Key: catestKey(1)}), Template: issuing}
		if _, err := c.Issue(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		l.ca.Fail(adcstest.WrongCertificate, 1)
		req := newRequest(t)
		got, err := c.Issue(t.Context(), req)
		if got != nil || !errors.Is(err, ca.ErrOutcomeUnknown) || !errors.Is(err, errOtherKey) {
			t.Fatalf("certificate: %t, error %v; want ErrOutcomeUnknown over another key", got != nil, err)
		}
		found, err := (finder{c}).Find(t.Context(), queryOf(req))
		if err != nil || !bytes.Equal(found.Certificate.RawSubjectPublicKeyInfo, req.CSR.RawSubjectPublicKeyInfo) {
			t.Errorf("Find: %v", err)
		}
	})
}

func TestSuspendedCAIsUnavailable(t *testing.T) {
	bothRoads(t, func(t *testing.T, l *lab, c *CA) {
		l.ca.Fail(adcstest.Suspended, 1)
		_, err := c.Issue(t.Context(), newRequest(t))
		if !errors.Is(err, ca.ErrUnavailable) || !strings.Contains(err.Error(), "backup") {
			t.Errorf("error %v, want ErrUnavailable with advice", err)
		}
		if n := len(l.ca.Rows()); n != 0 {
			t.Errorf("%d requests in the CA's database, want none", n)
		}
	})
}

func TestRestartOfTheCABetweenRequests(t *testing.T) {
	bothRoads(t, func(t *testing.T, l *lab, c *CA) {
		got := mustIssue(t, c)
		for range 3 {
			if err := l.ca.Restart(); err != nil {
				t.Fatal(err)
			}
			waitForEnds(c) // the kernel tells us a little later
			mustIssue(t, c)
		}
		if err := (revoker{c}).Revoke(t.Context(), got.Certificate.SerialNumber, ca.Superseded); err != nil {
			t.Errorf("Revoke: %v", err)
		}
	})
}

// waitForEnds waits until every connection that is kept for requests has heard
// that the CA has closed it.
func waitForEnds(c *CA) {
	for _, p := range c.requests {
		for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(time.Millisecond) {
			p.mu.Lock()
			alive := slices.ContainsFunc(p.idle, func(k kept[requester]) bool { return k.conn.wire().alive() })
			p.mu.Unlock()
			if !alive {
				break
			}
		}
	}
}

func TestNextRoadIsTakenWhenOneIsClosed(t *testing.T) {
	for _, c := range []struct {
		name  string
		rpc   adcstest.RPCOptions
		roads []Road
	}{
		{"DCOM is off", adcstest.RPCOptions{NoDCOM: true}, []Road{DCOM, ICPR}},
		{"plain RPC is off", adcstest.RPCOptions{NoICPR: true}, []Road{ICPR, DCOM}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, nil, adcstest.Options{})
			l.rpc.Close()
			var err error
			if l.rpc, err = l.ca.ServeRPC(c.rpc); err != nil {
				t.Fatal(err)
			}
			defer l.rpc.Close()
			mustIssue(t, l.connect(t, "svc", Config{Issue: c.roads}))
			alone := l.connect(t, "svc", Config{Issue: c.roads[:1], Certificates: chainOf(l)})
			if _, err := alone.Issue(t.Context(), newRequest(t)); !errors.Is(err, ca.ErrUnavailable) {
				t.Errorf("first road alone: error %v, want ErrUnavailable", err)
			}
		})
	}
}

func TestRightsAreNamed(t *testing.T) {
	l := newLab(t, nil, adcstest.Options{})
	issued := mustIssue(t, l.connect(t, "svc", Config{}))
	low := l.connect(t, "low", Config{})
	_, err := low.Issue(t.Context(), newRequest(t))
	if denied, ok := errors.AsType[*ca.Denied](err); !ok || uint32(denied.HResult) != codeEnrollDenied {
		t.Errorf("enrolling without the right: %v, want CERTSRV_E_ENROLL_DENIED", err)
	}
	enroll := l.connect(t, "enroll", Config{Revoke: CSRA, Find: CSRA})
	err = (revoker{enroll}).Revoke(t.Context(), issued.Certificate.SerialNumber, ca.Superseded)
	if !errors.Is(err, ca.ErrForbidden) || !strings.Contains(err.Error(), "Issue and Manage Certificates") {
		t.Errorf("revoking without the right: %v, want ErrForbidden that names it", err)
	}
	template := newRequest(t)
	template.Template = "Machine"
	_, err = enroll.Issue(t.Context(), template)
	if denied, ok := errors.AsType[*ca.Denied](err); !ok || denied.HResult != ca.HResultTemplateDenied {
		t.Errorf("template without the right: %v, want CERTSRV_E_TEMPLATE_DENIED", err)
	}
}

func TestSearchWithoutTheRightIsForbidden(t *testing.T) {
	l := newLab(t, nil, adcstest.Options{})
	low := l.connect(t, "low", Config{Find: CSRA})
	_, err := (finder{low}).Find(t.Context(), queryOf(newRequest(t)))
	if !errors.Is(err, ca.ErrForbidden) || errors.Is(err, ca.ErrNotFound) || !strings.Contains(err.Error(), "Read") {
		t.Errorf("error %v, want ErrForbidden that names the right", err)
	}
}

func TestWrongPasswordIsUnavailable(t *testing.T) {
	l := newLab(t, nil, adcstest.Options{})
	nobody := l.connect(t, "nobody", Config{})
	_, err := nobody.Issue(t.Context(), newRequest(t))
	if !errors.Is(err, ca.ErrUnavailable) {
		t.Errorf("error %v, want ErrUnavailable", err)
	}
}

func TestMisspelledCAIsUnavailable(t *testing.T) {
	bothRoads(t, func(t *testing.T, _ *lab, c *CA) {
		c.authority = "Another CA"
		for _, p := range c.requests {
			p.close()
		}
		for road := range c.requests {
			dial := c.dialDCOM
			if road == ICPR {
				dial = c.dialICPR
			}
			c.requests[road] = newPool(1, c.now, dial)
		}
		_, err := c.Issue(t.Context(), newRequest(t))
		if !errors.Is(err, ca.ErrUnavailable) || !strings.Contains(err.Error(), "name of the CA") {
			t.Errorf("error %v, want ErrUnavailable with advice about the name", err)
		}
		if _, err := c.Collect(t.Context(), "1"); err == nil || errors.Is(err, ca.ErrNotFound) {
			t.Errorf("Collect: error %v, want one that is not final", err)
		}
	})
}

func TestRowMayStillComeAfterALostAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &CA{now: time.Now, deadline: time.Minute, sent: map[[32]byte]time.Time{}}
		q := ca.Query{CSRDigest: [32]byte{1}}
		c.remember(q.CSRDigest)
		time.Sleep(80 * time.Second)
		if err := c.absent(q, "search"); !errors.Is(err, ca.ErrOutcomeUnknown) {
			t.Errorf("80 s after the submission: %v, want ErrOutcomeUnknown", err)
		}
		time.Sleep(11 * time.Second)
		if err := c.absent(q, "search"); !errors.Is(err, ca.ErrNotFound) {
			t.Errorf("91 s after the submission: %v, want ErrNotFound", err)
		}
	})
}

// A process that was killed left nothing in memory: the journal's time of the
// submission counts.
func TestRowMayStillComeAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &CA{now: time.Now, deadline: time.Minute, sent: map[[32]byte]time.Time{}}
		q := ca.Query{CSRDigest: [32]byte{1}, Sent: time.Now()}
		time.Sleep(80 * time.Second)
		if err := c.absent(q, "search"); !errors.Is(err, ca.ErrOutcomeUnknown) {
			t.Errorf("80 s after the submission: %v, want ErrOutcomeUnknown", err)
		}
		time.Sleep(11 * time.Second)
		if err := c.absent(q, "search"); !errors.Is(err, ca.ErrNotFound) {
			t.Errorf("91 s after the submission: %v, want ErrNotFound", err)
		}
	})
}
