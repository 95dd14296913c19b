package identity_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/identity"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
)

func TestRenewsAtTwoThirdsOfLifeAsAPair(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	ra := w.open(cfg)
	first := w.live(ra)
	old := newDevice(t, w.serve(ra), 4)
	if i := item(t, ra, identity.KindRAEncryption); !i.Managed || i.Problem != "" || !strings.HasPrefix(i.Next, "renewed on ") {
		t.Errorf("row %+v", i)
	}
	w.clock.Add(480 * day)
	w.tend(ra)
	if w.live(ra) != first {
		t.Fatal("renewed before its time")
	}
	w.clock.Add(10 * day)
	w.tend(ra)
	second := w.live(ra)
	if second.Signing.Certificate.Equal(first.Signing.Certificate) || second.Encryption.Certificate.Equal(first.Encryption.Certificate) {
		t.Fatal("not renewed as a pair")
	}
	if testkeys.RSA2048(0).Equal(second.Signing.Key) || testkeys.RSA2048(1).Equal(second.Encryption.Key) {
		t.Error("a key was kept")
	}
	if got := second.Signing.Certificate.Subject.CommonName; got != "scep.corp.example RA signing" {
		t.Errorf("subject %q", got)
	}
	if err := old.enrol(t.Context()); err != nil {
		t.Errorf("a device that knows the old pair: %v", err)
	}
	if i := item(t, ra, identity.KindRAPrevious); !i.NotAfter.Equal(first.Encryption.Certificate.NotAfter) {
		t.Errorf("row of the old pair %+v", i)
	}

	cfg.Chain = identity.NewChain(w.ca.Chain, w.clock.Now)
	w.ca.set(ca.ErrUnavailable) // a restart needs no CA
	again := w.live(w.open(cfg))
	if !again.Signing.Certificate.Equal(second.Signing.Certificate) || len(again.Previous) != 1 || len(again.PreviousSigning) != 1 {
		t.Error("a restart forgot the generations")
	}
}

func TestCombinedShape(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.Material.Shape, cfg.Signing, cfg.Encryption = scep.CombinedRA, w.operatorPair("combined", 2), identity.Files{}
	ra := w.open(cfg)
	old := newDevice(t, w.serve(ra), 4)
	w.clock.Add(490 * day)
	w.tend(ra)
	if i := item(t, ra, identity.KindRACombined); i.Source != w.path("identity/ra-corp/0001") {
		t.Errorf("row %+v", i)
	}
	if err := old.enrol(t.Context()); err != nil {
		t.Error(err)
	}
}

// The CA was renewed: the pair follows at the next look at the chain, which is
// at most a day later, and old devices are still served.
func TestRenewsAtOnceWhenTheCAChanges(t *testing.T) {
	w := newWorld(t)
	ra := w.open(w.config())
	old := newDevice(t, w.serve(ra), 4)
	w.clock.Add(100 * day)
	w.tend(ra)
	w.ca.renew(10*365*day, "Issuing CA 2")
	w.clock.Add(25 * time.Hour)
	w.tend(ra)
	now := w.live(ra)
	if now.Chain[0].Subject.CommonName != "Issuing CA 2" || now.Signing.Certificate.CheckSignatureFrom(now.Chain[0]) != nil {
		t.Fatalf("the RA is still of %q", now.Chain[0].Subject)
	}
	if err := old.enrol(t.Context()); err != nil {
		t.Errorf("a device that knows the old pair: %v", err)
	}
}

