package agent

import "time"

// Tenant is an Intune tenant that vouches for requests.
type Tenant struct {
	// Name, for endpoints to refer to and for the journal. Do not change it
	// while enrolments are unsettled.
	Name string `yaml:"name"`
	// The Entra tenant: its GUID or its *.onmicrosoft.com name.
	TenantID string `yaml:"tenant_id"`
	// Application (client) ID of the app registration. It needs the application
	// permissions scep_challenge_provider (Intune) and Application.Read.All
	// (Microsoft Graph), with admin consent.
	ClientID string `yaml:"client_id"`
	// public, usgov, dod, china or custom. Default public. GCC is public, GCC
	// High is usgov. With custom every address in urls is required.
	Cloud string `yaml:"cloud"`
	// How the service signs in.
	Credential Credential `yaml:"credential"`
	// Addresses that replace those of the cloud.
	URLs TenantURLs `yaml:"urls"`
	// PEM file with further roots that the cloud's certificate may chain to: a
	// proxy that inspects TLS, or a simulator. Default none.
	CAFile string `yaml:"ca_file" path:"true"`
	// Proxy towards the cloud, for sign-in, Graph and Intune. Default: that of the
	// environment (HTTPS_PROXY, NO_PROXY).
	Proxy *Proxy `yaml:"proxy"`
	// Time limits of the calls to the cloud.
	Timeouts TenantTimeouts `yaml:"timeouts"`
	// Ask the tenant for certificates to revoke. Default none: nothing is asked.
	Revocation *Revocation `yaml:"revocation"`
	// Names and versions of the cloud's actions, should Microsoft change them.
	API TenantAPI `yaml:"api"`
}

// Credential is how the service signs in at Entra. Exactly one: certificate and
// key, managed, secret or token_file.
type Credential struct {
	// PEM file with the certificate that was uploaded to the app registration.
	Certificate string `yaml:"certificate" path:"true"`
	// PEM file with its private key (RSA), or a key in a device.
	Key string `yaml:"key" path:"key"`
	// The client secret, instead of certificate and key. It expires, and whoever
	// reads it can vouch for requests: a certificate is the better choice.
	Secret *SecretRef `yaml:"secret"`
	// Certificates that the service makes and replaces by itself, instead of
	// certificate and key: see "certconnector entra".
	Managed *ManagedCredential `yaml:"managed"`
	// File with a token of another issuer that the app registration trusts
	// (workload identity federation). It is read at every sign-in.
	TokenFile string `yaml:"token_file" path:"true"`
}

// ManagedCredential is an Entra client certificate that the service makes and
// replaces by itself.
type ManagedCredential struct {
	// The host's DNS name, the certificate's subject. Default this host's name.
	Host string `yaml:"host"`
	// Register the next certificate through Microsoft Graph at two thirds of the
	// present one's life. Default true; with false, and where the tenant refuses
	// it, the next one is made in time and a person uploads it.
	Rotate bool `yaml:"rotate"`
	// Life time of a certificate. Default 8760h (a year).
	Lifetime time.Duration `yaml:"lifetime"`
	// How long the former certificate stays registered once the next one
	// works. Default 168h (a week).
	Overlap time.Duration `yaml:"overlap"`
	// Folder of keys and certificates. Default "entra/" and the tenant's name in
	// state_dir.
	Folder string `yaml:"folder" path:"true"`
}

// SetDefaults gives a managed credential its defaults; the loader calls it.
func (m *ManagedCredential) SetDefaults() {
	*m = ManagedCredential{Rotate: true, Lifetime: 365 * 24 * time.Hour, Overlap: 7 * 24 * time.Hour}
}

// TenantURLs replaces addresses of a cloud; empty ones keep the cloud's.
type TenantURLs struct {
	// Where tokens come from, as https://login.microsoftonline.com/
	Authority string `yaml:"authority"`
	// Microsoft Graph, where the service locations are asked for, as https://graph.microsoft.com/
	Graph string `yaml:"graph"`
	// The resource that tokens for Intune are for, as https://api.manage.microsoft.com/
	Resource string `yaml:"resource"`
	// Host names, or suffixes that start with a dot, that the service locations
	// must match. Default: those of the cloud; with custom the hosts of graph
	// and resource.
	ServiceHosts []string `yaml:"service_hosts"`
}

// TenantTimeouts limits the calls to the cloud.
type TenantTimeouts struct {
	// A token. Default 15s.
	Token time.Duration `yaml:"token"`
	// The service locations. Default 15s.
	Discovery time.Duration `yaml:"discovery"`
	// One attempt at a verdict or a notification. Default 30s.
	Service time.Duration `yaml:"service"`
	// All attempts at one of them. Default 45s; a device waits that long for a
	// verdict when the cloud is slow.
	Total time.Duration `yaml:"total"`
	// One question for revocations, or one upload of their results. Default 60s.
	Revocation time.Duration `yaml:"revocation"`
	// One call of Microsoft Graph for keys and imported certificates. Default 30s.
	Graph time.Duration `yaml:"graph"`
}

// SetDefaults gives a tenant its defaults; the loader calls it.
func (t *Tenant) SetDefaults() {
	*t = Tenant{
		Cloud: "public",
		Timeouts: TenantTimeouts{
			Token: 15 * time.Second, Discovery: 15 * time.Second,
			Service: 30 * time.Second, Total: 45 * time.Second,
			Revocation: time.Minute, Graph: 30 * time.Second,
		},
	}
}
