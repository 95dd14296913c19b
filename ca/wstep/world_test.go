package wstep_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/adcstest"
	"github.com/certconnector/certconnector/ca/catest"
	"github.com/certconnector/certconnector/ca/wstep"
	"github.com/certconnector/certconnector/internal/leaktest"
	"github.com/certconnector/certconnector/internal/negotiate"
	"github.com/certconnector/certconnector/internal/testkeys"
)

// The replay cache of the Kerberos acceptor behind the mock lives as long as
// the process.
func TestMain(m *testing.M) {
	os.Exit(leaktest.Run(m, "github.com/oiweiwei/gokrb5.fork/v9/service.GetReplayCache.func1.1"))
}

// world is a mock CA with its services and a bridge to it.
type world struct {
	ca     *adcstest.CA
	soap   *adcstest.SOAP
	config wstep.Config
	bridge *wstep.CA
}

// newWorld starts a CA whose services know a kind of authentication. change
// may alter options and configuration; nil leaves them.
func newWorld(t *testing.T, kind string, options adcstest.SOAPOptions, change func(*wstep.Config)) *world {
	t.Helper()
	authority, err := adcstest.New(adcstest.Options{EndDateFlag: true})
	if err != nil {
		t.Fatalf("making a CA: %v", err)
	}
	w := &world{ca: authority, config: wstep.Config{
		Issuers: []*x509.Certificate{authority.Root()}, SendValidity: true, Connections: 16,
	}}
	switch kind {
	case adcstest.SOAPUser:
		w.config.User = &wstep.User{Name: `CORP\svc`, Password: adcstest.DefaultPassword}
	case adcstest.SOAPCertificate:
		w.config.Certificate, options.ClientCAs = clientCertificate(t, "svc")
	case adcstest.SOAPKerberos:
		if options.NTLM {
			w.config.NTLM = &negotiate.NTLM{User: `CORP\svc`, Password: adcstest.DefaultPassword}
		}
	}
	if w.soap, err = authority.ServeSOAP(options); err != nil {
		t.Fatalf("starting the services: %v", err)
	}
	t.Cleanup(func() { w.soap.Close() })
	t.Cleanup(authority.Heal)
	w.config.Policy, w.config.Roots = w.soap.Policy(kind), w.soap.Roots
	if change != nil {
		change(&w.config)
	}
	w.connect(t)
	return w
}

// connect makes a new bridge.
func (w *world) connect(t *testing.T) {
	t.Helper()
	bridge, err := wstep.New(w.config)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() { bridge.Close() })
	w.bridge = bridge
}

// clientCertificate writes a client certificate of an authority of its own.
func clientCertificate(t *testing.T, account string) (*negotiate.Certificate, *x509.CertPool) {
	t.Helper()
	now := time.Now()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Client CA"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: account}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	rootDER, err := x509.CreateCertificate(rand.Reader, root, root, testkeys.P256(0).Public(), testkeys.P256(0))
	if err != nil {
		t.Fatalf("making a client CA: %v", err)
	}
	parent, err := x509.ParseCertificate(rootDER)
	if err != nil {
		t.Fatalf("reading a client CA: %v", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, parent, testkeys.P256(1).Public(), testkeys.P256(0))
	if err != nil {
		t.Fatalf("making a client certificate: %v", err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(testkeys.P256(1))
	if err != nil {
		t.Fatalf("writing a key: %v", err)
	}
	files := &negotiate.Certificate{File: filepath.Join(t.TempDir(), "client.pem"), Key: filepath.Join(t.TempDir(), "client.key")}
	for file, block := range map[string]*pem.Block{files.File: {Type: "CERTIFICATE", Bytes: der}, files.Key: {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatalf("writing a client certificate: %v", err)
		}
	}
	pool := x509.NewCertPool()
	pool.AddCert(parent)
	return files, pool
}

// contract runs the contract of all bridges.
func contract(t *testing.T, kind string, options adcstest.SOAPOptions, change func(*wstep.Config)) {
	var asBridge func(w *world) *catest.Bridge
	asBridge = func(w *world) *catest.Bridge {
		decide := func(decide func(string, uint32) int32, id string) error {
			n, err := strconv.ParseUint(id, 10, 32)
			if err != nil {
				return err
			}
			if hr := decide("officer", uint32(n)); hr != 0 {
				return errors.New(ca.Advice(hr))
			}
			return nil
		}
		return &catest.Bridge{
			Authority: w.bridge,
			Templates: catest.Templates{Issue: "IntuneDevice", Park: "IntuneManual", Deny: "IntuneForbidden", Unknown: "Nowhere"},
			Restart: func(t *testing.T) *catest.Bridge {
				w.connect(t)
				return asBridge(w)
			},
			Approve: func(_ context.Context, id string) error { return decide(w.ca.Approve, id) },
			Deny:    func(_ context.Context, id string) error { return decide(w.ca.Deny, id) },
		}
	}
	catest.Run(t, catest.Harness{
		New:           func(t *testing.T) *catest.Bridge { return asBridge(newWorld(t, kind, options, change)) },
		Abilities:     []catest.Ability{catest.CanCollect},
		KeepsValidity: true,
	})
}

// request asks for a certificate of a template.
func request(t *testing.T, template string) ca.Request {
	t.Helper()
	return ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{}), Template: template}
}
