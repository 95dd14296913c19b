package firstrun_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/installer/firstrun"
	"github.com/certconnector/certconnector/internal/testkeys"
)

// corpCA is a CA "Corp CA" below "Corp Root".
func corpCA(t *testing.T) (root, issuing *x509.Certificate) {
	t.Helper()
	template := func(n int64, name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(n), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(5, 0, 0),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		}
	}
	sign := func(c, by *x509.Certificate, key int, signer int) *x509.Certificate {
		der, err := x509.CreateCertificate(rand.Reader, c, by, testkeys.RSA2048(key).Public(), testkeys.RSA2048(signer))
		if err != nil {
			t.Fatal(err)
		}
		made, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	root = sign(template(1, "Corp Root"), template(1, "Corp Root"), 0, 0)
	return root, sign(template(2, "Corp CA"), root, 1, 0)
}

func pemOf(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func microsoft(t *testing.T) firstrun.Options {
	t.Helper()
	chain, keytab := microsoftFiles(t)
	o := static(t)
	o.CA, o.CAKey = firstrun.CAADCS, ""
	o.Microsoft = firstrun.MicrosoftCA{
		Config: `ca01.corp.example\Corp CA`, Chain: chain, Template: "Devices", SigningTemplate: "RA", Principal: "svc@CORP.EXAMPLE", Keytab: keytab,
	}
	return o
}

// The configuration is whole; certificates that the CA has to issue are left
// to further commands, and no key is made for it.
func TestMicrosoftCA(t *testing.T) {
	for name, change := range map[string]func(*firstrun.MicrosoftCA, *firstrun.Options){
		"over DCOM, keytab":   func(*firstrun.MicrosoftCA, *firstrun.Options) {},
		"over DCOM, password": func(m *firstrun.MicrosoftCA, _ *firstrun.Options) { m.PasswordFile, m.Keytab = m.Keytab, "" },
		"over web enrolment, keytab": func(m *firstrun.MicrosoftCA, o *firstrun.Options) {
			o.CA, m.Config, m.URL = firstrun.CACertsrv, "", "https://ca01.corp.example/certsrv/"
		},
		"without templates of the RA":     func(m *firstrun.MicrosoftCA, _ *firstrun.Options) { m.SigningTemplate = "" },
		"with one for encryption as well": func(m *firstrun.MicrosoftCA, _ *firstrun.Options) { m.EncryptionTemplate = `R"A` },
		"on Windows, as the service": func(m *firstrun.MicrosoftCA, o *firstrun.Options) {
			m.Principal, m.Keytab, m.SSPI, o.System = "", "", true, "windows"
		},
		"by NTLM": func(m *firstrun.MicrosoftCA, _ *firstrun.Options) {
			m.User, m.PasswordFile, m.Keytab, m.Principal = `CORP\svc`, m.Keytab, "", ""
		},
	} {
		o := microsoft(t)
		change(&o.Microsoft, &o)
		r := setUp(t, o)
		c, err := agent.LoadConfig(r.ConfigFile)
		if err != nil {
			t.Errorf("%s: the configuration is wrong: %v", name, err)
			continue
		}
		m, e := c.CAs[0], c.Endpoints[0]
		if m.Embedded != nil || (m.ADCS == nil) == (m.Certsrv == nil) || e.CA != m.Name || e.Templates.General != "Devices" ||
			e.RA.Templates.Signing != o.Microsoft.SigningTemplate || e.RA.Templates.Encryption != o.Microsoft.EncryptionTemplate {
			t.Errorf("%s: %+v, %+v", name, m, e)
		}
		if first := certificate(t, m.Chain); first.Subject.CommonName != "Corp CA" {
			t.Errorf("%s: %s comes first in the chain", name, first.Subject)
		}
		if r.RootSHA1 == "" || r.CA != o.CA {
			t.Errorf("%s: result %+v", name, r)
		}
		for _, file := range []string{"ca/ca.key.pem", "ra/signing.key.pem", "tls/tls.key.pem"} {
			if _, err := os.Lstat(filepath.Join(o.Dir, file)); err == nil {
				t.Errorf("%s: %s was made", name, file)
			}
		}
		onlyOurs(t, filepath.Join(o.Dir, "challenge"))
	}
}

func TestMicrosoftMistakesAreReportedAtOnce(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*firstrun.MicrosoftCA, *firstrun.Options)
		says   string
	}{
		"nothing is given":    {func(m *firstrun.MicrosoftCA, _ *firstrun.Options) { *m = firstrun.MicrosoftCA{} }, "--ca-config: --ca-chain --template --ca-principal"},
		"an address for DCOM": {func(m *firstrun.MicrosoftCA, _ *firstrun.Options) { m.URL = "https://x/" }, "--ca-url"},
		"a plain address": {func(m *firstrun.MicrosoftCA, o *firstrun.Options) {
			o.CA, m.URL = firstrun.CACertsrv, "http://ca/certsrv"
		}, "--ca-url: --ca-config"},
		"another CA's certificates": {func(m *firstrun.MicrosoftCA, _ *firstrun.Options) { m.Config = `h\Other` }, `"Other"`},
		"keytab and password":       {func(m *firstrun.MicrosoftCA, _ *firstrun.Options) { m.PasswordFile = m.Keytab }, "--ca-keytab or --ca-password-file"},
		"a keytab for NTLM":         {func(m *firstrun.MicrosoftCA, _ *firstrun.Options) { m.Principal, m.User = "", `C\s` }, "belongs to --ca-principal"},
		"NTLM without a password":   {func(m *firstrun.MicrosoftCA, _ *firstrun.Options) { m.Principal, m.User, m.Keytab = "", `C\s`, "" }, "--ca-password-file is missing"},
		"the service's account elsewhere": {func(m *firstrun.MicrosoftCA, o *firstrun.Options) {
			m.Principal, m.Keytab, m.SSPI, o.System = "", "", true, "linux"
		}, "--ca-sspi is for Windows"},
		"two accounts":                      {func(m *firstrun.MicrosoftCA, o *firstrun.Options) { m.SSPI, o.System = true, "windows" }, "leave --ca-principal"},
		"encryption alone":                  {func(m *firstrun.MicrosoftCA, _ *firstrun.Options) { m.SigningTemplate, m.EncryptionTemplate = "", "E" }, "--ra-encryption-template"},
		"a Microsoft CA's for the embedded": {func(_ *firstrun.MicrosoftCA, o *firstrun.Options) { o.CA = "" }, "are for --ca adcs and certsrv"},
		"a CA of another kind":              {func(_ *firstrun.MicrosoftCA, o *firstrun.Options) { o.CA = "acme" }, `--ca "acme" is unknown`},
	} {
		o := microsoft(t)
		row.change(&o.Microsoft, &o)
		_, err := firstrun.New(o)
		if err == nil {
			t.Errorf("%s: taken", name)
			continue
		}
		for _, says := range strings.Split(row.says, " --") {
			if !strings.Contains(err.Error(), says) {
				t.Errorf("%s: no word of %q in: %v", name, says, err)
			}
		}
	}
}

