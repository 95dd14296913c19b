package ndesimport_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/installer/ndesimport"
)

const mscep = `HKEY_LOCAL_MACHINE\SOFTWARE\Microsoft\Cryptography\MSCEP`

// export makes an export of values, each as `Sub\Key|"name"=data`.
func export(values ...string) string {
	var b strings.Builder
	b.WriteString("Windows Registry Editor Version 5.00\r\n\r\n[" + mscep + "]\r\n")
	for _, v := range values {
		key, line, _ := strings.Cut(v, "|")
		b.WriteString("[" + strings.TrimSuffix(mscep+`\`+key, `\`) + "]\r\n" + line + "\r\n")
	}
	return b.String()
}

func run(t *testing.T, text string, o ndesimport.Options) ndesimport.Result {
	t.Helper()
	tree, err := ndesimport.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	r, err := ndesimport.Import(tree, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func finding(t *testing.T, r ndesimport.Result, value string) ndesimport.Finding {
	t.Helper()
	i := slices.IndexFunc(r.Findings, func(f ndesimport.Finding) bool { return f.Value == value })
	if i < 0 {
		t.Fatalf("nothing is said of %s: %+v", value, r.Findings)
	}
	return r.Findings[i]
}

// load completes an endpoint as a person would and gives it to the product.
func load(t *testing.T, yaml string, fill ...string) (agent.Config, error) {
	t.Helper()
	complete := []string{
		"ca: FILL-IN", "ca: embedded", "tenant: FILL-IN", "tenant: contoso",
		"certificate: FILL-IN", "certificate: point/c.pem", "key: FILL-IN", "key: point/k.pem",
		`# subject: ["CN=*.corp.example", "O=Corp"]`, `subject: ["CN=*.corp.example", "O=Corp"]`,
		`# san: ["dns:*.corp.example"]`, `san: ["dns:*.corp.example"]`,
	}
	yaml = strings.NewReplacer(append(fill, complete...)...).Replace(yaml)
	file := filepath.Join(t.TempDir(), "certconnector.yaml")
	text := yaml + `
listeners:
  - {name: devices, address: ":443", faces: [scep, challenges], tls: {certificate: c, key: k}}
tenants:
  - {name: contoso, tenant_id: contoso.onmicrosoft.com, client_id: 11111111-2222-3333-4444-555555555555, credential: {certificate: c, key: k}}
cas:
  - name: embedded
    embedded:
      certificate: ca/ca.crt.pem
      key: ca/ca.key.pem
      profiles: [{name: corpdevicesign}, {name: corpdeviceencrypt}, {name: corpdevice}]
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return agent.LoadConfig(file)
}

func TestServerBecomesAnEndpoint(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "server.reg"))
	if err != nil {
		t.Fatal(err)
	}
	r := run(t, string(b), ndesimport.Options{Endpoint: "corp"})
	if _, err := load(t, r.YAML, `# subject:`, `# none:`); err == nil || !strings.Contains(err.Error(), "allow.subject") {
		t.Errorf("an endpoint that gives any name was loaded: %v", err)
	}
	c, err := load(t, r.YAML)
	if err != nil {
		t.Fatalf("%v\n%s", err, r.YAML)
	}
	if len(c.Endpoints) != 1 {
		t.Fatalf("%d endpoints", len(c.Endpoints))
	}
	e := c.Endpoints[0]
	want := agent.OnetimePolicy{Lifetime: 30 * time.Minute, Bytes: 16, MaxOutstanding: 50, AdminPath: "/certsrv/mscep_admin", Charset: "utf16le-bom"}
	if e.Policy.Onetime == nil || *e.Policy.Onetime != want {
		t.Errorf("policy %+v, want %+v", e.Policy.Onetime, want)
	}
	if e.Name != "corp" || e.Path != "/certsrv/mscep/mscep.dll" || e.ReplayWindow != 20*time.Minute ||
		e.Templates != (agent.Templates{Signature: "corpdevicesign", Encryption: "corpdeviceencrypt", General: "corpdevice"}) ||
		e.Algorithms != (agent.Algorithms{Legacy3DES: true}) {
		t.Errorf("endpoint %+v", e)
	}
	for value, kind := range map[string]ndesimport.Kind{
		`SignatureTemplate`:                       ndesimport.Changed,
		`CAInfo\Configuration`:                    ndesimport.Manual,
		`PasswordLength\PasswordLength`:           ndesimport.Changed,
		`PasswordMax\PasswordMax`:                 ndesimport.Kept,
		`CertsInMYStore\CertsInMYStore`:           ndesimport.Dropped,
		`EncryptionAlgorithm\EncryptionAlgorithm`: ndesimport.Kept,
		`(names)`: ndesimport.Manual,
	} {
		if f := finding(t, r, value); f.Kind != kind || f.NeedsPerson != (kind == ndesimport.Manual) || f.Why == "" {
			t.Errorf("%s: %+v, want %s", value, f, kind)
		}
	}
	if !r.NeedsPerson() || r.Findings[0].Kind != ndesimport.Manual {
		t.Error("what needs a person does not come first")
	}
}

// TestFindings says of each value what becomes of it. yaml is what the
// endpoint must hold, or after a "!" must not.
func TestFindings(t *testing.T) {
	for name, tc := range map[string]struct {
		export string
		value  string
		kind   ndesimport.Kind
		person bool
		yaml   string
	}{
		"display name as template":       {export(`|"SignatureTemplate"="Corp Device"`), "SignatureTemplate", ndesimport.Manual, true, "signature: corp-device"},
		"template of the setup":          {export(`|"GeneralPurposeTemplate"="IPSECIntermediateOffline"`), "GeneralPurposeTemplate", ndesimport.Manual, true, "general: ipsecintermediateoffline"},
		"template with a plain name":     {export(`|"SignatureTemplate"="device"`), "SignatureTemplate", ndesimport.Kept, false, "signature: device"},
		"templates that look alike":      {export(`|"SignatureTemplate"="Corp.A"`, `|"EncryptionTemplate"="Corp:A"`), "EncryptionTemplate", ndesimport.Changed, false, "encryption: corp-a-encryption"},
		"template without our letters":   {export(`|"EncryptionTemplate"="端末"`), "EncryptionTemplate", ndesimport.Changed, false, "encryption: encryption"},
		"empty template":                 {export(`|"EncryptionTemplate"=""`), "EncryptionTemplate", ndesimport.Dropped, false, "!templates:"},
		"text where a number belongs":    {export(`PasswordMax|"PasswordMax"="5"`), `PasswordMax\PasswordMax`, ndesimport.Manual, true, "max_outstanding: 1000"},
		"number where a text belongs":    {export(`CAInfo|"Configuration"=dword:1`), `CAInfo\Configuration`, ndesimport.Manual, true, "ca: FILL-IN"},
		"standalone CA":                  {export(`CAType|"CAType"=dword:0`), `CAType\CAType`, ndesimport.Manual, true, ""},
		"enterprise CA":                  {export(`CAType|"CAType"=dword:1`), `CAType\CAType`, ndesimport.Dropped, false, ""},
		"another kind of CA":             {export(`CAType|"CAType"=dword:7`), `CAType\CAType`, ndesimport.Manual, true, ""},
		"no challenge at all":            {export(`EnforcePassword|"EnforcePassword"=dword:0`), `EnforcePassword\EnforcePassword`, ndesimport.Manual, true, "onetime:"},
		"challenges":                     {export(`EnforcePassword|"EnforcePassword"=dword:1`), `EnforcePassword\EnforcePassword`, ndesimport.Kept, false, "onetime:"},
		"one password for all":           {export(`UseSinglePassword|"UseSinglePassword"=dword:1`), `UseSinglePassword\UseSinglePassword`, ndesimport.Manual, true, "static:"},
		"short passwords":                {export(`PasswordLength|"PasswordLength"=dword:8`), `PasswordLength\PasswordLength`, ndesimport.Changed, false, "bytes: 16"},
		"long passwords":                 {export(`PasswordLength|"PasswordLength"=dword:18`), `PasswordLength\PasswordLength`, ndesimport.Kept, false, "bytes: 24"},
		"passwords nobody can type":      {export(`PasswordLength|"PasswordLength"=dword:ffff`), `PasswordLength\PasswordLength`, ndesimport.Changed, false, "bytes: 32"},
		"five passwords":                 {export(`PasswordMax|"PasswordMax"=dword:5`), `PasswordMax\PasswordMax`, ndesimport.Changed, false, "max_outstanding: 1000"},
		"too many passwords":             {export(`PasswordMax|"PasswordMax"=dword:ffffffff`), `PasswordMax\PasswordMax`, ndesimport.Changed, false, "max_outstanding: 1000000"},
		"passwords of two hours":         {export(`PasswordValidity|"PasswordValidity"=dword:78`), `PasswordValidity\PasswordValidity`, ndesimport.Kept, false, "lifetime: 2h"},
		"passwords of a month":           {export(`PasswordValidity|"PasswordValidity"=dword:a8c0`), `PasswordValidity\PasswordValidity`, ndesimport.Changed, false, "lifetime: 60m"},
		"page elsewhere":                 {export(`PasswordVDir|"PasswordVDir"="CertSrv\\pw"`), `PasswordVDir\PasswordVDir`, ndesimport.Kept, false, `admin_path: "/CertSrv/pw"`},
		"page that is no path":           {export(`PasswordVDir|"PasswordVDir"="a?b"`), `PasswordVDir\PasswordVDir`, ndesimport.Changed, false, `admin_path: "/certsrv/mscep_admin"`},
		"replays":                        {export(`CacheRequest|"CacheRequest"=dword:14`), `CacheRequest\CacheRequest`, ndesimport.Kept, false, "replay_window: 20m"},
		"no replays":                     {export(`CacheRequest|"CacheRequest"=dword:0`), `CacheRequest\CacheRequest`, ndesimport.Changed, false, "!replay_window"},
		"SHA-1":                          {export(`HashAlgorithm|"HashAlgorithm"="SHA1"`), `HashAlgorithm\HashAlgorithm`, ndesimport.Manual, true, "legacy_sha1: false"},
		"SHA-1 by its identifier":        {export(`HashAlgorithm|"HashAlgorithm"="1.3.14.3.2.26"`), `HashAlgorithm\HashAlgorithm`, ndesimport.Manual, true, "legacy_sha1: false"},
		"SHA-256":                        {export(`HashAlgorithm|"HashAlgorithm"="SHA-256"`), `HashAlgorithm\HashAlgorithm`, ndesimport.Kept, false, ""},
		"an unknown hash":                {export(`HashAlgorithm|"HashAlgorithm"="best"`), `HashAlgorithm\HashAlgorithm`, ndesimport.Manual, true, ""},
		"single DES":                     {export(`EncryptionAlgorithm|"EncryptionAlgorithm"="des"`), `EncryptionAlgorithm\EncryptionAlgorithm`, ndesimport.Manual, true, ""},
		"triple DES":                     {export(`EncryptionAlgorithm|"EncryptionAlgorithm"="3DES"`), `EncryptionAlgorithm\EncryptionAlgorithm`, ndesimport.Kept, false, "legacy_3des: true"},
		"an algorithm nobody chose":      {export(`EncryptionAlgorithm|"EncryptionAlgorithm"=""`), `EncryptionAlgorithm\EncryptionAlgorithm`, ndesimport.Dropped, false, ""},
		"store of certificates":          {export(`CertsInMYStore|"CertsInMYStore"=dword:1`), `CertsInMYStore\CertsInMYStore`, ndesimport.Dropped, false, ""},
		"module of Intune":               {export(`Modules|"Policy"="Some.Module"`, `Modules\NDESPolicy|"NDESCertThumbprint"="AB"`), `Modules\Policy`, ndesimport.Manual, true, "intune: {tenant: FILL-IN}"},
		"module of Intune, removed":      {export(`Modules\NDESPolicy|"NDESCertThumbprint"="AB"`), `Modules\Policy`, ndesimport.Manual, true, "intune:"},
		"its certificate":                {export(`Modules\NDESPolicy|"NDESCertThumbprint"="AB"`), `Modules\NDESPolicy\NDESCertThumbprint`, ndesimport.Dropped, false, "intune:"},
		"module of somebody else":        {export(`Modules|"Policy"="Some.Module"`), `Modules\Policy`, ndesimport.Manual, true, "# policy: {intune:"},
		"module as a default value":      {export(`Modules\Policy|@="Some.Module"`), `Modules\Policy\(Default)`, ndesimport.Manual, true, "# policy: {intune:"},
		"no module":                      {export(`Modules|"Policy"=""`), `Modules\Policy`, ndesimport.Dropped, false, "onetime:"},
		"our module":                     {export(`Modules|"Policy"="CertConnector.NDESPolicy.1"`), `Modules\Policy`, ndesimport.Changed, false, "url: FILL-IN"},
		"password that a module ignores": {export(`Modules|"Policy"="certconnector.NDESPolicy"`, `PasswordMax|"PasswordMax"=dword:5`), `PasswordMax\PasswordMax`, ndesimport.Dropped, false, "!onetime"},
		"unknown value":                  {export(`Colour|"Blue"=dword:1`), `Colour\Blue`, ndesimport.Dropped, true, ""},
		"unknown default value":          {export(`Colour|@="blue"`), `Colour\(Default)`, ndesimport.Dropped, true, ""},
		"empty default value":            {export(`|@=""`), `(Default)`, ndesimport.Dropped, false, ""},
		"value that is deleted":          {export(`CAInfo|"Configuration"=-`), mscep + `\CAInfo\Configuration`, ndesimport.Dropped, true, ""},
		"value outside":                  {export() + "[HKLM\\X]\r\n\"a\"=\"b\"\r\n", `HKEY_LOCAL_MACHINE\X\a`, ndesimport.Dropped, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, tc.export, ndesimport.Options{CA: "embedded"})
			f := finding(t, r, tc.value)
			if tc.yaml == "ca: FILL-IN" {
				r = run(t, tc.export, ndesimport.Options{})
			}
			if f.Kind != tc.kind || f.NeedsPerson != tc.person {
				t.Errorf("%+v, want %s, needs a person %v", f, tc.kind, tc.person)
			}
			text, absent := strings.CutPrefix(tc.yaml, "!")
			if strings.Contains(r.YAML, text) == absent && text != "" {
				t.Errorf("in the endpoint, want %q:\n%s", tc.yaml, r.YAML)
			}
		})
	}
}

