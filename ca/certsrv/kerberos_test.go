//go:build e2eca

package certsrv_test

import (
	"bytes"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/adcstest"
	"github.com/certconnector/certconnector/ca/catest"
	"github.com/certconnector/certconnector/ca/certsrv"
	"github.com/certconnector/certconnector/internal/negotiate"
)

const spn = "HTTP/ca01.corp.test"

func startKDC(t *testing.T) *adcstest.KDC {
	return adcstest.StartKDC(t, "CORP.TEST", map[string]string{"svc": adcstest.DefaultPassword, spn: "a key of the web server"})
}

// kerberos signs in with Extended Protection required.
func kerberos(kdc *adcstest.KDC, with func(*negotiate.Kerberos)) signIn {
	return func(_ *testing.T, _ *adcstest.CA, o *adcstest.WebOptions, config *certsrv.Config) {
		o.Keytab, o.RequireChannelBinding = kdc.KeytabFile, true
		config.Kerberos = &negotiate.Kerberos{Principal: "svc@CORP.TEST", Config: kdc.ConfigFile, SPN: spn}
		with(config.Kerberos)
	}
}

func TestContractWithKerberos(t *testing.T) {
	kdc := startKDC(t)
	for name, with := range map[string]func(*negotiate.Kerberos){
		"keytab":           func(k *negotiate.Kerberos) { k.Keytab = kdc.KeytabFile },
		"credential cache": func(k *negotiate.Kerberos) { k.CCache = kdc.TicketCache("svc") },
		"password":         func(k *negotiate.Kerberos) { k.Password = adcstest.DefaultPassword },
	} {
		t.Run(name, func(t *testing.T) {
			catest.Run(t, catest.Harness{
				New: func(t *testing.T) *catest.Bridge {
					s := start(t, kerberos(kdc, with), adcstest.WebOptions{})
					if err := s.bridge.Probe(t.Context()); err != nil || s.web.SignedIn("Kerberos") != 1 {
						t.Fatalf("signed in by Kerberos: %d times, %v", s.web.SignedIn("Kerberos"), err)
					}
					return s.contract()
				},
				Abilities:     []catest.Ability{catest.CanCollect, catest.CanFind, catest.CanPublish},
				KeepsValidity: true,
			})
		})
	}
}

// TestKerberosRefusals: nothing reaches the CA, and the error says so.
func TestKerberosRefusals(t *testing.T) {
	kdc := startKDC(t)
	for name, with := range map[string]func(*negotiate.Kerberos){
		"wrong password":    func(k *negotiate.Kerberos) { k.Password = "wrong" },
		"no such principal": func(k *negotiate.Kerberos) { k.Principal, k.Keytab = "nobody@CORP.TEST", kdc.KeytabFile },
		"no such service":   func(k *negotiate.Kerberos) { k.SPN, k.Keytab = "HTTP/other.corp.test", kdc.KeytabFile },
		"cache of another":  func(k *negotiate.Kerberos) { k.Principal, k.CCache = "other@CORP.TEST", kdc.TicketCache("svc") },
		"damaged keytab": func(k *negotiate.Kerberos) {
			k.Keytab = filepath.Join(t.TempDir(), "keytab")
			if err := os.WriteFile(k.Keytab, []byte{5, 2, 0, 0, 0, 99, 1}, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"empty cache": func(k *negotiate.Kerberos) {
			k.CCache = filepath.Join(t.TempDir(), "ccache")
			if err := os.WriteFile(k.CCache, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, kerberos(kdc, with), adcstest.WebOptions{})
			before := len(s.ca.Rows())
			if _, err := s.bridge.Issue(t.Context(), s.request(t)); !errors.Is(err, ca.ErrUnavailable) {
				t.Errorf("got %v, want ErrUnavailable", err)
			}
			if len(s.ca.Rows()) != before {
				t.Error("the request reached the CA")
			}
		})
	}
}

// TestKeytabIsReadAgain: the key was changed at the KDC, and the file after it.
func TestKeytabIsReadAgain(t *testing.T) {
	kdc, other := startKDC(t), startKDC(t) // the other KDC has other keys for the service
	keytab, config := filepath.Join(t.TempDir(), "keytab"), filepath.Join(t.TempDir(), "krb5.conf")
	copyFile(t, other.KeytabFile, keytab)
	copyFile(t, other.ConfigFile, config)
	s := start(t, kerberos(kdc, func(k *negotiate.Kerberos) { k.Keytab, k.Config = keytab, config }), adcstest.WebOptions{})
	copyFile(t, kdc.KeytabFile, keytab)
	copyFile(t, kdc.ConfigFile, config)
	s.mustIssue(t)
	if err := os.WriteFile(config, []byte("[libdefaults]\n default_realm = NOWHERE.TEST\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.bridge.Issue(t.Context(), s.request(t)); !errors.Is(err, ca.ErrUnavailable) {
		t.Errorf("with a configuration that knows no KDC: got %v, want ErrUnavailable", err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestCurl has a program that we did not write drive the face, so that bridge
// and face do not only agree with each other; openssl reads what comes out.
func TestCurl(t *testing.T) {
	kdc := startKDC(t)
	cache := kdc.TicketCache("svc")
	for name, row := range map[string]struct {
		args      []string
		mechanism string
	}{
		"NTLM":      {[]string{"--ntlm", "--user", `CORP\svc:` + adcstest.DefaultPassword}, "NTLM"},
		"Basic":     {[]string{"--basic", "--user", "svc:" + adcstest.DefaultPassword}, "Basic"},
		"Negotiate": {[]string{"--negotiate", "--user", ":"}, "Kerberos"},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, basic, adcstest.WebOptions{WebAuth: adcstest.WebAuth{NTLM: true, Keytab: kdc.KeytabFile}})
			c := curl{t, s, append(kdc.Environ(), "KRB5CCNAME=FILE:"+cache), row.args, t.TempDir()}
			csr := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: catest.NewCSR(t, catest.CSROptions{}).Raw})
			page := c.run("certfnsh.asp", "--data-urlencode", "Mode=newreq", "--data-urlencode", "CertRequest="+string(csr),
				"--data-urlencode", "CertAttrib=CertificateTemplate:IntuneDevice\r\n", "--data", "TargetStoreFlags=0&SaveCert=yes")
			m := regexp.MustCompile(`certnew\.cer\?ReqID=(\d+)&`).FindSubmatch(page)
			if m == nil {
				t.Fatalf("no link in %q", page)
			}
			if s.web.SignedIn(row.mechanism) == 0 {
				t.Errorf("nobody signed in by %s", row.mechanism)
			}
			c.openssl(c.run("certnew.cer?Enc=bin&ReqID="+string(m[1])), "x509", "-inform", "DER", "-noout")
			c.openssl(c.run("certnew.p7b?Enc=bin&ReqID=CACert&Renewal=0"), "pkcs7", "-inform", "DER", "-print_certs", "-noout")
			c.openssl(c.run("certcrl.crl?Type=base&Renewal=0&Enc=b64"), "crl", "-noout")
		})
	}
	t.Run("Extended Protection turns away who names no channel", func(t *testing.T) {
		s := start(t, kerberos(kdc, func(k *negotiate.Kerberos) { k.Keytab = kdc.KeytabFile }), adcstest.WebOptions{})
		c := curl{t, s, append(kdc.Environ(), "KRB5CCNAME=FILE:"+cache), []string{"--negotiate", "--user", ":", "--write-out", "%{http_code}"}, t.TempDir()}
		if out := c.run(""); !strings.HasSuffix(string(out), "401") && !newCurl(t) {
			t.Errorf("got %q, want 401", out)
		}
		s.mustIssue(t) // ours does name it
	})
}

