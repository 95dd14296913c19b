package firstrun_test

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/installer/firstrun"
	"github.com/certconnector/certconnector/internal/secret"
	policystatic "github.com/certconnector/certconnector/policymodule/static"
)

// static are options that need little time.
func static(t *testing.T) firstrun.Options {
	return firstrun.Options{
		Dir: filepath.Join(t.TempDir(), "new"), Hostnames: []string{"scep.example", "192.0.2.1"},
		Policy: firstrun.PolicyStatic, CAKey: embedded.P256,
	}
}

func setUp(t *testing.T, o firstrun.Options) firstrun.Result {
	t.Helper()
	p, err := firstrun.New(o)
	if err != nil {
		t.Fatal(err)
	}
	r, err := p.Run(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func certificate(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestWhatAFirstRunLeaves(t *testing.T) {
	o := static(t)
	r := setUp(t, o)

	c, err := agent.LoadConfig(r.ConfigFile)
	if err != nil {
		t.Fatalf("the configuration is wrong: %v", err)
	}
	if c.Listeners[0].Address != ":443" || c.StateDir != o.Dir || c.Endpoints[0].Policy.Static == nil {
		t.Errorf("configuration %+v", c)
	}
	if r.SCEPURL != "https://scep.example/certsrv/mscep/mscep.dll" {
		t.Errorf("SCEP URL %q", r.SCEPURL)
	}
	challenge, err := c.Endpoints[0].Policy.Static.Challenge.Read()
	if err != nil || len(challenge.Reveal()) < 26 {
		t.Errorf("challenge of %d characters, %v", len(challenge.Reveal()), err)
	}

	root := certificate(t, r.RootCertificate)
	pool := x509.NewCertPool()
	pool.AddCert(root)
	ra := c.Endpoints[0].RA
	keys := map[string]bool{}
	for _, own := range []struct {
		pair  agent.KeyPair
		usage x509.KeyUsage
		host  string
	}{
		{ra.Signing, x509.KeyUsageDigitalSignature, ""},
		{ra.Encryption, x509.KeyUsageKeyEncipherment, ""},
		{agent.KeyPair{Certificate: c.Listeners[0].TLS.Certificate, Key: c.Listeners[0].TLS.Key}, x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, "192.0.2.1"},
	} {
		// tls.LoadX509KeyPair finds a key that does not belong to its certificate.
		if _, err := tls.LoadX509KeyPair(own.pair.Certificate, own.pair.Key); err != nil {
			t.Error(err)
		}
		cert := certificate(t, own.pair.Certificate)
		if _, err := cert.Verify(x509.VerifyOptions{Roots: pool, DNSName: own.host, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
			t.Errorf("%s: %v", own.pair.Certificate, err)
		}
		if _, ok := cert.PublicKey.(*rsa.PublicKey); !ok || cert.KeyUsage != own.usage {
			t.Errorf("%s: key %T, usage %b", own.pair.Certificate, cert.PublicKey, cert.KeyUsage)
		}
		keys[string(cert.RawSubjectPublicKeyInfo)] = true
	}
	if _, ok := root.PublicKey.(*ecdsa.PublicKey); !ok {
		t.Errorf("CA key is %T", root.PublicKey)
	}
	if keys[string(root.RawSubjectPublicKeyInfo)] || len(keys) != 3 {
		t.Error("two purposes share a key")
	}
	onlyOurs(t, o.Dir)
}

// onlyOurs wants every file but certificates unreadable to others.
func onlyOurs(t *testing.T, dir string) {
	t.Helper()
	if runtime.GOOS == "windows" {
		return
	}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 && !strings.HasSuffix(path, ".crt.pem") {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestIntune(t *testing.T) {
	o := static(t)
	o.Policy, o.Tenant, o.ClientID = firstrun.PolicyIntune, `con"toso`, "app"
	o.Cloud, o.AuthorityURL, o.GraphURL, o.ResourceURL = "custom", "https://127.0.0.1:1/", "https://127.0.0.1:2/", "https://127.0.0.1:3/"
	o.CloudCAFile = filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(o.CloudCAFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	o.Listen, o.PlainHTTP = "127.0.0.1:8080", true
	r := setUp(t, o)
	c, err := agent.LoadConfig(r.ConfigFile)
	if err != nil {
		t.Fatalf("the configuration is wrong: %v", err)
	}
	tenant := c.Tenants[0]
	if tenant.TenantID != `con"toso` || tenant.URLs.Graph != o.GraphURL || tenant.CAFile != o.CloudCAFile || c.Endpoints[0].Policy.Intune.Tenant != tenant.Name {
		t.Errorf("tenant %+v", tenant)
	}
	if r.SCEPURL != "http://scep.example:8080/certsrv/mscep/mscep.dll" {
		t.Errorf("SCEP URL %q", r.SCEPURL)
	}
	if _, err := tls.LoadX509KeyPair(tenant.Credential.Certificate, tenant.Credential.Key); err != nil {
		t.Error(err)
	}
	cert := certificate(t, r.EntraCertificate)
	if k, ok := cert.PublicKey.(*rsa.PublicKey); !ok || k.N.BitLen() < 2048 || !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) {
		t.Errorf("Entra certificate: key %T, usage %v", cert.PublicKey, cert.ExtKeyUsage)
	}
	if _, err := os.Lstat(filepath.Join(o.Dir, "tls")); err == nil {
		t.Error("a TLS folder was made for plain HTTP")
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	o := static(t)
	for _, name := range []string{"certconnector.yaml", "ca", "local.key", "journal.db"} {
		path := filepath.Join(o.Dir, name)
		if err := os.MkdirAll(o.Dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err := firstrun.New(o)
	if err == nil || strings.Count(err.Error(), "exists already") != 4 {
		t.Errorf("got %v", err)
	}
	if entries, _ := os.ReadDir(o.Dir); len(entries) != 4 {
		t.Errorf("the folder has %d entries now", len(entries))
	}
}

// What another run made, while a person was asked whether to begin, stays.
func TestWhatAnotherRunMadeStays(t *testing.T) {
	for _, theirs := range []string{"local.key", "journal.db", "journal.db-wal", "ca/ca.key.pem", "ra/encryption.crt.pem", "challenge", "certconnector.yaml"} {
		o := static(t)
		p, err := firstrun.New(o)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(o.Dir, filepath.FromSlash(theirs))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("precious"), 0o600)); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Run(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "exists already and is kept") {
			t.Errorf("%s: %v", theirs, err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != "precious" {
			t.Errorf("%s is gone or changed: %q, %v", theirs, b, err)
		}
		if entries, err := os.ReadDir(o.Dir); err != nil || len(entries) != 1 {
			t.Errorf("%s: %d entries are left, %v", theirs, len(entries), err)
		}
	}
}

// Of two runs at once one is done, and whole.
func TestTwoRunsAtOnce(t *testing.T) {
	o := static(t)
	var plans [2]*firstrun.Plan
	for i := range plans {
		p, err := firstrun.New(o)
		if err != nil {
			t.Fatal(err)
		}
		plans[i] = p
	}
	var errs [2]error
	var runs sync.WaitGroup
	for i, p := range plans {
		runs.Go(func() { _, errs[i] = p.Run(t.Context(), nil) })
	}
	runs.Wait()
	if (errs[0] == nil) == (errs[1] == nil) {
		t.Fatalf("%v; %v", errs[0], errs[1])
	}
	if _, err := secret.LoadSealer(filepath.Join(o.Dir, "local.key")); err != nil {
		t.Error(err)
	}
	c, err := agent.LoadConfig(filepath.Join(o.Dir, "certconnector.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.CheckFiles(); err != nil {
		t.Error(err)
	}
}

func TestAFailureIsUndone(t *testing.T) {
	o := static(t)
	broken := errors.New("not to my taste")
	o.Check = func(path string) error {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
		return broken
	}
	p, err := firstrun.New(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(t.Context(), nil); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Lstat(o.Dir); err == nil {
		t.Error("the folder is left behind")
	}

	// And the next try finds the ground as the first one did.
	o.Check = nil
	setUp(t, o)
}

func TestEveryStepCanFail(t *testing.T) {
	o := static(t)
	p, err := firstrun.New(o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range p.Steps() {
		o := static(t)
		p, err := firstrun.New(o)
		if err != nil {
			t.Fatal(err)
		}
		stop := errors.New("power switch")
		err = p.RunFailingAt(t.Context(), i, stop)
		if !errors.Is(err, stop) {
			t.Errorf("step %d: %v", i, err)
		}
		if _, err := os.Lstat(o.Dir); err == nil {
			t.Errorf("step %d: the folder is left behind", i)
		}
	}
}

func TestMistakesAreReportedAtOnce(t *testing.T) {
	_, err := firstrun.New(firstrun.Options{
		Policy: firstrun.PolicyIntune, Listen: "443", RAKey: embedded.P256, CAKey: "rsa512",
		Cloud: "custom", ChallengeFile: "x",
	})
	if err == nil {
		t.Fatal("nonsense was accepted")
	}
	for _, want := range []string{"--dir", "--listen", "--ra-key", "--ca-key", "--tenant", "--client-id", "--authority-url", "--graph-url", "--resource-url", "--challenge-file"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not mentioned in:\n%v", want, err)
		}
	}
}

// About one text of 26 letters and digits in a hundred has too few kinds of
// characters to be taken for random.
func TestEveryMadeChallengeIsTaken(t *testing.T) {
	for range 20_000 {
		if err := policystatic.Check(secret.Text(firstrun.RandomChallenge())); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOwnChallenge(t *testing.T) {
	o := static(t)
	o.ChallengeFile = filepath.Join(t.TempDir(), "mine")
	write := func(s string) {
		if err := os.WriteFile(o.ChallengeFile, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("short\n")
	if _, err := firstrun.New(o); err == nil || strings.Contains(err.Error(), "short") {
		t.Errorf("a short challenge: %v", err)
	}
	write("0123456789abcdefghijklmnop\n")
	r := setUp(t, o)
	c, err := agent.LoadConfig(r.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Endpoints[0].Policy.Static.Challenge.Read(); err != nil || got.Reveal() != "0123456789abcdefghijklmnop" {
		t.Errorf("challenge is read back wrong: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(o.Dir, "challenge")); err == nil {
		t.Error("another challenge was made")
	}
}
