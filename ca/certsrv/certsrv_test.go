package certsrv_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/adcstest"
	"github.com/certconnector/certconnector/ca/catest"
	"github.com/certconnector/certconnector/ca/certsrv"
	"github.com/certconnector/certconnector/internal/leaktest"
	"github.com/certconnector/certconnector/internal/negotiate"
	"github.com/certconnector/certconnector/internal/testkeys"
)

func TestMain(m *testing.M) { os.Exit(leaktest.Run(m)) }

// setup is a CA with its web face and a bridge to it.
type setup struct {
	ca     *adcstest.CA
	web    *adcstest.Web
	config certsrv.Config
	bridge *certsrv.CA
}

// signIn is a way to sign in: what the face offers and what the bridge uses.
type signIn func(t *testing.T, c *adcstest.CA, o *adcstest.WebOptions, config *certsrv.Config)

func basic(_ *testing.T, _ *adcstest.CA, o *adcstest.WebOptions, config *certsrv.Config) {
	o.Basic = true
	config.Basic = &negotiate.Basic{User: `CORP\svc`, Password: adcstest.DefaultPassword}
}

func ntlm(_ *testing.T, _ *adcstest.CA, o *adcstest.WebOptions, config *certsrv.Config) {
	o.NTLM, o.RequireChannelBinding = true, true
	config.NTLM = &negotiate.NTLM{User: `CORP\svc`, Password: adcstest.DefaultPassword}
}

