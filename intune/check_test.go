package intune_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/proxy/proxytest"
	"github.com/certconnector/certconnector/internal/retry"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// madeUp is a request whose challenge nobody made.
func madeUp(t *testing.T) []byte {
	t.Helper()
	der, err := (&scepclient.CSR{Subject: pkix.Name{CommonName: "check"}, Challenge: "made-up"}).Encode(testkeys.RSA2048(3))
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// diagnose is a run against the world's cloud.
func (w *world) diagnose(t *testing.T, want intune.Wanted, change ...func(*intune.Config)) []intune.Finding {
	t.Helper()
	cfg := w.cloud.ClientConfig()
	cfg.Backoff = retry.Schedule{First: time.Millisecond, Most: 5 * time.Millisecond}
	cfg.Timeouts = patient
	for _, f := range change {
		f(&cfg)
	}
	want.Challenge = madeUp(t)
	return intune.Diagnose(t.Context(), cfg, want)
}

// troubles are the findings that are not in order.
func troubles(found []intune.Finding) (ids []string) {
	for _, f := range found {
		if f.Level > intune.Note {
			ids = append(ids, f.ID+" "+f.Level.String())
		}
	}
	return ids
}

// realTime is a cloud whose clock is that of its answers' Date.
func realTime(t *testing.T) *world {
	w := newWorld(t, intunetest.Options{})
	w.clock.Advance(time.Since(w.clock.Now()))
	return w
}

func TestDiagnoseInOrder(t *testing.T) {
	w := realTime(t)
	_ = w.cloud.SetRoles(intunetest.ContosoID, intunetest.ContosoClient, intunetest.RoleGraph, intunetest.RoleIntune, intunetest.RolePFX)
	cert := signInCertificate(t, 1)
	_ = w.cloud.SetCertificates(intunetest.ContosoID, intunetest.ContosoClient, cert.Certificate)
	found := w.diagnose(t, intune.Wanted{Revocation: true, Rotation: true, Graph: []string{intunetest.RolePFX}},
		withCredential(intune.Credential{Certificates: intune.Fixed(cert)}))
	var ids []string
	for _, f := range found {
		if f.Level > intune.OK || f.Text == "" {
			t.Errorf("%+v", f)
		}
		ids = append(ids, f.ID)
	}
	want := []string{
		intune.CheckCredential, intune.CheckSignIn, intune.CheckIntune, intune.CheckGraph, intune.CheckServices, intune.CheckVerdict,
		intune.CheckRevocation, intune.CheckFeature, intune.CheckRegistration, intune.CheckClock,
	}
	if !slices.Equal(ids, want) {
		t.Errorf("findings %v, want %v", ids, want)
	}
	counts := w.counts()
	if counts[intunetest.Download]+counts[intunetest.Success]+counts[intunetest.Failure] != 0 || counts[intunetest.Validate] != 1 {
		t.Errorf("a check did more than it may: %v", counts)
	}
}

// Each fault is told apart, with a way out; those that somebody else mends are
// worth waiting for.
func TestDiagnoseTellsCausesApart(t *testing.T) {
	const contoso, app = intunetest.ContosoID, intunetest.ContosoClient
	service := func(w *world) []intunetest.Service {
		return []intunetest.Service{{Provider: scepService, URI: w.cloud.ServiceURL()}}
	}
	cert := signInCertificate(t, 1)
	certificate := withCredential(intune.Credential{Certificates: intune.Fixed(cert)})
	fault := func(at intunetest.Endpoint, f intunetest.Fault) func(*world) {
		return func(w *world) { w.cloud.Fail(at, intunetest.Always, f) }
	}
	for _, row := range []struct {
		name   string
		cloud  func(*world)
		config func(*intune.Config)
		want   string // IDs and levels
		says   string // in text or fix of the first
		waits  bool
	}{
		{name: "a tenant that does not exist", config: func(c *intune.Config) { c.TenantID = "fabrikam.example" },
			want: "intune.tenant failure", says: "check tenant ID"},
		{name: "an application of another tenant", config: func(c *intune.Config) { c.ClientID = "11111111-0000-4000-8000-000000000009" },
			want: "intune.application failure", says: "AADSTS700016", waits: true},
		{name: "a certificate that was not uploaded", config: certificate,
			want: "intune.credential failure", says: "upload the certificate", waits: true},
		{name: "a secret that is wrong", config: withCredential(intune.Credential{Secret: "its-id"}),
			want: "intune.credential failure", says: "not its ID"},
		{name: "a sign-in outside its valid time", cloud: fault(intunetest.Token, intunetest.Fault{AADSTS: 700024}),
			want: "intune.clock failure", says: "NTP"},
		{name: "Intune was never set up in the tenant", cloud: fault(intunetest.Token, intunetest.Fault{AADSTS: 500011, Status: 400}),
			want: "intune.licence failure", says: "AADSTS500011"},
		{name: "Intune was never set up, and Graph is", cloud: func(w *world) {
			w.cloud.SetServices([]intunetest.Service{})
			w.cloud.Fail(intunetest.Token, intunetest.Always, intunetest.Fault{Skip: 1, AADSTS: 500011, Status: 400})
		}, want: "intune.licence failure intune.services failure", says: "AADSTS500011"},
		{name: "no permission for Intune, and no service yet", cloud: func(w *world) {
			_ = w.cloud.SetRoles(contoso, app, intunetest.RoleGraph)
			w.cloud.SetServices([]intunetest.Service{})
		}, want: "intune.permission.intune failure intune.services failure", says: "scep_challenge_provider", waits: true},
		{name: "sign-in is out of order", cloud: fault(intunetest.Token, intunetest.Fault{Status: 503}),
			want: "intune.signin failure", says: "503", waits: true},
		{name: "no permission at all", cloud: func(w *world) { _ = w.cloud.SetRoles(contoso, app) },
			want: "intune.permission.intune failure intune.permission.graph failure", says: "scep_challenge_provider", waits: true},
		{name: "no permission for Intune", cloud: func(w *world) { _ = w.cloud.SetRoles(contoso, app, intunetest.RoleGraph) },
			want: "intune.permission.intune failure", says: "Grant admin consent", waits: true},
		{name: "no permission for Graph", cloud: func(w *world) { _ = w.cloud.SetRoles(contoso, app, intunetest.RoleIntune) },
			want: "intune.permission.graph failure", says: "Application.Read.All", waits: true},
		{name: "a tenant without licence", cloud: func(w *world) { w.cloud.SetServices([]intunetest.Service{}) },
			want: "intune.licence failure", says: "licence", waits: true},
		{name: "no service principal of Intune", cloud: fault(intunetest.Discovery, intunetest.Fault{Status: 404}),
			want: "intune.licence failure", says: "check that it has Intune"},
		{name: "services at a host that gets no token", cloud: func(w *world) {
			w.cloud.SetServices([]intunetest.Service{{Provider: scepService, URI: "https://elsewhere.example/scep"}})
		}, want: "intune.services failure", says: "elsewhere.example"},
		{name: "a token with the permission is refused", cloud: fault(intunetest.Validate, intunetest.Fault{Status: 403}),
			want: "intune.licence failure", says: "licence", waits: true},
		{name: "Intune is out of order", cloud: fault(intunetest.Validate, intunetest.Fault{Status: 500}),
			want: "intune.services failure", says: "500", waits: true},
		{name: "the call is not understood", cloud: fault(intunetest.Validate, intunetest.Fault{Status: 400}),
			want: "intune.verdict failure", says: "api-version"},
		{name: "somebody grants everything", cloud: fault(intunetest.Validate, intunetest.Fault{Code: "Success"}),
			want: "intune.verdict failure", says: "do not serve devices"},
		{name: "a captive portal", cloud: fault(intunetest.Validate, intunetest.Fault{BadJSON: true}),
			want: "intune.reach failure", says: "captive portal"},
		{name: "no revocation service", cloud: func(w *world) { w.cloud.SetServices(service(w)) },
			want: "intune.revocation failure", says: "PkiConnectorFEService"},
		{name: "TLS is opened on the way", config: func(c *intune.Config) { c.RootCAs = x509.NewCertPool() },
			want: "intune.reach failure", says: "opens TLS"},
		{name: "a connection that is cut", cloud: func(w *world) { w.cloud.SetOutage(true) },
			want: "intune.reach failure", says: "port 443"},
		{name: "nobody listens", config: dialing(&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "login", IsNotFound: true}}),
			want: "intune.reach failure", says: "DNS"},
		{name: "a proxy that is not there", config: func(c *intune.Config) { c.Proxy.URL = "http://127.0.0.1:1" },
			want: "intune.reach failure", says: "the proxy 127.0.0.1:1 cannot be reached"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := realTime(t)
			if row.cloud != nil {
				row.cloud(w)
			}
			change := row.config
			if change == nil {
				change = func(*intune.Config) {}
			}
			found := w.diagnose(t, intune.Wanted{Revocation: row.want == "intune.revocation failure"}, change)
			if got := strings.Join(troubles(found), " "); got != row.want {
				t.Fatalf("troubles %q, want %q\n%+v", got, row.want, found)
			}
			first := found[slices.IndexFunc(found, func(f intune.Finding) bool { return f.Level > intune.Note })]
			if !strings.Contains(first.Text+"; "+first.Fix, row.says) || first.Fix == "" || first.Waits != row.waits {
				t.Errorf("%+v does not say %q, or waits wrongly", first, row.says)
			}
		})
	}
}

