package agent

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/configfile"
)

var update = flag.Bool("update", false, "write configs/certconnector.full.yaml anew")

const fullFile = "../configs/certconnector.full.yaml"

// fullSample sets what has no default, and one element of each kind in the
// lists; all other values are the defaults.
func fullSample() Config {
	pair := func(name string) KeyPair { return KeyPair{Certificate: name + ".crt.pem", Key: name + ".key.pem"} }
	tls := ListenerTLS{Certificate: "tls/tls.crt.pem", Key: "tls/tls.key.pem"}
	issued := ListenerTLS{IssuedBy: "embedded", Names: []string{"admin.corp.example", "127.0.0.1"}}
	c := Defaults()
	c.StateDir = "/var/lib/certconnector"
	c.Keys.PKCS11 = &KeysPKCS11{Module: "/usr/lib/softhsm/libsofthsm2.so", PIN: &SecretRef{File: "secrets/pin"}}
	c.Listeners = []Listener{
		{Name: "devices", Address: ":443", Faces: []string{FaceSCEP}, TLS: &tls},
		{Name: "relying-parties", Address: ":80", Faces: []string{FaceCRL, FaceOCSP}, PlainHTTP: true},
		{Name: "admin", Address: "127.0.0.1:9443", Faces: []string{FaceStatus}, TLS: &issued},
		{Name: "neighbours", Address: ":8443", Faces: []string{FaceChallenges, FaceCRP}, TLS: &tls, ClientCA: "tls/clients.pem"},
	}

	withSecret := func(t *Tenant) { t.Credential = Credential{Secret: &SecretRef{File: "secrets/client-secret"}} }
	withCertificate := func(t *Tenant) {
		t.Credential = Credential{Certificate: "entra/entra.crt.pem", Key: "entra/entra.key.pem"}
		t.Proxy = &Proxy{URL: "http://proxy.corp.example:8080", User: "connector", Password: &SecretRef{Env: "PROXY_PASSWORD"}}
	}
	var managed ManagedCredential
	managed.SetDefaults()
	var revocation Revocation
	revocation.SetDefaults()
	withManaged := func(t *Tenant) { t.Credential, t.Revocation = Credential{Managed: &managed}, &revocation }
	withToken := func(t *Tenant) { t.Credential = Credential{TokenFile: "secrets/federated-token"} }
	for i, more := range []func(*Tenant){withCertificate, withSecret, withManaged, withToken} {
		var t Tenant
		t.SetDefaults()
		t.Name, t.TenantID, t.ClientID = fmt.Sprintf("tenant-%d", i+1), "contoso.onmicrosoft.com", "11111111-2222-3333-4444-555555555555"
		more(&t)
		c.Tenants = append(c.Tenants, t)
	}

	var e EmbeddedCA
	e.SetDefaults()
	e.CRLURL, e.OCSPURL = "http://pki.corp.example/crl/embedded.crl", "http://pki.corp.example/ocsp"
	e.Certificate, e.Key, e.Profiles = "ca/ca.crt.pem", "ca/ca.key.pem", []Profile{DefaultProfile()}
	kerberos := func(k Kerberos) *Kerberos { k.Principal = "svc-connector@CORP.EXAMPLE"; return &k }
	password := &Password{User: `CORP\svc-connector`, Password: SecretRef{File: "secrets/connector"}}
	client := pair("tls/client")
	through := &Proxy{URL: "http://proxy.corp.example:8080"}
	adcs := func(more func(*ADCS)) *ADCS {
		var b ADCS
		b.SetDefaults()
		b.Config = `ca01.corp.example\Corp Issuing CA`
		more(&b)
		return &b
	}
	web := func(more func(*Certsrv)) *Certsrv {
		var b Certsrv
		b.SetDefaults()
		b.URL = "https://ca01.corp.example/certsrv/"
		more(&b)
		return &b
	}
	soap := func(more func(*WSTEP)) *WSTEP {
		var b WSTEP
		b.SetDefaults()
		b.Policy = "https://ces.corp.example/ADPolicyProvider_CEP_Certificate/service.svc/CEP"
		more(&b)
		return &b
	}
	for _, more := range []CA{
		{Name: "embedded", Embedded: &e},
		{Name: "dcom", ADCS: adcs(func(b *ADCS) {
			b.Kerberos, b.Revoke = kerberos(Kerberos{Keytab: "secrets/connector.keytab"}), "csra"
		})},
		{Name: "dcom-ntlm", ADCS: adcs(func(b *ADCS) { b.NTLM = password })},
		{Name: "dcom-windows", ADCS: adcs(func(b *ADCS) { b.SSPI = &SSPI{} })},
		{Name: "web", Certsrv: web(func(b *Certsrv) { b.Kerberos = kerberos(Kerberos{Password: &SecretRef{File: "secrets/connector"}}) })},
		{Name: "web-windows", Certsrv: web(func(b *Certsrv) { b.SSPI = &SSPI{} })},
		{Name: "web-ntlm", Certsrv: web(func(b *Certsrv) { b.NTLM = password })},
		{Name: "web-basic", Certsrv: web(func(b *Certsrv) { b.Basic, b.ClientCertificate, b.Proxy = password, &client, through })},
		{Name: "soap", WSTEP: soap(func(b *WSTEP) { b.ClientCertificate, b.Proxy = &client, through })},
		{Name: "soap-user", WSTEP: soap(func(b *WSTEP) {
			b.User, b.Policy = password, strings.Replace(b.Policy, "_CEP_Certificate", "_CEP_UsernamePassword", 1)
		})},
		{Name: "soap-kerberos", WSTEP: soap(func(b *WSTEP) {
			b.Kerberos = kerberos(Kerberos{CCache: "secrets/connector.ccache"})
			b.Policy = strings.Replace(b.Policy, "_CEP_Certificate", "_CEP_Kerberos", 1)
		})},
		{Name: "issuing", Roads: []string{"dcom", "web"}},
		{Name: "soap-windows", WSTEP: soap(func(b *WSTEP) {
			b.SSPI, b.Policy = &SSPI{}, strings.Replace(b.Policy, "_CEP_Certificate", "_CEP_Kerberos", 1)
		})},
	} {
		more.Concurrent, more.Queue = 8, 256
		if more.Embedded == nil {
			more.Chain = "ca/chain.pem"
		}
		c.CAs = append(c.CAs, more)
	}

	var onetime OnetimePolicy
	onetime.SetDefaults()
	var token TokenPolicy
	token.SetDefaults()
	signing := pair("token/signing")
	token.Signing, token.Recipients = &signing, []KeyPair{pair("token/recipient")}
	token.Trusted = []TrustedSigner{{Name: "mdm", Certificate: "token/mdm.crt.pem", Subject: []string{"CN=*.corp.example"}, SAN: []string{"dns:*.corp.example"}}}
	var remote RemotePolicy
	remote.SetDefaults()
	remote.Proxy = through
	remote.URL, remote.Certificate, remote.Key = "https://crp.corp.example:8443", "tls/client.crt.pem", "tls/client.key.pem"
	allow := func(e *Endpoint) {
		e.Allow.Subject, e.Allow.SAN = []string{"CN=*.corp.example", "O=Corp"}, []string{"dns:*.corp.example"}
	}
	for _, p := range []struct {
		name, path string
		policy     Policy
		more       func(*Endpoint)
	}{
		{"corp", "/certsrv/mscep/mscep.dll", Policy{Intune: &IntunePolicy{Tenant: "tenant-1"}}, func(*Endpoint) {}},
		{"jamf", "/scep/jamf", Policy{Onetime: &onetime}, allow},
		{"mdm", "/scep/mdm", Policy{Token: &token}, allow},
		{"elsewhere", "/scep/elsewhere", Policy{RegistrationPoint: &remote}, func(*Endpoint) {}},
		{"lab", "/scep/lab", Policy{Static: &StaticPolicy{Challenge: SecretRef{File: "secrets/challenge"}, AllowStaticChallenge: true}}, allow},
	} {
		var e Endpoint
		e.SetDefaults()
		e.Name, e.Path, e.Policy, e.CA = p.name, p.path, p.policy, "embedded"
		e.RA.Signing, e.RA.Encryption = pair("ra/signing"), pair("ra/encryption")
		p.more(&e)
		c.Endpoints = append(c.Endpoints, e)
	}
	var source JobSource
	source.SetDefaults()
	source.Name, source.CA, source.Template = "hr", "embedded", "device"
	source.Queue = JobQueue{URL: "https://jobs.corp.example/api/", Certificate: "jobs/client.crt.pem", Key: "jobs/client.key.pem", CAFile: "jobs/ca.pem", Proxy: through}
	source.Allow.Subject, source.Allow.SAN = []string{"CN=*", "O=Corp"}, []string{"email:*@corp.example"}
	source.Recipients = []JobRecipient{{Certificate: "jobs/recipient.crt.pem"}}
	var imported PFXImport
	imported.SetDefaults()
	imported.Tenant, imported.PublicKey, imported.KeyName = "tenant-1", "jobs/pfx-public.pem", "PFXEncryptionKey"
	source.Import = &imported
	c.Jobs.Sources = []JobSource{source}
	right := Right{Endpoint: "jamf", Subject: []string{"CN=*.corp.example"}, SAN: []string{"dns:*.corp.example"}, PerMinute: 60}
	c.Principals = []Principal{{
		Name: "jamf", Password: &SecretRef{File: "secrets/jamf"},
		Certificate: &ClientCertificate{DNSName: "jamf.corp.example"}, Rights: []Right{right},
	}}
	c.RegistrationPoint.FrontEnds = []FrontEnd{{
		Name: "dmz", Certificate: ClientCertificate{DNSName: "scep.corp.example"}, Tenants: []string{"tenant-1"},
	}}
	return c
}

