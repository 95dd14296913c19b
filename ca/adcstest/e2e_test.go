//go:build e2eca

package adcstest

import (
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/oiweiwei/go-msrpc/dcerpc"
	"github.com/oiweiwei/go-msrpc/ssp"
	"github.com/oiweiwei/go-msrpc/ssp/credential"
	"github.com/oiweiwei/go-msrpc/ssp/krb5"
	"github.com/oiweiwei/gokrb5.fork/v9/credentials"
	"github.com/oiweiwei/gokrb5.fork/v9/keytab"

	"github.com/certconnector/certconnector/internal/testkeys"
)

// startDomain starts a KDC and a CA of its realm that takes tickets; "judge"
// may do everything.
func startDomain(t *testing.T) (*KDC, *CA, *RPC) {
	t.Helper()
	k := StartKDC(t, "CORP.TEST", map[string]string{"svc": DefaultPassword, "judge": DefaultPassword, "host/ca01.corp.test": "a password of the CA's machine"})
	ca := newCA(t, Options{Accounts: append(DefaultAccounts(), Account{
		Name: "judge", Password: DefaultPassword, Enroll: []string{"IntuneDevice"}, RequestCertificates: true, Officer: true, Administrator: true,
	})})
	return k, ca, serveRPC(t, ca, RPCOptions{Keytab: k.KeytabFile})
}

func TestKDCGivesTickets(t *testing.T) {
	k := StartKDC(t, "CORP.TEST", map[string]string{"svc": DefaultPassword})
	if _, err := keytab.Load(k.KeytabFile); err != nil {
		t.Fatalf("the keytab does not read: %v", err)
	}
	file := k.TicketCache("svc")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Fatalf("credential cache: %v", err)
	}
	cache, err := credentials.LoadCCache(file)
	if err != nil || cache.GetClientRealm() != "CORP.TEST" {
		t.Fatalf("credential cache of realm %q: %v", cache.GetClientRealm(), err)
	}
}

func TestKerberosOverDCOM(t *testing.T) {
	k, ca, r := startDomain(t)
	config, err := krb5.LoadKRB5Conf(k.ConfigFile)
	if err != nil {
		t.Fatalf("reading krb5.conf: %v", err)
	}
	mechanism := &krb5.Config{KRB5Config: config, DCEStyle: true, DisablePAFXFAST: true}
	for name, negotiated := range map[string]bool{"Kerberos": false, "Kerberos in SPNEGO": true} {
		t.Run(name, func(t *testing.T) {
			security := []dcerpc.Option{
				dcerpc.WithCredentials(credential.NewFromKeytabFile("svc@CORP.TEST", k.KeytabFile)),
				dcerpc.WithTargetName("host/ca01.corp.test"), dcerpc.WithSeal(),
			}
			if negotiated {
				security = append(security, dcerpc.WithMechanism(ssp.SPNEGO))
			}
			security = append(security, dcerpc.WithMechanism(ssp.KRB5, mechanism))
			c := &client{t: t, port: r.EndpointMapperPort(), security: security}
			ctx := c.context()
			requests, err := c.request(ctx)
			if err != nil {
				t.Fatalf("activating: %v", err)
			}
			got, err := requests.Request2(ctx, c.submission("IntuneDevice", newCSR(t, testkeys.RSA2048(0))))
			if err != nil || got.Disposition != DispositionIssued {
				t.Fatalf("Request2: %v", err)
			}
			ca.Fail(CorruptReply, 1)
			if _, err := requests.Request2(ctx, c.submission("IntuneDevice", newCSR(t, testkeys.P256(0)))); err == nil {
				t.Error("a damaged reply was taken")
			}
		})
	}
	for _, who := range r.Callers() {
		if who != (Caller{"svc@CORP.TEST", "Kerberos", levelPrivacy}) {
			t.Errorf("caller %v", who)
		}
	}
}

