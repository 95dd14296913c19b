package agent

import "time"

// ADCS is a Microsoft CA over DCOM and RPC.
type ADCS struct {
	// The CA as certutil prints it, host\name: DNS name of the host, common name
	// of the CA.
	Config string `yaml:"config"`
	// Roads for requests, the preferred one first: dcom, icpr. Default dcom.
	Issue []string `yaml:"issue"`
	// Road for revocation: csra, or empty if the account has not the right "Issue
	// and Manage Certificates". Default empty.
	Revoke string `yaml:"revoke"`
	// Road for the search after an answer was lost: csra, or empty if the account
	// may not read the CA's database. Default csra.
	Find string `yaml:"find"`
	// Let "certconnector requests approve" decide parked requests at the CA.
	// Needs revoke. Default false.
	Approve bool `yaml:"approve"`
	// Sign in by Kerberos.
	Kerberos *Kerberos `yaml:"kerberos"`
	// Unsafe: sign in by NTLM, which proves nothing of the server. For hosts
	// without Kerberos.
	NTLM *Password `yaml:"ntlm"`
	// On Windows: sign in as the account of the service. "sspi: {}" does.
	SSPI *SSPI `yaml:"sspi"`
	// Wrap the sign-in in SPNEGO, for hosts that refuse it bare. Default false.
	SPNEGO bool `yaml:"spnego"`
	// Address to connect to, where the host's name does not resolve to it.
	Address string `yaml:"address"`
	// TCP port of the endpoint mapper. Default 135.
	EndpointMapperPort int `yaml:"endpoint_mapper_port"`
	// Send the life time that the profile wishes. The CA heeds it only with
	// EDITF_ATTRIBUTEENDDATE, and only to shorten. Default false.
	SendValidity bool `yaml:"send_validity"`
	// Time for one request. Default 60s.
	SubmitWithin time.Duration `yaml:"submit_within"`
}

// Certsrv is a Microsoft CA over its web enrolment pages.
type Certsrv struct {
	// Address of the pages, as https://ca01.corp.example/certsrv/.
	URL string `yaml:"url"`
	// Sign in by Kerberos.
	Kerberos *Kerberos `yaml:"kerberos"`
	// Unsafe: sign in by NTLM, which can be relayed.
	NTLM *Password `yaml:"ntlm"`
	// On Windows: sign in as the account of the service. "sspi: {}" does.
	SSPI *SSPI `yaml:"sspi"`
	// Sign in by name and password, which the server sees.
	Basic *Password `yaml:"basic"`
	// Sign in by a client certificate, alone or besides.
	ClientCertificate *KeyPair `yaml:"client_certificate"`
	// PEM file with the roots that the web server may chain to. Default empty:
	// the system's.
	CAFile string `yaml:"ca_file" path:"true"`
	// Proxy towards the pages. Default none: that of the environment is for the
	// cloud alone.
	Proxy *Proxy `yaml:"proxy"`
	// Send the life time that the profile wishes. Default false.
	SendValidity bool `yaml:"send_validity"`
	// Time for one request. Default 60s.
	SubmitWithin time.Duration `yaml:"submit_within"`
}

// WSTEP is a Microsoft CA over its enrolment web services (CEP and CES).
type WSTEP struct {
	// Address of the policy service (CEP). Default empty: then enrollment is needed.
	Policy string `yaml:"policy"`
	// Addresses of enrolment services (CES) of one CA, the preferred one first.
	// Default empty: those that the policy names.
	Enrollment []string `yaml:"enrollment"`
	// Common name of the CA, where the policy names several.
	CAName string `yaml:"ca_name"`
	// Sign in by Kerberos.
	Kerberos *Kerberos `yaml:"kerberos"`
	// On Windows: sign in as the account of the service. "sspi: {}" does.
	SSPI *SSPI `yaml:"sspi"`
	// Sign in by name and password in the message.
	User *Password `yaml:"user"`
	// Sign in by a client certificate.
	ClientCertificate *KeyPair `yaml:"client_certificate"`
	// PEM file with the roots that the services' TLS certificates may chain to.
	// Default empty: the system's.
	CAFile string `yaml:"ca_file" path:"true"`
	// Proxy towards the services. Default none: that of the environment is for the
	// cloud alone.
	Proxy *Proxy `yaml:"proxy"`
	// Send the life time that the profile wishes. Default false.
	SendValidity bool `yaml:"send_validity"`
	// Time for one request. Default 60s.
	SubmitWithin time.Duration `yaml:"submit_within"`
}

// Kerberos says as whom to sign in; exactly one of keytab, ccache and password.
type Kerberos struct {
	// user@REALM, or host/name@REALM.
	Principal string `yaml:"principal"`
	// File with the principal's keys. Only the service's account should be able
	// to read it.
	Keytab string `yaml:"keytab" path:"true"`
	// File with tickets that somebody else keeps fresh.
	CCache string `yaml:"ccache" path:"true"`
	// Where the password is.
	Password *SecretRef `yaml:"password"`
	// The Kerberos configuration. Default empty: the system's krb5.conf.
	Krb5Conf string `yaml:"krb5_conf" path:"true"`
	// Service principal name of the CA's host. Default empty: host/ (RPC) or HTTP/
	// (web) and its name.
	SPN string `yaml:"spn"`
}

// SSPI signs in as the account that runs the service on Windows: its virtual
// account (the computer's in the domain), a group managed account or a user.
// Windows has the credentials; no password or keytab is stored.
type SSPI struct {
	// Unsafe: NTLM instead of Kerberos, which proves nothing of the server and can
	// be relayed. Default false.
	NTLM bool `yaml:"ntlm"`
	// Service principal name of the CA's host. Default empty: host/ (RPC) or HTTP/
	// (web) and its name.
	SPN string `yaml:"spn"`
}

func (s *SSPI) ntlm() bool { return s != nil && s.NTLM }

// Password is a name and a password.
type Password struct {
	// DOMAIN\user or user@domain.
	User string `yaml:"user"`
	// Where the password is.
	Password SecretRef `yaml:"password"`
}

// SetDefaults gives the bridge its defaults; the loader calls it.
func (a *ADCS) SetDefaults() {
	*a = ADCS{Issue: []string{"dcom"}, Find: "csra", EndpointMapperPort: 135, SubmitWithin: time.Minute}
}

// SetDefaults gives the bridge its defaults; the loader calls it.
func (c *Certsrv) SetDefaults() { *c = Certsrv{SubmitWithin: time.Minute} }

// SetDefaults gives the bridge its defaults; the loader calls it.
func (w *WSTEP) SetDefaults() { *w = WSTEP{SubmitWithin: time.Minute} }