func dialing(err error) func(*intune.Config) {
	return func(c *intune.Config) {
		c.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, err }
	}
}

// A proxy that wants a user says so, and is not taken for the cloud.
func TestDiagnoseProxyUser(t *testing.T) {
	w := realTime(t)
	p := proxytest.New(t, proxytest.Options{User: "connector", Password: proxyPassword})
	found := w.diagnose(t, intune.Wanted{}, func(c *intune.Config) { c.Proxy.URL = p.URL })
	if len(found) != 1 || found[0].ID != intune.CheckReach || !strings.Contains(found[0].Fix, "tenants[].proxy or HTTPS_PROXY: set proxy.user") {
		t.Errorf("%+v", found)
	}
}

// Nor is one whose certificate nobody vouches for taken for one that opens TLS.
func TestDiagnoseUntrustedProxy(t *testing.T) {
	w := realTime(t)
	p := proxytest.New(t, proxytest.Options{TLS: true})
	found := w.diagnose(t, intune.Wanted{}, func(c *intune.Config) { c.Proxy.URL = p.URL })
	if len(found) != 1 || found[0].ID != intune.CheckReach || !strings.Contains(found[0].Fix, "proxy.ca_file") ||
		!strings.Contains(found[0].Text, "the proxy "+p.Address()+" cannot be spoken to by TLS") {
		t.Errorf("%+v", found)
	}
}

