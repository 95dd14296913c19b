package main

import (
	"context"
	"crypto/x509/pkix"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/installer/firstrun"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// TestSampleOfADCS puts the sample that "adcs" writes into a connector's
// configuration, and each of its bridges gets a certificate.
func TestSampleOfADCS(t *testing.T) {
	lab := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	up, ended := make(chan adcsInfo, 1), make(chan error, 1)
	go func() {
		ended <- adcsOptions{dir: lab, realm: "CORP.TEST"}.serve(ctx, func(i adcsInfo) { up <- i })
	}()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	var info adcsInfo
	select {
	case info = <-up:
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
	}
	cfg, err := agent.LoadConfig(withSample(t, info.Sample))
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"issuing", "issuing-web", "issuing-soap"} {
		t.Run(name, func(t *testing.T) {
			bridge, done, err := agent.OpenBridge(cfg, name, zap.NewNop())
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := done(); err != nil {
					t.Error(err)
				}
			}()
			wish := scepclient.CSR{Subject: pkix.Name{CommonName: "device"}, DNSNames: []string{"device.example.test"}}
			der, err := wish.Encode(testkeys.RSA2048(i))
			if err != nil {
				t.Fatal(err)
			}
			csr, err := pkcs10.Parse(der)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := bridge.Issue(t.Context(), ca.Request{CSR: csr, Template: "IntuneDevice"}); err != nil {
				t.Error(err)
			}
		})
	}
	checkControl(t, info.Control)
}

// checkControl wants the control API to tell of the three certificates.
func checkControl(t *testing.T, control string) {
	t.Helper()
	resp, err := http.Get(control + "certificates")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var rows []adcsRow
	if err := json.NewDecoder(resp.Body).Decode(&rows); err != nil || len(rows) != 3 {
		t.Fatalf("the control API tells %+v, %v", rows, err)
	}
	for _, r := range rows {
		if r.Template != "IntuneDevice" || r.Serial == "" || len(r.Serial)%2 != 0 || r.Revoked || !r.RevokedAt.IsZero() {
			t.Errorf("the database has %+v", r)
		}
	}
}

// withSample is the configuration that "certconnector init" writes, with the
// sample's CAs in the place of its own.
func withSample(t *testing.T, sample string) string {
	t.Helper()
	plan, err := firstrun.New(firstrun.Options{
		Dir: filepath.Join(t.TempDir(), "c"), Hostnames: []string{"127.0.0.1"}, Listen: "127.0.0.1:1", PlainHTTP: true,
		Policy: firstrun.PolicyStatic, CAKey: embedded.P256,
	})
	if err != nil {
		t.Fatal(err)
	}
	made, err := plan.Run(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(made.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	cas, err := os.ReadFile(sample)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Count(string(text), "\ncas:\n") != 1 {
		t.Fatal("the file that init wrote has not exactly one cas")
	}
	joined := strings.Replace(string(text), "\ncas:\n", "\n"+string(cas), 1)
	if err := os.WriteFile(made.ConfigFile, []byte(joined), 0o600); err != nil {
		t.Fatal(err)
	}
	return made.ConfigFile
}
