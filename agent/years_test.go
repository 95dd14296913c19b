package agent_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/agent/identity"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
)

const (
	oneDay   = 24 * time.Hour
	threeYrs = 3 * 365 * oneDay
	stride   = 12 * time.Hour // between two looks at what is served
)

// calendar is a clock that stands still until it is put forward, and then waits
// until everybody who waited for a time has done what they woke for.
type calendar struct {
	mu      sync.Mutex
	moved   *sync.Cond
	now     time.Time
	waiting map[*sleeper]bool
}

type sleeper struct {
	until time.Time
	wake  chan struct{}
}

func newCalendar() *calendar {
	c := &calendar{now: time.Now().Truncate(time.Second), waiting: map[*sleeper]bool{}}
	c.moved = sync.NewCond(&c.mu)
	return c
}

func (c *calendar) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Wait is agent.Options.Wait.
func (c *calendar) Wait(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	s := &sleeper{until: c.now.Add(d), wake: make(chan struct{})}
	c.waiting[s] = true
	c.moved.Broadcast()
	c.mu.Unlock()
	select {
	case <-s.wake:
		return nil
	case <-ctx.Done():
		c.mu.Lock()
		delete(c.waiting, s)
		c.mu.Unlock()
		return ctx.Err()
	}
}

// advance lets time pass once n are waiting, and returns when they wait again.
func (c *calendar) advance(d time.Duration, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.quiet(n)
	c.now = c.now.Add(d)
	for s := range c.waiting {
		if !c.now.Before(s.until) {
			close(s.wake)
			delete(c.waiting, s)
		}
	}
	c.quiet(n)
}

// quiet waits until n wait. The caller holds mu.
func (c *calendar) quiet(n int) {
	for len(c.waiting) < n {
		c.moved.Wait()
	}
}

// TestThreeYearsAlone leaves a connector alone for three years. Whatever it
// issues to itself is renewed; what a person must renew is warned about at
// 60, 30, 14 and 7 days and taken up without a restart; and never does it show
// an expired certificate.
func TestThreeYearsAlone(t *testing.T) {
	if testing.Short() {
		t.Skip("three years take half a minute")
	}
	w := newLonely(t)
	w.start()
	defer w.mustStop()
	begin := w.clock.Now()
	for day := 0; w.clock.Now().Sub(begin) < threeYrs; day++ {
		for range int(oneDay / stride) {
			w.clock.advance(stride, 2) // the keeper, and the Entra certificate's task
			w.look()
		}
		if day%60 == 0 {
			w.enrols(testkeys.RSA2048(day / 60 % 8))
		}
		if left := w.files.NotAfter.Sub(w.clock.Now()); left < 7*oneDay && left > 0 {
			w.checkWarnings()
			w.replaceFiles()
		}
	}
	for what, least := range map[string]int{"endpoint": 5, "issued": 3, "entra": 4, "ocsp": 20, "files": 4} {
		if got := len(w.seen[what]); got < least {
			t.Errorf("%s: %d certificates in three years, want %d or more", what, got, least)
		}
	}
	for _, i := range w.inventory() {
		if i.Problem != "" {
			t.Errorf("after three years %s %s has a problem: %s", i.Name, i.Kind, i.Problem)
		}
	}
	if n := len(w.cloud.Keys()); n > 2 {
		t.Errorf("%d keys are left at the app registration", n)
	}
}

// lonely is a service of which everything has an end.
type lonely struct {
	*service
	cloud *intunetest.Cloud
	clock *calendar
	logs  *observer.ObservedLogs
	roots *x509.CertPool
	files *x509.Certificate // of the listener that a person looks after
	seen  map[string]map[string]bool
	made  int // certificates of that listener
}

func newLonely(t *testing.T) *lonely {
	w := &lonely{clock: newCalendar(), seen: map[string]map[string]bool{}}
	w.service, w.cloud = installIntuneAt(t, w.clock.Now)
	folder := w.cfg.StateDir
	w.roots = x509.NewCertPool()
	w.roots.AddCert(readCert(t, filepath.Join(folder, "ca", "ca.crt.pem")))
	w.cfg.Listeners = append(w.cfg.Listeners,
		agent.Listener{Name: "issued", Address: freePort(t), Faces: []string{agent.FaceStatus}, TLS: &agent.ListenerTLS{IssuedBy: w.cfg.CAs[0].Name, Names: []string{"127.0.0.1"}}},
		agent.Listener{Name: "files", Address: freePort(t), Faces: []string{agent.FaceStatus}, TLS: &agent.ListenerTLS{
			Certificate: filepath.Join(folder, "files.crt.pem"), Key: filepath.Join(folder, "files.key.pem"),
		}},
		agent.Listener{Name: "ocsp", Address: freePort(t), Faces: []string{agent.FaceOCSP}, PlainHTTP: true})
	var managed agent.ManagedCredential
	managed.SetDefaults()
	managed.Host, managed.Folder = "connector.corp.example", filepath.Join(folder, "entra-managed")
	w.cfg.Tenants[0].Credential = agent.Credential{Managed: &managed}
	w.service.t = t
	w.replaceFiles()
	w.register()
	return w
}