func TestOneSecretForAllIsNeverTakenOver(t *testing.T) {
	r := run(t, export(`UseSinglePassword|"UseSinglePassword"=dword:1`, `EncryptedPassword|"EncryptedPassword"=hex:41,42,43,44`), ndesimport.Options{CA: "embedded"})
	if f := finding(t, r, `EncryptedPassword\EncryptedPassword`); f.Was != "4 octets" || f.Kind != ndesimport.Dropped {
		t.Errorf("%+v", f)
	}
	if strings.Contains(r.YAML, "ABCD") {
		t.Error("the endpoint shows the encrypted password")
	}
	if _, err := load(t, r.YAML); err == nil || !strings.Contains(err.Error(), "allow_static_challenge: must be true") {
		t.Errorf("loaded without anybody's consent: %v", err)
	}
	if _, err := load(t, r.YAML, "# allow_static_challenge", "allow_static_challenge"); err != nil {
		t.Error(err)
	}
}

func TestIntuneServerWithItsTenantNeedsNobody(t *testing.T) {
	r := run(t, export(`Modules|"Policy"="Some.Module"`, `Modules\NDESPolicy|"NDESCertThumbprint"="AB"`, `|"GeneralPurposeTemplate"="CorpDevice"`,
		`CAInfo|"Configuration"="ca01\\Corp"`, `EnforcePassword|"EnforcePassword"=dword:1`), ndesimport.Options{CA: "embedded", Tenant: "contoso"})
	if r.NeedsPerson() || strings.Contains(r.YAML, "FILL-IN\n") {
		t.Errorf("%+v\n%s", r.Findings, r.YAML)
	}
	c, err := load(t, r.YAML)
	if err != nil {
		t.Fatal(err)
	}
	if p := c.Endpoints[0].Policy.Intune; p == nil || p.Tenant != "contoso" {
		t.Errorf("policy %+v", c.Endpoints[0].Policy)
	}
}

