package identity_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/identity"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/testkeys"
)

// The operator's newer files win over what we made, while the service runs;
// what was encrypted for the pair before is still opened.
func TestNewerFilesOfTheOperatorWin(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	ra := w.open(cfg)
	w.clock.Add(490 * day)
	w.tend(ra)
	made := newDevice(t, w.serve(ra), 4)
	w.clock.Add(10 * day)
	w.operatorPair("signing", 2)
	w.operatorPair("encryption", 3)
	if err := ra.Look(); err != nil {
		t.Fatal(err)
	}
	if i := item(t, ra, identity.KindRASigning); i.Source != cfg.Signing.Certificate || !w.live(ra).Signing.Certificate.Equal(w.fileCertificate(cfg.Signing)) {
		t.Errorf("row %+v", i)
	}
	if err := made.enrol(t.Context()); err != nil {
		t.Errorf("a device that knows the pair before: %v", err)
	}
	if again := w.live(w.open(cfg)); !again.Signing.Certificate.Equal(w.fileCertificate(cfg.Signing)) || len(again.Previous) != 1 {
		t.Error("a restart forgot it")
	}
	w.clock.Add(490 * day)
	w.tend(ra)
	if i := item(t, ra, identity.KindRASigning); i.Source != w.path("identity/ra-corp/0002") {
		t.Errorf("the operator's pair was not renewed in its turn: %+v", i)
	}
}

// A renewal within the second in which init made the files is no complaint
// about them.
func TestRenewalInTheSecondOfInit(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	ra := w.open(cfg)
	if err := ra.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.tend(ra)
	if i := item(t, ra, identity.KindRASigning); i.Problem != "" || i.Source == cfg.Signing.Certificate {
		t.Errorf("row %+v", i)
	}
}

// "ra enroll" leaves the old files beside the new ones: they open messages
// after a restart too.
func TestFilesThatWerePutAsideStillOpen(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.Renew = nil
	ra := w.open(cfg)
	old := newDevice(t, w.serve(ra), 4)
	for _, f := range []string{cfg.Signing.Certificate, cfg.Signing.Key, cfg.Encryption.Certificate, cfg.Encryption.Key} {
		if err := os.Rename(f, f+".old"); err != nil {
			t.Fatal(err)
		}
	}
	if err := ra.Look(); err == nil || ra.Live() == nil {
		t.Fatalf("files that are gone: %v, live %v", err, ra.Live())
	}
	w.clock.Add(day)
	w.operatorPair("signing", 2)
	w.operatorPair("encryption", 3)
	ra = w.open(cfg)
	if err := old.enrolAt(t, w.serve(ra)); err != nil {
		t.Errorf("a device that knows the old pair: %v", err)
	}
}

func (d *device) enrolAt(t *testing.T, url string) error {
	d.client.URL = url
	return d.enrol(t.Context())
}

func TestBadNewFilesKeepTheOldPair(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(w *world)
		says  string
	}{
		{"the certificate is of another key", func(w *world) { w.copy("encryption.crt.pem", "signing.crt.pem") }, "another key"},
		{"the file is no certificate", func(w *world) { w.write(w.path("signing.crt.pem"), []byte("x")) }, "no certificate"},
		{"the key can be read by others", func(w *world) { w.chmod("signing.key.pem", 0o644) }, "chmod 600"},
		{"both are for encryption", func(w *world) {
			w.copy("encryption.crt.pem", "signing.crt.pem")
			w.copy("encryption.key.pem", "signing.key.pem")
		}, "digitalSignature missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			ra := w.open(w.config())
			first := w.live(ra)
			tt.spoil(w)
			err := ra.Look()
			if err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v", err)
			}
			if w.live(ra) != first && !w.live(ra).Signing.Certificate.Equal(first.Signing.Certificate) {
				t.Error("the old pair is not in use any more")
			}
		})
	}
}

func (w *world) copy(from, to string) {
	w.t.Helper()
	b, err := os.ReadFile(w.path(from))
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(w.path(to), b)
}