// newCurl reports whether curl names the channel itself, as it does since 8.10.
func newCurl(t *testing.T) bool {
	out, err := exec.CommandContext(t.Context(), "curl", "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`^curl (\d+)\.(\d+)`).FindStringSubmatch(string(out))
	return m == nil || len(m[1]) > 1 || m[1] > "8" || m[1] == "8" && len(m[2]) > 1
}

// curl runs the program against a face under its DNS name.
type curl struct {
	t    *testing.T
	s    *setup
	env  []string
	args []string
	dir  string
}

func (c curl) run(path string, more ...string) []byte {
	c.t.Helper()
	roots := filepath.Join(c.dir, "root.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.s.web.Certificate.Raw})
	if err := os.WriteFile(roots, block, 0o600); err != nil {
		c.t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(c.s.web.Host())
	if err != nil {
		c.t.Fatal(err)
	}
	args := append([]string{"--silent", "--show-error", "--max-time", "120", "--noproxy", "*", "--cacert", roots,
		"--user-agent", "Mozilla/5.0", "--resolve", "ca01.corp.test:" + port + ":127.0.0.1"}, c.args...)
	args = append(append(args, more...), "https://ca01.corp.test:"+port+"/certsrv/"+path)
	cmd := exec.CommandContext(c.t.Context(), "curl", args...)
	cmd.Env = c.env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		c.t.Fatalf("curl %s: %v\n%s", path, err, stderr.String())
	}
	return out
}

func (c curl) openssl(object []byte, args ...string) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), "openssl", args...)
	cmd.Stdin = bytes.NewReader(object)
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Errorf("openssl %s: %v\n%s", args[0], err, out)
	}
}

// TestOpenSSLVerifies what the bridge hands out: certificate and list under
// the chain, with the reason of a revocation.
func TestOpenSSLVerifies(t *testing.T) {
	kdc := startKDC(t)
	s := start(t, kerberos(kdc, func(k *negotiate.Kerberos) { k.Keytab = kdc.KeytabFile }), adcstest.WebOptions{})
	got := s.mustIssue(t)
	serial := got.Certificate.SerialNumber.Text(16)
	serial = strings.Repeat("0", len(serial)%2) + serial
	if code := s.ca.Revoke("officer", serial, 4, time.Now()); code != 0 {
		t.Fatal(ca.Advice(code))
	}
	s.ca.PublishCRLs("admin", 0, adcstest.PublishBase)
	chain, err := s.bridge.Chain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.bridge.CRL(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, ders ...[]byte) string {
		var b bytes.Buffer
		for _, der := range ders {
			pem.Encode(&b, &pem.Block{Type: kind, Bytes: der})
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	root := write("root.pem", "CERTIFICATE", chain[len(chain)-1].Raw)
	issuers := write("issuers.pem", "CERTIFICATE", chain[0].Raw)
	leaf := write("leaf.pem", "CERTIFICATE", got.Certificate.Raw)
	crl := write("crl.pem", "X509 CRL", list)
	run := func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), "openssl", args...).CombinedOutput()
		return string(out), err
	}
	if out, err := run("verify", "-CAfile", root, "-untrusted", issuers, leaf); err != nil {
		t.Errorf("verify: %v\n%s", err, out)
	}
	out, err := run("verify", "-crl_check", "-CRLfile", crl, "-CAfile", root, "-untrusted", issuers, leaf)
	if err == nil || !strings.Contains(out, "certificate revoked") {
		t.Errorf("verify with the list: %v\n%s", err, out)
	}
	out, err = run("crl", "-in", crl, "-noout", "-text")
	if err != nil || !strings.Contains(out, "Superseded") || !strings.Contains(strings.ToLower(out), serial) {
		t.Errorf("list: %v\n%s", err, out)
	}
}