// clientCertificate has the CA issue a certificate for the account.
func clientCertificate(t *testing.T, c *adcstest.CA, o *adcstest.WebOptions, config *certsrv.Config) {
	o.ClientCertificate = true
	der, err := x509.CreateCertificateRequest(nil, &x509.CertificateRequest{RawSubject: []byte("0\x0e1\x0c0\x0a\x06\x03U\x04\x03\x0c\x03svc")}, testkeys.RSA2048(1))
	if err != nil {
		t.Fatal(err)
	}
	out := c.Submit(t.Context(), "svc", "CertificateTemplate:IntuneDevice", der)
	key, err := x509.MarshalPKCS8PrivateKey(testkeys.RSA2048(1))
	if err != nil || out.Certificate == nil {
		t.Fatal(err, out.Message)
	}
	dir := t.TempDir()
	config.Certificate = &negotiate.Certificate{File: filepath.Join(dir, "client.pem"), Key: filepath.Join(dir, "client.key")}
	for path, block := range map[string]*pem.Block{
		config.Certificate.File: {Type: "CERTIFICATE", Bytes: out.Certificate},
		config.Certificate.Key:  {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func start(t *testing.T, how signIn, web adcstest.WebOptions) *setup {
	t.Helper()
	c, err := adcstest.New(adcstest.Options{EndDateFlag: true})
	if err != nil {
		t.Fatal(err)
	}
	// A CA in use has issued before: a search finds nothing in an empty one.
	if out := c.Submit(t.Context(), "enroll", "CertificateTemplate:IntuneDevice", catest.NewCSR(t, catest.CSROptions{Key: testkeys.RSA2048(7)}).Raw); out.Certificate == nil {
		t.Fatal(out.Message)
	}
	s := &setup{ca: c, config: certsrv.Config{Name: "corp", Issuer: c.Certificate(), SendValidity: true}}
	how(t, c, &web, &s.config)
	if s.web, err = c.ServeCertsrv(web); err != nil {
		t.Fatal(err)
	}
	s.config.URL, s.config.Roots = s.web.URL+"/certsrv/", s.web.Roots
	s.bridge = open(t, s.config)
	t.Cleanup(func() { s.bridge.Close(); s.ca.Heal(); s.web.Close() })
	return s
}

func open(t *testing.T, config certsrv.Config) *certsrv.CA {
	t.Helper()
	bridge, err := certsrv.New(config)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() { bridge.Close() })
	return bridge
}

func (s *setup) contract() *catest.Bridge {
	decide := func(decision func(officer string, id uint32) int32) func(context.Context, string) error {
		return func(_ context.Context, id string) error {
			n, err := strconv.ParseUint(id, 10, 32)
			if code := decision("officer", uint32(n)); err == nil && code != 0 {
				err = errors.New(ca.Advice(code))
			}
			return err
		}
	}
	return &catest.Bridge{
		Authority: s.bridge,
		Templates: catest.Templates{Issue: "IntuneDevice", Park: "IntuneManual", Deny: "IntuneForbidden", Unknown: "Nonexistent"},
		Approve:   decide(s.ca.Approve), Deny: decide(s.ca.Deny),
		Lose: func(t *testing.T, req ca.Request) *catest.Bridge {
			s.ca.Fail(adcstest.DropAfterIssue, 1)
			_, err := s.bridge.Issue(t.Context(), req)
			if !errors.Is(err, ca.ErrOutcomeUnknown) {
				t.Fatalf("answer lost: got %v, want ErrOutcomeUnknown", err)
			}
			s.bridge = open(t, s.config) // it knows no request ID
			return s.contract()
		},
	}
}

func TestContract(t *testing.T) {
	for _, row := range []struct {
		name      string
		how       signIn
		german    bool
		mechanism string
	}{
		{"Basic", basic, false, "Basic"},
		{"NTLM with Extended Protection", ntlm, false, "NTLM"},
		{"client certificate", clientCertificate, false, "certificate"},
		{"pages in German", basic, true, "Basic"},
	} {
		t.Run(row.name, func(t *testing.T) {
			catest.Run(t, catest.Harness{
				New: func(t *testing.T) *catest.Bridge {
					s := start(t, row.how, adcstest.WebOptions{German: row.german})
					if err := s.bridge.Probe(t.Context()); err != nil || s.web.SignedIn(row.mechanism) != 1 {
						t.Fatalf("signed in by %s: %d times, %v", row.mechanism, s.web.SignedIn(row.mechanism), err)
					}
					return s.contract()
				},
				Abilities:     []catest.Ability{catest.CanCollect, catest.CanFind, catest.CanPublish},
				KeepsValidity: true,
			})
		})
	}
}

// TestRevocationList: the list is the CA's, and shows what an officer revoked.
func TestRevocationList(t *testing.T) {
	s := start(t, basic, adcstest.WebOptions{})
	got := s.mustIssue(t)
	serial := got.Certificate.SerialNumber.Text(16)
	if len(serial)%2 != 0 {
		serial = "0" + serial
	}
	if code := s.ca.Revoke("officer", serial, 1, time.Now()); code != 0 {
		t.Fatal(ca.Advice(code))
	}
	if code := s.ca.PublishCRLs("admin", 0, adcstest.PublishBase); code != 0 {
		t.Fatal(ca.Advice(code))
	}
	der, err := s.bridge.CRL(t.Context())
	if err != nil {
		t.Fatalf("CRL: %v", err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil || len(list.RevokedCertificateEntries) != 1 || list.RevokedCertificateEntries[0].ReasonCode != 1 {
		t.Fatalf("entries %v, error %v", list.RevokedCertificateEntries, err)
	}
}

func (s *setup) request(t *testing.T) ca.Request {
	return ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{}), Template: "IntuneDevice"}
}

func (s *setup) mustIssue(t *testing.T) *ca.Issued {
	t.Helper()
	got, err := s.bridge.Issue(t.Context(), s.request(t))
	if err != nil {
		t.Fatalf("Issue: %v", err)
	}
	return got
}

func TestAddresses(t *testing.T) {
	for _, url := range []string{"http://ca01.corp.test/certsrv/", "ca01.corp.test", "https://user:hunter2@ca01.corp.test/", "user:hunter2@ca01.corp.test/", "https://user:hunter2@ca01.corp.test:%zz/", "https://ca01.corp.test/?x"} {
		_, err := certsrv.New(certsrv.Config{URL: url, Basic: &negotiate.Basic{User: "svc", Password: "x"}})
		if err == nil {
			t.Errorf("%s: accepted", url)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a password is told: %v", err)
		}
	}
}