// Clocks that differ are seen before Entra ID refuses, and are the cause when
// it does.
func TestDiagnoseClock(t *testing.T) {
	w := realTime(t)
	shifted := func(by time.Duration) func(*intune.Config) {
		return func(c *intune.Config) { c.Clock = func() time.Time { return time.Now().Add(by) } }
	}
	for by, want := range map[time.Duration]string{
		0: "", -2 * time.Minute: "intune.clock warning", 8 * time.Minute: "intune.clock failure",
	} {
		if got := strings.Join(troubles(w.diagnose(t, intune.Wanted{}, shifted(by))), " "); got != want {
			t.Errorf("off by %v: %q, want %q", by, got, want)
		}
	}
	cert := signInCertificate(t, 1)
	_ = w.cloud.SetCertificates(intunetest.ContosoID, intunetest.ContosoClient, cert.Certificate)
	found := w.diagnose(t, intune.Wanted{}, withCredential(intune.Credential{Certificates: intune.Fixed(cert)}), shifted(30*time.Minute))
	if got := strings.Join(troubles(found), " "); got != "intune.clock failure" || !strings.Contains(found[len(found)-1].Text, "ahead of") {
		t.Errorf("%q: %+v", got, found)
	}
}

// Of a certificate that has ended nobody needs to be asked.
func TestDiagnoseCertificateDates(t *testing.T) {
	w := realTime(t)
	cert := signInCertificate(t, 1)
	_ = w.cloud.SetCertificates(intunetest.ContosoID, intunetest.ContosoClient, cert.Certificate)
	at := func(when time.Time) []intune.Finding {
		return w.diagnose(t, intune.Wanted{}, withCredential(intune.Credential{Certificates: intune.Fixed(cert)}),
			func(c *intune.Config) { c.Clock = func() time.Time { return when } })
	}
	for name, row := range map[string]struct {
		when time.Time
		want string
	}{
		"ended":         {cert.Certificate.NotAfter.Add(time.Hour), "intune.credential failure"},
		"not valid yet": {cert.Certificate.NotBefore.Add(-time.Hour), "intune.clock failure"},
	} {
		if got := strings.Join(troubles(at(row.when)), " "); got != row.want {
			t.Errorf("%s: %q, want %q", name, got, row.want)
		}
	}
	if n := len(w.cloud.Calls()); n != 0 {
		t.Errorf("%d calls", n)
	}
}

