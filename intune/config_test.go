package intune_test

import (
	"crypto/x509"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/internal/proxy"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/intune/intunetest"
)

func goodConfig() intune.Config {
	return intune.Config{
		TenantID: "contoso.example", ClientID: intunetest.ContosoClient, Provider: "connector/1",
		Credential: intune.Credential{Secret: "a secret"},
	}
}

// C9: what is required is refused when absent, what is optional is not.
func TestNew(t *testing.T) {
	weak := intune.Certificate{Certificate: &x509.Certificate{PublicKey: testkeys.RSA1024().Public()}, Signer: testkeys.RSA1024()}
	curve := intune.Certificate{Certificate: &x509.Certificate{PublicKey: testkeys.P256(0).Public()}, Signer: testkeys.P256(0)}
	foreign := intune.Certificate{Certificate: &x509.Certificate{PublicKey: testkeys.RSA2048(0).Public()}, Signer: testkeys.RSA2048(1)}
	for _, row := range []struct {
		name   string
		change func(*intune.Config)
		want   string // in the error; "": none
	}{
		{"only what is required", func(*intune.Config) {}, ""},
		{"no tenant", func(c *intune.Config) { c.TenantID = "" }, "tenant ID"},
		{"a tenant that would leave the path", func(c *intune.Config) { c.TenantID = "a/../b" }, "tenant ID"},
		{"no client", func(c *intune.Config) { c.ClientID = "" }, "client ID"},
		{"no provider", func(c *intune.Config) { c.Provider = " " }, "provider"},
		{"a provider of two lines", func(c *intune.Config) { c.Provider = "a\nb" }, "provider"},
		{"no credential", func(c *intune.Config) { c.Credential = intune.Credential{} }, "0 kinds of credential"},
		{"two credentials", func(c *intune.Config) { c.Credential.TokenFile = "x" }, "2 kinds of credential"},
		{"no certificate", func(c *intune.Config) { c.Credential = intune.Credential{Certificates: intune.Fixed()} }, "no certificate"},
		{"a weak key", func(c *intune.Config) { c.Credential = intune.Credential{Certificates: intune.Fixed(weak)} }, "1024 bits"},
		{"an elliptic curve", func(c *intune.Config) { c.Credential = intune.Credential{Certificates: intune.Fixed(curve)} }, "RSA keys"},
		{"another's key", func(c *intune.Config) { c.Credential = intune.Credential{Certificates: intune.Fixed(foreign)} }, "belong together"},
		{"an unknown cloud", func(c *intune.Config) { c.Cloud = "moon" }, "moon"},
		{"a custom cloud without addresses", func(c *intune.Config) { c.Cloud = intune.Custom }, "authority URL is missing"},
		{"China without a resource", func(c *intune.Config) { c.Cloud = intune.China }, "Intune resource URL is missing"},
		{"China with a resource", func(c *intune.Config) { c.Cloud = intune.China; c.Endpoints.Resource = "https://api.example.cn" }, ""},
		{"GCC High", func(c *intune.Config) { c.Cloud = intune.USGov }, ""},
		{"DoD", func(c *intune.Config) { c.Cloud = intune.DoD }, ""},
		{"an authority without TLS", func(c *intune.Config) { c.Endpoints.Authority = "http://login.example/" }, "authority URL"},
		{"a Graph with a query", func(c *intune.Config) { c.Endpoints.Graph = "https://graph.example/?x=1" }, "Graph URL"},
		{"a Graph with a user", func(c *intune.Config) { c.Endpoints.Graph = "https://me:hunter2@graph.example/" }, "Graph URL holds a user"},
		{"a Graph with a user and no port", func(c *intune.Config) { c.Endpoints.Graph = "https://me:hunter2@graph.example:%zz/" }, "Graph URL"},
		{"a Graph with a user and no scheme", func(c *intune.Config) { c.Endpoints.Graph = "me:hunter2@graph.example/" }, "Graph URL"},
		{"an address without a slash", func(c *intune.Config) { c.Endpoints.Graph = "https://graph.example" }, ""},
		{"a proxy", func(c *intune.Config) {
			c.Proxy = proxy.Config{URL: "http://proxy.example:8080", User: "u", Password: "p"}
		}, ""},
		{"a proxy with a user in its URL", func(c *intune.Config) { c.Proxy.URL = "http://u:p@proxy.example" }, "own fields"},
		{"a proxy without a scheme", func(c *intune.Config) { c.Proxy.URL = "proxy.example:8080" }, "proxy URL"},
		{"a proxy user without a proxy", func(c *intune.Config) { c.Proxy.User = "u" }, "no proxy URL"},
		{"a proxy password without a user", func(c *intune.Config) { c.Proxy = proxy.Config{URL: "http://p.example", Password: "p"} }, "no proxy user"},
	} {
		t.Run(row.name, func(t *testing.T) {
			cfg := goodConfig()
			row.change(&cfg)
			_, err := intune.New(cfg)
			switch {
			case row.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
				t.Errorf("error %v, want one about %q", err, row.want)
			case err != nil && strings.Contains(err.Error(), "hunter2"):
				t.Errorf("a password is told: %v", err)
			}
		})
	}
}

func TestNewReportsAllMistakes(t *testing.T) {
	_, err := intune.New(intune.Config{})
	for _, want := range []string{"tenant ID", "client ID", "provider", "credential"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name the %s", err, want)
		}
	}
}