// TestImpacket has impacket enrol over ICertPassage, and revoke, publish and
// fetch over ICertAdminD2; openssl reads what came of it.
func TestImpacket(t *testing.T) {
	python := pythonWithImpacket(t)
	k, ca, r := startDomain(t)
	cache := k.TicketCache("judge")
	k.env = append(k.env, "KRB5CCNAME=FILE:"+cache)
	k.run("", "kvno", "host/ca01.corp.test@CORP.TEST")
	for name, password := range map[string]string{"NTLM": DefaultPassword, "Kerberos": ""} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			if err := os.WriteFile(out+".csr", newCSR(t, testkeys.RSA2048(1)), 0o600); err != nil {
				t.Fatal(err)
			}
			domain := map[bool]string{true: "CORP.TEST", false: "CORP"}[password == ""]
			cmd := exec.CommandContext(t.Context(), python, "testdata/judge.py", fmt.Sprint(r.EndpointMapperPort()), ca.Host(), ca.Name(), domain, "judge", out+".csr", out)
			cmd.Stdin, cmd.Env = strings.NewReader(password), append(k.Environ(), "KRB5CCNAME="+cache)
			report, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("impacket: %v\n%s", err, report)
			}
			for _, line := range []string{"enrolled: disposition 3", "revoked: 0x0", "unknown serial: refused 0x80070057", "published: 0x0", "fetched the list"} {
				if !strings.Contains(string(report), line) {
					t.Errorf("impacket does not report %q:\n%s", line, report)
				}
			}
			judgeFiles(t, ca, out)
		})
	}
	mechanisms := map[string]bool{}
	for _, who := range r.Callers() {
		mechanisms[who.Mechanism] = true
	}
	if !mechanisms["NTLM"] || !mechanisms["Kerberos"] {
		t.Errorf("callers %v, want both mechanisms", r.Callers())
	}
}

// pythonWithImpacket finds Debian's Python; another one may come first in PATH.
func pythonWithImpacket(t *testing.T) string {
	t.Helper()
	for _, python := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(python, "-c", "import impacket, cryptography").Run() == nil {
			return python
		}
	}
	t.Fatal("impacket is missing: install the Debian package python3-impacket")
	return ""
}

// judgeFiles has openssl verify the certificate, find it in the list, and
// refuse it for that.
func judgeFiles(t *testing.T, ca *CA, out string) {
	t.Helper()
	openssl := func(args ...string) (string, error) {
		b, err := exec.CommandContext(t.Context(), "openssl", args...).CombinedOutput()
		return string(b), err
	}
	pem := func(name string, der []byte) string {
		file := out + name
		if err := os.WriteFile(file+".der", der, 0o600); err != nil {
			t.Fatal(err)
		}
		if text, err := openssl("x509", "-inform", "DER", "-in", file+".der", "-out", file); err != nil {
			t.Fatalf("openssl: %v\n%s", err, text)
		}
		return file
	}
	root, issuer := pem(".root", ca.Root().Raw), pem(".issuer", ca.Certificate().Raw)
	der, err := os.ReadFile(out + ".cer")
	if err != nil {
		t.Fatal(err)
	}
	leaf := pem(".leaf", der)
	if text, err := openssl("verify", "-CAfile", root, "-untrusted", issuer, "-purpose", "sslclient", leaf); err != nil {
		t.Errorf("openssl verify: %v\n%s", err, text)
	}
	list, err := openssl("crl", "-inform", "DER", "-in", out+".crl", "-noout", "-text", "-CAfile", issuer)
	cert, parseErr := x509.ParseCertificate(der)
	if err != nil || parseErr != nil {
		t.Fatalf("openssl crl: %v, %v\n%s", err, parseErr, list)
	}
	serial := strings.ToUpper(serialText(cert.SerialNumber))
	_, entry, found := strings.Cut(list, "Serial Number: "+serial)
	if !found || !strings.Contains(list, "verify OK") || !strings.Contains(strings.SplitN(entry, "Serial Number", 2)[0], "Key Compromise") {
		t.Errorf("the list does not verify, or lacks %s for Key Compromise:\n%s", serial, list)
	}
}