// While the new CA certificate is known and it does not issue, devices meet the
// old pair with the chain that it belongs to, also after a restart.
func TestOldPairServesWhileTheNewCADoesNotIssue(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	refuse := errors.New("no rights")
	broken := true
	cfg.Renew = &identity.Renewal{CA: authority{w.ca, func() error {
		if broken {
			return refuse
		}
		return nil
	}}, SigningTemplate: "ra"}
	ra := w.open(cfg)
	w.ca.renew(10*365*day, "Issuing CA 2")
	w.clock.Add(25 * time.Hour)
	err := ra.Tend(t.Context())
	if err == nil || !strings.Contains(err.Error(), "no rights") || !strings.Contains(err.Error(), "CA's certificate has changed") {
		t.Fatalf("got %v", err)
	}
	if got := w.live(ra).Chain[0].Subject.CommonName; got != "Issuing CA" {
		t.Errorf("the old pair is shown with %q", got)
	}
	if i := item(t, ra, identity.KindRASigning); !strings.Contains(i.Problem, "no rights") || !strings.HasPrefix(i.Next, "tried again") {
		t.Errorf("row %+v", i)
	}
	ra = w.open(cfg)
	if got := w.live(ra).Chain[0].Subject.CommonName; got != "Issuing CA" {
		t.Errorf("after a restart the old pair is shown with %q", got)
	}
	broken = false
	w.clock.Add(25 * time.Hour)
	w.tend(ra)
	if got := w.live(ra).Chain[0].Subject.CommonName; got != "Issuing CA 2" {
		t.Errorf("shown with %q", got)
	}
}

// authority fails as it is told, before the CA is asked.
type authority struct {
	*fakeCA
	fails func() error
}

func (a authority) Issue(ctx ctx, req ca.Request) (*ca.Issued, error) {
	if err := a.fails(); err != nil {
		return nil, err
	}
	return a.fakeCA.Issue(ctx, req)
}

func TestParkedRequestsAreCollectedAndNeverHalfUsed(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.Renew = &identity.Renewal{CA: w.ca, SigningTemplate: "careful"}
	ra := w.open(cfg)
	first := w.live(ra)
	w.clock.Add(490 * day)
	err := ra.Tend(t.Context())
	if err == nil || !strings.Contains(err.Error(), "approval of request") {
		t.Fatalf("got %v", err)
	}
	ids := parked(t, w.path("identity/ra-corp/next"))
	if len(ids) != 2 {
		t.Fatalf("%d parked requests", len(ids))
	}
	for n, id := range ids {
		if w.live(ra) != first {
			t.Fatal("half a pair is in use")
		}
		if err := w.ca.issuer.Approve(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			ra = w.open(cfg) // a restart goes on with the same requests
			first = w.live(ra)
		}
		w.clock.Add(2 * time.Hour)
		if err := ra.Tend(t.Context()); n == 0 && err == nil || n == 1 && err != nil {
			t.Fatalf("after %d approvals: %v", n+1, err)
		}
	}
	if w.live(ra) == first {
		t.Error("not in use after the approvals")
	}
	if _, err := os.Stat(w.path("identity/ra-corp/next")); !errors.Is(err, os.ErrNotExist) {
		t.Error("something is left of the making")
	}
}

func parked(t *testing.T, folder string) (ids []string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(folder, "*.pending"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, strings.TrimSpace(string(b)))
	}
	return ids
}

// An answer that was lost is looked for before anything is asked again.
func TestLostAnswerIsFound(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.Renew = &identity.Renewal{CA: w.ca, SigningTemplate: "ra"}
	ra := w.open(cfg)
	w.clock.Add(490 * day)
	w.ca.lost = true
	if err := ra.Tend(t.Context()); err == nil {
		t.Fatal("a lost answer was no error")
	}
	ra = w.open(cfg)
	w.clock.Add(2 * time.Hour)
	w.tend(ra)
	if item(t, ra, identity.KindRASigning).Source == cfg.Signing.Certificate {
		t.Error("not renewed")
	}
	if w.ca.issues != 2 {
		t.Errorf("%d requests for two certificates", w.ca.issues)
	}
}