// writer writes a tree as YAML, each key with its comment where it stands
// first.
type writer struct {
	b        strings.Builder
	comments map[string]string
	said     map[string]bool
}

func (w *writer) section(v reflect.Value, indent string) {
	for i := range v.NumField() {
		field, value := v.Type().Field(i), v.Field(i)
		if value.Kind() == reflect.Pointer && value.IsNil() {
			continue
		}
		w.comment(v.Type().Name()+"."+field.Name, indent)
		w.value(indent+field.Tag.Get("yaml")+":", reflect.Indirect(value), indent)
	}
}

func (w *writer) value(head string, v reflect.Value, indent string) {
	switch {
	case v.Kind() == reflect.Struct:
		fmt.Fprintln(&w.b, head)
		w.section(v, indent+"  ")
	case v.Kind() == reflect.Slice && v.Len() > 0 && v.Type().Elem().Kind() == reflect.Struct:
		fmt.Fprintln(&w.b, head)
		for i := range v.Len() {
			fmt.Fprintf(&w.b, "%s  -\n", indent)
			w.section(v.Index(i), indent+"    ")
		}
	case v.Type() == reflect.TypeFor[time.Duration]():
		fmt.Fprintln(&w.b, head, v.Interface())
	default: // JSON values are YAML values
		b, _ := json.Marshal(v.Interface())
		fmt.Fprintln(&w.b, head, strings.ReplaceAll(strings.ReplaceAll(string(b), "null", "[]"), `","`, `", "`))
	}
}

