package agent_test

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/installer/firstrun"
	"github.com/certconnector/certconnector/internal/leaktest"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

func TestMain(m *testing.M) { os.Exit(leaktest.Run(m)) }

// patience is how long a test waits for what must come: for ever, but for the
// report of a test that hangs.
const patience = 2 * time.Minute

// service is an agent in a folder of its own, run as the program runs it.
type service struct {
	t    *testing.T
	cfg  agent.Config
	url  string
	stop func() error

	running *agent.Agent
}

// install makes a first run's folder for a plain listener on loopback.
func install(t *testing.T, o firstrun.Options) *service {
	t.Helper()
	address := freePort(t)
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	o.Dir, o.Hostnames, o.Listen, o.PlainHTTP, o.CAKey = t.TempDir(), []string{host}, address, true, embedded.P256
	plan, err := firstrun.New(o)
	if err != nil {
		t.Fatal(err)
	}
	made, err := plan.Run(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := agent.LoadConfig(made.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Control.Socket = filepath.Join(shortFolder(t), "c.sock")
	cfg.ShutdownGrace = patience // a busy machine needs more than the usual seconds
	return &service{t: t, cfg: cfg, url: made.SCEPURL}
}

// shortFolder is for a socket, whose path has a hundred octets or so: the name
// of the test would be in that of TempDir.
func shortFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "c")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// loopback is an address of this process alone: a port that was found free
// there stays free, for nobody else listens or connects from there.
var loopback = sync.OnceValue(func() string {
	host := fmt.Sprintf("127.%d.%d.%d", 1+rand.N(254), rand.N(256), 1+rand.N(254))
	l, err := net.Listen("tcp", host+":0")
	if err != nil { // not every system has all of 127.0.0.0/8
		return "127.0.0.1"
	}
	_ = l.Close()
	return host
})

// given are the addresses that freePort has returned: none is returned twice.
var given sync.Map

// freePort is a loopback address that nobody listens on, or will before the
// caller does.
func freePort(t *testing.T) string {
	t.Helper()
	for {
		l, err := net.Listen("tcp", loopback()+":0")
		if err != nil {
			t.Fatal(err)
		}
		address := l.Addr().String()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if _, taken := given.LoadOrStore(address, true); !taken {
			return address
		}
	}
}

func readCert(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	if block == nil {
		t.Fatalf("%s holds no PEM", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// start runs the agent and returns once it serves.
func (s *service) start() {
	s.t.Helper()
	s.startWith(agent.Options{Logger: zap.NewNop()})
}

func (s *service) startWith(o agent.Options) {
	s.t.Helper()
	ready := make(chan struct{})
	o.Ready = func() { close(ready) }
	a, err := agent.New(s.cfg, o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.running = a
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	s.stop = func() error { cancel(); return <-ended }
	select {
	case <-ready:
	case err := <-ended:
		s.t.Fatalf("the agent ended: %v", err)
	case <-time.After(patience):
		s.t.Fatal("the agent did not become ready")
	}
}

func (s *service) mustStop() {
	s.t.Helper()
	if err := s.stop(); err != nil {
		s.t.Errorf("stopping: %v", err)
	}
	// Or a device might write into a connection of which it does not know yet
	// that it is closed; a POST is not repeated by itself.
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

func (s *service) device(platform string) *scepclient.Client {
	s.t.Helper()
	q, err := scepclient.Platform(platform)
	if err != nil {
		s.t.Fatal(err)
	}
	return &scepclient.Client{URL: s.url, Quirks: q, DelayScale: 0.001}
}

func (s *service) challenge() secret.Text {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.cfg.StateDir, firstrun.ChallengeFile))
	if err != nil {
		s.t.Fatal(err)
	}
	return secret.Text(bytes.TrimSpace(b))
}

func TestEveryPlatformEnrolsAndRepeatsAfterARestart(t *testing.T) {
	s := install(t, firstrun.Options{Policy: firstrun.PolicyStatic})
	s.start()
	type enrolled struct {
		client *scepclient.Client
		sent   *scepclient.Transaction
		got    []byte
	}
	var all []enrolled
	for i, platform := range scepclient.Platforms() {
		client := s.device(platform)
		sent, err := client.Prepare(t.Context(), scepclient.EnrollRequest{Key: testkeys.RSA2048(i), CSR: scepclient.CSR{
			Subject: pkix.Name{CommonName: platform}, DNSNames: []string{platform + ".example.test"}, Challenge: s.challenge(),
		}})
		if err != nil {
			t.Fatalf("%s: %v", platform, err)
		}
		reply, err := client.Send(t.Context(), sent.Message)
		if err != nil || reply.Status != scep.Success {
			t.Fatalf("%s: %+v, %v", platform, reply, err)
		}
		all = append(all, enrolled{client, sent, reply.Certificate.Raw})
	}
	s.mustStop()
	s.start()
	for _, e := range all {
		reply, err := e.client.Send(t.Context(), e.sent.Message)
		if err != nil || reply.Status != scep.Success {
			t.Fatalf("after a restart: %+v, %v", reply, err)
		}
		if !bytes.Equal(reply.Certificate.Raw, e.got) {
			t.Error("a repeated request got another certificate after a restart")
		}
	}
	s.mustStop()
}

func TestWrongStaticChallengeIsRefused(t *testing.T) {
	s := install(t, firstrun.Options{Policy: firstrun.PolicyStatic})
	s.start()
	reply, err := s.device("linux").Enroll(t.Context(), scepclient.EnrollRequest{
		Key: testkeys.RSA2048(0), CSR: scepclient.CSR{Subject: pkix.Name{CommonName: "x"}, Challenge: "not the one"},
	})
	if err != nil || reply.Status != scep.Failure || reply.FailInfo != scep.BadRequest {
		t.Errorf("got %+v, %v, want FAILURE badRequest", reply, err)
	}
	s.mustStop()
}

func TestNextCAIsAnnounced(t *testing.T) {
	s := install(t, firstrun.Options{Policy: firstrun.PolicyStatic})
	next := filepath.Join(t.TempDir(), "next")
	root, err := embedded.Create(next, embedded.Options{Subject: pkix.Name{CommonName: "Next CA"}, KeyKind: embedded.P256})
	if err != nil {
		t.Fatal(err)
	}
	s.cfg.Endpoints[0].GetCACert.Next = filepath.Join(next, embedded.ChainFile)
	s.start()
	client := s.device("linux")
	known, err := client.CACerts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	caps, err := client.Capabilities(t.Context())
	if err != nil || !caps.Has("GetNextCACert") {
		t.Errorf("capabilities %v, %v", caps, err)
	}
	certs, err := client.NextCACerts(t.Context(), known)
	if err != nil || len(certs) != 1 || !certs[0].Equal(root) {
		t.Errorf("got %d certificates, %v", len(certs), err)
	}
	s.mustStop()
}

// TestIntuneVouchesBeforeTheDeviceGetsItsCertificate is the main job: a device
// with Intune's challenge, the cloud asked and told, and only then the certificate.
func TestIntuneVouchesBeforeTheDeviceGetsItsCertificate(t *testing.T) {
	s, cloud := installIntune(t)
	s.start()
	for i, platform := range []string{"windows", "ios", "macos", "android"} {
		reply := s.enrolIntune(cloud, platform, testkeys.RSA2048(i))
		if reply.Status != scep.Success {
			t.Fatalf("%s: %v %v", platform, reply.Status, reply.FailInfo)
		}
		told := cloud.Notifications()
		if len(told) != i+1 {
			t.Fatalf("%s: %d notifications at the cloud, want %d", platform, len(told), i+1)
		}
	}
	if err := cloudRefuses(t, s, cloud); err != nil {
		t.Error(err)
	}
	s.mustStop()
}

func cloudRefuses(t *testing.T, s *service, cloud *intunetest.Cloud) error {
	ch, err := cloud.Challenge(intunetest.Ask{Platform: "ios", Flaw: intunetest.Forged})
	if err != nil {
		return err
	}
	der, err := ch.CSR(testkeys.RSA2048(5))
	if err != nil {
		return err
	}
	reply, err := s.device("ios").Enroll(t.Context(), scepclient.EnrollRequest{Key: testkeys.RSA2048(5), DER: der})
	if err != nil {
		return err
	}
	if reply.Status != scep.Failure || reply.FailInfo != scep.BadMessageCheck {
		t.Errorf("forged challenge: %v %v, want FAILURE badMessageCheck", reply.Status, reply.FailInfo)
	}
	return nil
}

// installIntune makes a folder whose endpoint asks a simulator.
func installIntune(t *testing.T) (*service, *intunetest.Cloud) {
	t.Helper()
	return installIntuneAt(t, nil)
}

// installIntuneAt does so with a cloud whose clock is the caller's.
func installIntuneAt(t *testing.T, clock func() time.Time) (*service, *intunetest.Cloud) {
	t.Helper()
	return installIntuneAs(t, intunetest.Options{Clock: clock})
}

func installIntuneAs(t *testing.T, o intunetest.Options) (*service, *intunetest.Cloud) {
	t.Helper()
	cloud, err := intunetest.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := cloud.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cloud.Close(); err != nil {
			t.Error(err)
		}
	})
	roots := filepath.Join(t.TempDir(), "cloud.pem")
	if err := os.WriteFile(roots, cloud.RootPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	s := install(t, firstrun.Options{
		Policy: firstrun.PolicyIntune, Tenant: intunetest.ContosoID, ClientID: intunetest.ContosoClient, Cloud: "custom",
		AuthorityURL: cloud.AuthorityURL(), GraphURL: cloud.GraphURL(), ResourceURL: cloud.ResourceURL(), CloudCAFile: roots,
	})
	cert := readCert(t, s.cfg.Tenants[0].Credential.Certificate)
	if err := cloud.SetCertificates(intunetest.ContosoID, intunetest.ContosoClient, cert); err != nil {
		t.Fatal(err)
	}
	return s, cloud
}

func (s *service) enrolIntune(cloud *intunetest.Cloud, platform string, key *rsa.PrivateKey) *scepclient.Reply {
	s.t.Helper()
	ch, err := cloud.Challenge(intunetest.Ask{Platform: platform})
	if err != nil {
		s.t.Fatal(err)
	}
	der, err := ch.CSR(key)
	if err != nil {
		s.t.Fatal(err)
	}
	reply, err := s.device(platform).Enroll(s.t.Context(), scepclient.EnrollRequest{Key: key, DER: der})
	if err != nil {
		s.t.Fatalf("%s: %v", platform, err)
	}
	return reply
}

func TestStartNamesWhatIsWrong(t *testing.T) {
	for name, tc := range map[string]func(s *service){
		"no journal":  func(s *service) { s.cfg.Journal.SQLite.Path += ".mistyped" },
		"no key file": func(s *service) { s.cfg.Secrets.LocalKey += ".mistyped" },
		"no RA key":   func(s *service) { s.cfg.Endpoints[0].RA.Signing.Key += ".mistyped" },
		"another's RA key": func(s *service) {
			ra := &s.cfg.Endpoints[0].RA
			ra.Signing.Key, ra.Encryption.Key = ra.Encryption.Key, ra.Signing.Key
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := install(t, firstrun.Options{Policy: firstrun.PolicyStatic})
			tc(s)
			if _, err := agent.New(s.cfg, agent.Options{}); err == nil {
				t.Fatal("the agent was built")
			}
		})
	}
}

func TestTakenPortEndsTheStart(t *testing.T) {
	s := install(t, firstrun.Options{Policy: firstrun.PolicyStatic})
	l, err := net.Listen("tcp", s.cfg.Listeners[0].Address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := agent.New(s.cfg, agent.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Run(t.Context()); err == nil {
		t.Fatal("the agent ran on a taken port")
	}
	// Everything was closed: the journal can be opened again.
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.mustStop()
}

func TestUnknownCANameIsNotFound(t *testing.T) {
	s := install(t, firstrun.Options{Policy: firstrun.PolicyStatic})
	a, err := agent.New(s.cfg, agent.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Revoke(t.Context(), "nobody", "01", ca.Unspecified); err == nil {
		t.Error("a certificate was revoked at a CA that does not exist")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Run(ctx); err != nil {
		t.Error(err)
	}
}