// A crash between any two steps of the making is taken up, and no half pair is
// ever used.
func TestCutOffBetweenAnyTwoFiles(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.Renew.KeyBits = 2048
	ra := w.open(cfg)
	w.clock.Add(490 * day)
	w.tend(ra)
	done := w.path("identity/ra-corp/0001")
	next := w.path("identity/ra-corp/next")
	for _, missing := range [][]string{
		{"made"}, {"chain.pem", "made"}, {"signing.crt.pem"}, {"encryption.crt.pem", "made"}, {"encryption.crt.pem", "encryption.key.pem"},
		{"signing.crt.pem", "encryption.crt.pem", "encryption.key.pem"},
	} {
		t.Run("without "+strings.Join(missing, " and "), func(t *testing.T) {
			if err := os.Rename(done, next); err != nil {
				t.Fatal(err)
			}
			for _, name := range missing {
				if err := os.Remove(filepath.Join(next, name)); err != nil {
					t.Fatal(err)
				}
			}
			ra := w.open(cfg)
			if got := w.live(ra); !got.Signing.Certificate.Equal(w.fileCertificate(cfg.Signing)) || !got.Encryption.Certificate.Equal(w.fileCertificate(cfg.Encryption)) {
				t.Error("half a generation is in use")
			}
			w.tend(ra)
			if i := item(t, ra, identity.KindRASigning); i.Source != done {
				t.Errorf("not finished: %+v", i)
			}
		})
	}
}

// What cannot be read in the state folder is said, and the generation before
// it serves.
func TestDamagedGeneration(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	ra := w.open(cfg)
	w.clock.Add(490 * day)
	w.tend(ra)
	w.write(w.path("identity/ra-corp/0001/encryption.key.pem"), []byte("nonsense"))
	ra = w.open(cfg)
	if got := w.live(ra); !got.Signing.Certificate.Equal(w.fileCertificate(cfg.Signing)) {
		t.Error("a damaged generation is in use")
	}
	if i := item(t, ra, identity.KindRASigning); !strings.Contains(i.Problem, "0001") {
		t.Errorf("row %+v", i)
	}
	w.tend(ra)
	if i := item(t, ra, identity.KindRASigning); i.Source != w.path("identity/ra-corp/0002") {
		t.Errorf("row %+v", i)
	}
}

// Somebody asks for a renewal long before it is due, of a CA that wants
// approval: it is collected without being asked for again, and a denial ends it.
func TestRenewalThatWasAskedForIsCarriedThrough(t *testing.T) {
	for _, approved := range []bool{true, false} {
		w := newWorld(t)
		cfg := w.config()
		cfg.Renew = &identity.Renewal{CA: w.ca, SigningTemplate: "careful"}
		ra := w.open(cfg)
		first := w.live(ra)
		if err := ra.Renew(t.Context()); err == nil || !strings.Contains(err.Error(), "approval") {
			t.Fatalf("got %v", err)
		}
		for _, id := range parked(t, w.path("identity/ra-corp/next")) {
			decide := func() error { return w.ca.issuer.Deny(t.Context(), id, "not ours") }
			if approved {
				decide = func() error { return w.ca.issuer.Approve(t.Context(), id) }
			}
			if err := decide(); err != nil {
				t.Fatal(err)
			}
		}
		w.clock.Add(2 * time.Hour)
		err := ra.Tend(t.Context())
		if approved != (err == nil) || approved != (w.live(ra) != first) {
			t.Errorf("approved %v: %v", approved, err)
		}
		w.clock.Add(50 * day)
		w.tend(ra)
		if left := parked(t, w.path("identity/ra-corp/next")); len(left) > 1 {
			t.Errorf("a denied request was sent again: %v", left)
		}
	}
}

// A CA that refuses is asked again after an hour, then less and less often.
func TestRetriesGrow(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	tries := 0
	cfg.Renew = &identity.Renewal{SigningTemplate: "ra", CA: authority{w.ca, func() error {
		tries++
		return &ca.Denied{HResult: ca.HResultTemplateDenied, Text: "no"}
	}}}
	ra := w.open(cfg)
	w.clock.Add(490 * day)
	var byDay []int
	for range 20 {
		before := tries
		for range 24 {
			if err := ra.Tend(t.Context()); err == nil {
				t.Fatal("renewed")
			}
			w.clock.Add(time.Hour)
		}
		byDay = append(byDay, tries-before)
	}
	if byDay[0] < 4 || byDay[0] > 6 || byDay[10] > 2 || byDay[19] > 2 {
		t.Errorf("tries by day %v", byDay)
	}
	w.clock.Add(217 * day) // nearly at its end
	before := tries
	for range 24 {
		_ = ra.Tend(t.Context())
		w.clock.Add(time.Hour)
	}
	if tries-before < 2 {
		t.Errorf("%d tries on one of the last days", tries-before)
	}
}