// register does what an administrator does once: it uploads the certificate.
func (w *lonely) register() {
	w.t.Helper()
	store, err := agent.OpenEntra(w.cfg, w.cfg.Tenants[0].Name, zap.NewNop())
	if err != nil {
		w.t.Fatal(err)
	}
	made, err := store.Create(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.cloud.SetCertificates(intunetest.ContosoID, intunetest.ContosoClient, readCert(w.t, made.PEM)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *lonely) start() {
	w.t.Helper()
	core, logs := observer.New(zapcore.WarnLevel)
	w.logs = logs
	w.startWith(agent.Options{Logger: zap.New(core), Clock: w.clock.Now, Wait: w.clock.Wait})
}

func (w *lonely) inventory() []identity.Item {
	w.t.Helper()
	items, err := w.running.Certificates(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return items
}

// look sees what is shown at this moment.
func (w *lonely) look() {
	w.t.Helper()
	w.shown("issued", w.handshake("issued"))
	w.shown("files", w.handshake("files"))
	known, err := w.device("linux").CACerts(w.t.Context())
	if err != nil {
		w.t.Fatalf("%s: GetCACert: %v", w.clock.Now(), err)
	}
	for _, cert := range known {
		w.shown("endpoint", cert)
	}
	for _, i := range w.inventory() {
		switch i.Kind {
		case identity.KindOCSPSigner:
			w.note("ocsp", i.SHA256)
			w.inLife("ocsp", i.NotBefore, i.NotAfter)
		case identity.KindEntraClient:
			w.note("entra", i.SHA256)
		}
	}
}

func (w *lonely) shown(what string, cert *x509.Certificate) {
	w.t.Helper()
	w.note(what, fmt.Sprintf("%x", cert.SerialNumber))
	w.inLife(what, cert.NotBefore, cert.NotAfter)
}

func (w *lonely) inLife(what string, from, to time.Time) {
	w.t.Helper()
	if now := w.clock.Now(); now.Before(from) || !now.Before(to) {
		w.t.Fatalf("%s: %s shows a certificate that is valid from %s to %s", now, what, from, to)
	}
}

func (w *lonely) note(what, which string) {
	if w.seen[what] == nil {
		w.seen[what] = map[string]bool{}
	}
	w.seen[what][which] = true
}

// handshake connects as a browser would, at the calendar's date.
func (w *lonely) handshake(listener string) *x509.Certificate {
	w.t.Helper()
	for _, l := range w.cfg.Listeners {
		if l.Name != listener {
			continue
		}
		c, err := tls.Dial("tcp", l.Address, &tls.Config{RootCAs: w.roots, Time: w.clock.Now, ServerName: "127.0.0.1"})
		if err != nil {
			w.t.Fatalf("%s: %s: %v", w.clock.Now(), listener, err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0]
	}
	panic("no such listener")
}

// enrols has a device come, with Intune's challenge.
func (w *lonely) enrols(key *rsa.PrivateKey) {
	w.t.Helper()
	reply := w.enrolIntune(w.cloud, "windows", key)
	if reply.Status != scep.Success {
		w.t.Fatalf("%s: %v %v", w.clock.Now(), reply.Status, reply.FailInfo)
	}
	w.inLife("device", reply.Certificate.NotBefore, reply.Certificate.NotAfter)
}

// replaceFiles is what a person does in the end.
func (w *lonely) replaceFiles() {
	w.t.Helper()
	l := w.cfg.Listeners[2]
	key := testkeys.RSA2048(w.made % 8)
	w.files = signedBy(w.t, w.cfg.CAs[0], w.clock.Now(), 200*oneDay, key)
	w.made++
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		w.t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{
		l.TLS.Certificate: {Type: "CERTIFICATE", Bytes: w.files.Raw}, l.TLS.Key: {Type: "PRIVATE KEY", Bytes: der},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
}

// checkWarnings wants one warning at each threshold for the present files.
func (w *lonely) checkWarnings() {
	w.t.Helper()
	said := 0
	for _, line := range w.logs.TakeAll() {
		text := fmt.Sprint(line.Message, line.ContextMap())
		if strings.Contains(text, "listener files") {
			said++
		}
	}
	if said < 4 {
		w.t.Errorf("%s: %d warnings about the files' end, want those at 60, 30, 14 and 7 days", w.clock.Now(), said)
	}
}

// signedBy has the embedded CA's key sign a server certificate, as an operator
// with another tool would.
func signedBy(t *testing.T, issuer agent.CA, now time.Time, life time.Duration, key *rsa.PrivateKey) *x509.Certificate {
	t.Helper()
	parent := readCert(t, issuer.Embedded.Certificate)
	signer, err := embedded.LoadKey(issuer.Embedded.Key)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "files"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(life),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