// Every step can fail here too.
func TestMicrosoftStepsAreUndone(t *testing.T) {
	first, err := firstrun.New(microsoft(t))
	if err != nil {
		t.Fatal(err)
	}
	for i := range first.Steps() {
		o := microsoft(t)
		p, err := firstrun.New(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.RunFailingAt(t.Context(), i, os.ErrPermission); err == nil {
			t.Errorf("step %d did not fail", i)
		}
		if _, err := os.Lstat(o.Dir); err == nil {
			t.Errorf("step %d: the folder is left behind", i)
		}
	}
}

// What a person does in the consoles has the names and IDs of Microsoft.
func TestConsoleSteps(t *testing.T) {
	all := strings.Join(append(firstrun.EntraSteps("app-1", "/x/entra.crt.pem", "AB12"), firstrun.IntuneSteps("https://scep.example/x", "export-root")...), "\n")
	for _, want := range []string{
		"app-1", "/x/entra.crt.pem", "AB12", "scep_challenge_provider", "39d724e8-6a34-4930-9a36-364082c35716", "c161e42e-d4df-4a3d-9b42-e7a3c31f59d4",
		"Application.Read.All", "9a5d68dd-52b0-4cc2-bd40-abcf44ac3a30", "Grant admin consent", "https://scep.example/x", "export-root", "Client Authentication",
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no word of %q in:\n%s", want, all)
		}
	}
}