// What stands in the way besides a missing permission is not hidden by it.
func TestDiagnoseNetworkBesidesPermission(t *testing.T) {
	for status, want := range map[int]string{
		http.StatusForbidden:  "intune.permission.graph failure",
		http.StatusBadGateway: "intune.permission.graph failure intune.services failure",
		0:                     "intune.permission.graph failure intune.reach failure",
	} {
		w := realTime(t)
		_ = w.cloud.SetRoles(intunetest.ContosoID, intunetest.ContosoClient, intunetest.RoleIntune)
		w.cloud.Fail(intunetest.Discovery, intunetest.Always, intunetest.Fault{Status: status, Reset: status == 0})
		if got := strings.Join(troubles(w.diagnose(t, intune.Wanted{})), " "); got != want {
			t.Errorf("status %d: %q, want %q", status, got, want)
		}
	}
}

// Keys that cannot be looked at are not passed over where they are replaced.
func TestDiagnoseRegistrationThatCannotBeRead(t *testing.T) {
	w := realTime(t)
	_ = w.cloud.SetRoles(intunetest.ContosoID, intunetest.ContosoClient, intunetest.RoleIntune)
	for rotation, want := range map[bool]string{
		false: "intune.permission.graph failure",
		true:  "intune.permission.graph failure intune.registration warning",
	} {
		if got := strings.Join(troubles(w.diagnose(t, intune.Wanted{Rotation: rotation})), " "); got != want {
			t.Errorf("rotation %v: %q, want %q", rotation, got, want)
		}
	}
}

// A consent that is given while somebody waits is seen by the next look.
func TestDiagnoseSeesConsent(t *testing.T) {
	w := realTime(t)
	_ = w.cloud.SetRoles(intunetest.ContosoID, intunetest.ContosoClient)
	if got := troubles(w.diagnose(t, intune.Wanted{})); len(got) == 0 {
		t.Fatal("nothing is missing")
	}
	_ = w.cloud.SetRoles(intunetest.ContosoID, intunetest.ContosoClient, intunetest.RoleGraph, intunetest.RoleIntune)
	if got := troubles(w.diagnose(t, intune.Wanted{})); len(got) != 0 {
		t.Errorf("after consent: %v", got)
	}
}