func TestOurModuleAsksTheSameRegistrationPoint(t *testing.T) {
	const key = `Modules\CertConnectorPolicy|`
	r := run(t, export(`Modules|"Policy"="certconnector.NDESPolicy.1"`, key+`"Url"="https://crp.corp.example:8443"`, key+`"Tenant"="contoso"`,
		key+`"ClientCertThumbprint"="AB"`, key+`"Endpoint"="ndes1"`, key+`"ServerPins"="00"`), ndesimport.Options{CA: "embedded"})
	c, err := load(t, r.YAML)
	if err != nil {
		t.Fatalf("%v\n%s", err, r.YAML)
	}
	p := c.Endpoints[0].Policy.RegistrationPoint
	if p == nil || p.URL != "https://crp.corp.example:8443" || p.Tenant != "contoso" {
		t.Errorf("policy %+v", p)
	}
	for value, person := range map[string]bool{"Url": false, "Tenant": false, "Endpoint": false, "ClientCertThumbprint": true, "ServerPins": true} {
		if f := finding(t, r, `Modules\CertConnectorPolicy\`+value); f.NeedsPerson != person {
			t.Errorf("%+v", f)
		}
	}
}

func TestEndpointIsYAMLWhateverNamesHold(t *testing.T) {
	r := run(t, export("|\"GeneralPurposeTemplate\"=\"a\n  policy: {}\n# \x85: \\\\ 'ü\"", "CAInfo|\"Configuration\"=\"x\nendpoints: []\""), ndesimport.Options{CA: "embedded"})
	for line := range strings.Lines(r.YAML) {
		if strings.HasPrefix(line, "endpoints: []") || strings.HasPrefix(line, "  policy: {}") {
			t.Errorf("foreign text became a line of its own: %q", line)
		}
	}
	_, err := load(t, r.YAML)
	if err == nil || strings.Contains(err.Error(), "yaml") || !strings.Contains(err.Error(), "templates.general") {
		t.Errorf("error %v, want one of the profile only", err)
	}
}

func TestCopies(t *testing.T) {
	wow := strings.ReplaceAll(export(`PasswordMax|"PasswordMax"=dword:64`), `SOFTWARE\`, `SOFTWARE\WOW6432Node\`)
	wow = strings.TrimPrefix(wow, "Windows Registry Editor Version 5.00")
	both := run(t, export(`PasswordMax|"PasswordMax"=dword:32`)+wow, ndesimport.Options{})
	if !strings.Contains(both.YAML, "max_outstanding: 50") {
		t.Errorf("the copy for 32-bit programs counts:\n%s", both.YAML)
	}
	if f := finding(t, both, strings.Replace(mscep, `SOFTWARE\`, `SOFTWARE\WOW6432Node\`, 1)+`\PasswordMax\PasswordMax`); f.Kind != ndesimport.Dropped {
		t.Errorf("%+v", f)
	}
	alone := run(t, "REGEDIT4"+wow, ndesimport.Options{})
	if f := finding(t, alone, strings.Replace(mscep, `SOFTWARE\`, `SOFTWARE\WOW6432Node\`, 1)); !f.NeedsPerson || !strings.Contains(alone.YAML, "max_outstanding: 100\n") {
		t.Errorf("%+v\n%s", f, alone.YAML)
	}
}

func TestImportRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		o    ndesimport.Options
		want string
	}{
		"no settings of NDES":     {"REGEDIT4\n[HKLM\\SOFTWARE\\Microsoft\\Cryptography]\n", ndesimport.Options{}, "no key"},
		"two servers":             {export() + `[HKLM\Other\Microsoft\Cryptography\MSCEP]`, ndesimport.Options{}, "more than one server"},
		"name that is none":       {export(), ndesimport.Options{Endpoint: "A b"}, "no name for an endpoint"},
		"CA that is no name":      {export(), ndesimport.Options{CA: "a: b"}, "no name for a CA"},
		"tenant that is no name":  {export(), ndesimport.Options{Tenant: "x\ny"}, "no name for a tenant"},
		"name longer than others": {export(), ndesimport.Options{CA: strings.Repeat("a", 65)}, "1 to 64"},
	} {
		t.Run(name, func(t *testing.T) {
			tree, err := ndesimport.Parse([]byte(tc.text))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ndesimport.Import(tree, tc.o); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}