func (w *writer) comment(key, indent string) {
	if w.said[key] {
		return
	}
	w.said[key] = true
	line := indent + "#"
	for _, word := range strings.Fields(w.comments[key]) {
		if len(line)+1+len(word) > 96 {
			fmt.Fprintln(&w.b, line)
			line = indent + "#"
		}
		line += " " + word
	}
	fmt.Fprintln(&w.b, line)
}

// The full sample is made from the structs: a key that is missing, a default
// that is wrong or a comment that is old cannot be.
func TestFullSampleIsUpToDate(t *testing.T) {
	comments, err := configfile.Comments(configSources)
	if err != nil {
		t.Fatal(err)
	}
	w := &writer{comments: comments, said: map[string]bool{}}
	w.b.WriteString("# Every key, with its default where it has one. Made from the comments in the\n" +
		"# agent's configuration (go test ./agent -run FullSample -update); do not edit.\n" +
		"# Lists show one element of each kind. Relative paths start at this file's folder.\n" +
		"# Single values outside lists can be set in the environment, levels joined by\n" +
		"# two underscores: CERTCONNECTOR_JOURNAL__SQLITE__PATH.\n\n")
	w.section(reflect.ValueOf(fullSample()), "")
	if *update {
		if err := os.WriteFile(fullFile, []byte(w.b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(fullFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != w.b.String() {
		t.Errorf("%s is out of date: run go test ./agent -run FullSample -update", fullFile)
	}
	for key, comment := range comments {
		if comment == "" {
			t.Errorf("%s has no comment", key)
		} else if !w.said[key] {
			t.Errorf("%s is not in the sample", key)
		}
	}
}

func TestFullSampleReadsBack(t *testing.T) {
	var got Config
	if err := configfile.Load(fullFile, &got); err != nil {
		t.Fatal(err)
	}
	want := fullSample()
	normalize(reflect.ValueOf(&got).Elem())
	normalize(reflect.ValueOf(&want).Elem())
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read back\n%+v\nwant\n%+v", got, want)
	}
	if err := got.Validate(); err != nil {
		t.Error(err)
	}
}

// normalize makes empty lists nil: a file cannot tell them apart.
func normalize(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			normalize(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			normalize(v.Field(i))
		}
	case reflect.Slice:
		if v.Len() == 0 {
			v.SetZero()
		}
		for i := range v.Len() {
			normalize(v.Index(i))
		}
	}
}