func (w *world) chmod(name string, mode os.FileMode) {
	w.t.Helper()
	if err := os.WriteFile(w.path(name), append(w.read(name), '\n'), mode); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Chmod(w.path(name), mode); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) read(name string) []byte {
	w.t.Helper()
	b, err := os.ReadFile(w.path(name))
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

// An old key opens until its certificate has expired and thirty days have
// passed since it was replaced; then its files go.
func TestOldPairsServeTheirTime(t *testing.T) {
	w := newWorld(t)
	ra := w.open(w.config())
	w.clock.Add(490 * day)
	w.tend(ra)
	w.clock.Add(200 * day) // the certificate of the files ends after 730
	w.tend(ra)
	if len(w.live(ra).Previous) != 1 {
		t.Error("dropped before its end")
	}
	w.clock.Add(50 * day)
	w.tend(ra)
	if len(w.live(ra).Previous) != 0 {
		t.Error("kept after its end")
	}

	// The CA was down: replaced only after its end, it is kept for thirty days.
	w.ca.set(ca.ErrUnavailable)
	w.clock.Add(600 * day)
	if err := ra.Tend(t.Context()); err == nil || ra.Live() != nil || ra.Expired() == nil {
		t.Fatalf("an expired pair is live (%v, %v)", err, ra.Expired())
	}
	w.ca.set(nil)
	w.clock.Add(25 * time.Hour)
	w.tend(ra)
	if len(w.live(ra).Previous) != 1 || ra.Expired() != nil {
		t.Errorf("%d older pairs, want the one that was replaced just now", len(w.live(ra).Previous))
	}
	if _, err := os.Stat(w.path("identity/ra-corp/0001")); err != nil {
		t.Error(err)
	}
	w.clock.Add(31 * day)
	w.tend(ra)
	if len(w.live(ra).Previous) != 0 {
		t.Error("kept for more than thirty days")
	}
	if _, err := os.Stat(w.path("identity/ra-corp/0001")); err == nil {
		t.Error("its key is still on disk")
	}
}

func TestWithoutRenewalAPersonIsTold(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.Renew = nil
	ra := w.open(cfg)
	if i := item(t, ra, identity.KindRASigning); i.Managed || !strings.Contains(i.Next, "ra enroll --endpoint corp") {
		t.Errorf("row %+v", i)
	}
	w.clock.Add(800 * day)
	w.tend(ra)
	if ra.Live() != nil || ra.Expired() == nil {
		t.Error("an expired pair is live")
	}
	if err := ra.Renew(t.Context()); err == nil {
		t.Error("renewed")
	}
}

// A CA near its own end gives nothing longer: the pair is not renewed without
// end, and the inventory says whose end it is.
func TestCANearItsEndIsNotBothered(t *testing.T) {
	w := newWorld(t)
	w.ca.renew(300*day, "Old CA")
	ra := w.open(w.config())
	for range 48 {
		w.clock.Add(6 * day)
		w.tend(ra)
	}
	if i := item(t, ra, identity.KindRASigning); i.Source != w.path("signing.crt.pem") || !strings.Contains(i.Next, "renew the CA") {
		t.Errorf("row %+v", i)
	}
	if w.live(ra) == nil {
		t.Error("not live")
	}
}

func TestNextCAIsServedWhileTheFileIsThere(t *testing.T) {
	w := newWorld(t)
	cfg := w.config()
	cfg.NextCA = w.path("next.pem")
	ra := w.open(cfg)
	if w.live(ra).Next != nil {
		t.Fatal("a next CA out of nowhere")
	}
	w.clock.Add(10 * day)
	present := w.ca.issuer
	w.ca.renew(10*365*day, "Issuing CA 2")
	next := w.ca.issuer
	chain, err := next.Chain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.ca.issuer = present
	w.clock.Add(-5 * day)
	w.write(cfg.NextCA, pemOf(chain...))
	if err := ra.Look(); err != nil {
		t.Fatal(err)
	}
	if got := w.live(ra).Next; got == nil || !got.Chain[0].Equal(chain[0]) {
		t.Fatal("not announced")
	}
	if i := item(t, ra, identity.KindNextCA); !strings.HasPrefix(i.Next, "announced to devices") {
		t.Errorf("row %+v", i)
	}
	w.clock.Add(10 * day)
	w.tend(ra)
	if i := item(t, ra, identity.KindNextCA); !strings.Contains(i.Next, "have the CA issue with it") {
		t.Errorf("row %+v", i)
	}
	w.write(cfg.NextCA, []byte("nonsense"))
	if err := ra.Look(); err == nil || w.live(ra).Next == nil {
		t.Errorf("a bad file: %v, next %v", err, w.live(ra).Next)
	}
	w.write(cfg.NextCA, pemOf(chain...))
	w.ca.issuer = next
	w.clock.Add(2 * day)
	w.tend(ra)
	if w.live(ra).Next != nil || !w.live(ra).Chain[0].Equal(chain[0]) {
		t.Error("the roll-over did not end")
	}
	if i := item(t, ra, identity.KindNextCA); !strings.HasPrefix(i.Next, "it is the CA now") {
		t.Errorf("row %+v", i)
	}
	if err := os.Remove(cfg.NextCA); err != nil {
		t.Fatal(err)
	}
	if err := ra.Look(); err != nil {
		t.Fatal(err)
	}
}

// watch has a TLS pair in files.
func (w *world) watch(onChange func()) *identity.Watched {
	w.t.Helper()
	watched, err := identity.OpenWatched(identity.WatchedConfig{
		Name: "listener devices", Kind: identity.KindTLS, Files: w.tlsPair(0), Clock: w.clock.Now, Log: w.logger,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	if onChange != nil {
		watched.OnChange(onChange)
	}
	return watched
}

func (w *world) tlsPair(key int) identity.Files {
	w.t.Helper()
	issuer, _ := w.ca.state()
	cert, err := issuer.IssueTLS(w.t.Context(), []string{"scep.corp.example"}, testkeys.RSA2048(key).Public())
	if err != nil {
		w.t.Fatal(err)
	}
	return w.writePair("tls", testkeys.RSA2048(key), cert)
}

func TestWatchedPairIsReplacedLive(t *testing.T) {
	w := newWorld(t)
	told := 0
	watched := w.watch(func() { told++ })
	first := watched.Leaf()
	if err := watched.Look(); err != nil || told != 0 {
		t.Fatalf("nothing changed: %v, told %d times", err, told)
	}
	w.clock.Add(100 * day)
	w.tlsPair(1)
	if err := watched.Look(); err != nil {
		t.Fatal(err)
	}
	got, err := watched.GetCertificate(nil)
	if err != nil || got.Leaf.Equal(first) || told != 1 {
		t.Errorf("%v, told %d times", err, told)
	}
	w.clock.Add(500 * day)
	if _, err := watched.GetCertificate(nil); err == nil {
		t.Error("an expired certificate was served")
	}
}

// One file may have both certificate and key, as long as nobody replaces them
// one by one: what a person renews is read, and what we renew has files of its
// own.
func TestCertificateAndKeyInOneFile(t *testing.T) {
	w := newWorld(t)
	one := func(role string) identity.Files {
		file := w.path(role + ".pem")
		w.write(file, slices.Concat(w.read(role+".crt.pem"), w.read(role+".key.pem")))
		return identity.Files{Certificate: file, Key: file}
	}
	w.tlsPair(0)
	watched, err := identity.OpenWatched(identity.WatchedConfig{
		Name: "listener devices", Kind: identity.KindTLS, Files: one("tls"), Clock: w.clock.Now, Log: w.logger,
	})
	if err != nil {
		t.Fatal(err)
	}
	first := watched.Leaf()
	w.tlsPair(1)
	one("tls")
	if err := watched.Look(); err != nil || watched.Leaf().Equal(first) {
		t.Errorf("a new pair in one file was not taken: %v", err)
	}
	cfg := w.config()
	cfg.Signing, cfg.Encryption = one("signing"), one("encryption")
	before := w.read("signing.pem")
	ra := w.open(cfg)
	old := w.live(ra)
	w.clock.Add(500 * day)
	w.tend(ra)
	if w.live(ra) == old {
		t.Error("the RA was not renewed")
	}
	if !bytes.Equal(w.read("signing.pem"), before) {
		t.Error("the operator's file was touched")
	}
}

func TestBadNewWatchedPairKeepsTheOldAndSaysSoOnce(t *testing.T) {
	issue := func(w *world) *x509.Certificate {
		issuer, _ := w.ca.state()
		cert, err := issuer.IssueTLS(w.t.Context(), []string{"scep.corp.example"}, testkeys.RSA2048(1).Public())
		if err != nil {
			w.t.Fatal(err)
		}
		return cert
	}
	for _, tt := range []struct {
		name  string
		spoil func(w *world)
		says  string
	}{
		{"certificate without its key", func(w *world) { w.write(w.path("tls.crt.pem"), pemOf(issue(w))) }, "cannot be used"},
		{"key that others can read", func(w *world) { w.chmod("tls.key.pem", 0o640) }, "chmod 600"},
		{"expired", func(w *world) {
			w.clock.Add(-450 * day)
			cert := issue(w)
			w.clock.Add(450 * day)
			w.writePair("tls", testkeys.RSA2048(1), cert)
		}, "expired"},
		{"not yet valid", func(w *world) {
			w.clock.Add(20 * day)
			cert := issue(w)
			w.clock.Add(-20 * day)
			w.writePair("tls", testkeys.RSA2048(1), cert)
		}, "not valid before"},
		{"for clients only", func(w *world) { w.writePair("tls", testkeys.RSA2048(1), w.clientCertificate(1)) }, "serverAuth"},
		{"gone", func(w *world) {
			if err := os.Remove(w.path("tls.crt.pem")); err != nil {
				w.t.Fatal(err)
			}
		}, "no such file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.clock.Add(-500 * day)
			w.ca.renew(10*365*day, "Issuing CA")
			w.clock.Add(500 * day)
			watched := w.watch(nil)
			first := watched.Leaf()
			keeper := w.keeper()
			keeper.Add(watched)
			tt.spoil(w)
			for range 5 {
				keeper.Tend(t.Context())
				w.clock.Add(time.Minute)
			}
			said := w.log.FilterMessage("own certificate needs attention").All()
			if len(said) != 1 || !strings.Contains(said[0].ContextMap()["error"].(string), tt.says) {
				t.Errorf("said %d times: %v", len(said), said)
			}
			if got, err := watched.GetCertificate(nil); err != nil || !got.Leaf.Equal(first) {
				t.Errorf("the old certificate is not served: %v", err)
			}
			if i := item(t, watched, identity.KindTLS); !strings.Contains(i.Problem, tt.says) {
				t.Errorf("row %+v", i)
			}
			w.tlsPair(2)
			keeper.Tend(t.Context())
			if i := item(t, watched, identity.KindTLS); i.Problem != "" || watched.Leaf().Equal(first) {
				t.Errorf("a good pair was not taken: %+v", i)
			}
		})
	}
}

// clientCertificate is for the key of a front end.
func (w *world) clientCertificate(key int) *x509.Certificate {
	w.t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "front.corp.example"}}, testkeys.RSA2048(key))
	if err != nil {
		w.t.Fatal(err)
	}
	csr, err := pkcs10.Parse(der)
	if err != nil {
		w.t.Fatal(err)
	}
	issuer, _ := w.ca.state()
	issued, err := issuer.Issue(w.t.Context(), ca.Request{CSR: csr, Template: "ra"}) // a profile for clients
	if err != nil {
		w.t.Fatal(err)
	}
	return issued.Certificate
}

func TestCertificateWithTwoTasksAndTheWrongUsage(t *testing.T) {
	w := newWorld(t)
	files := w.writePair("client", testkeys.RSA2048(1), w.clientCertificate(1))
	keeper := w.keeper()
	for _, use := range []struct {
		name string
		kind identity.Kind
	}{{"endpoint branch", identity.KindCRPClient}, {"listener devices", identity.KindTLS}} {
		own, err := identity.OpenWatched(identity.WatchedConfig{Name: use.name, Kind: use.kind, Files: files, Clock: w.clock.Now})
		if err != nil {
			t.Fatal(err)
		}
		keeper.Add(own)
	}
	for _, i := range keeper.Inventory() {
		if !strings.Contains(i.Next, "the same certificate serves") {
			t.Errorf("row %+v", i)
		}
		if wrong := i.Kind == identity.KindTLS; wrong != strings.Contains(i.Problem, "serverAuth") {
			t.Errorf("row %+v", i)
		}
	}
}
