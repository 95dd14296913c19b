package agent

import "time"

// Policy chooses who decides. Exactly one of its keys is set.
type Policy struct {
	// Intune decides: each challenge is checked there against the request, and
	// no certificate leaves before Intune has taken its notification.
	Intune *IntunePolicy `yaml:"intune"`
	// Passwords for one use decide, which an MDM fetches from a page like that
	// of NDES. They say who asked for them, not for which device.
	Onetime *OnetimePolicy `yaml:"onetime"`
	// Signed and sealed challenges decide, which name what they are good for.
	Token *TokenPolicy `yaml:"token"`
	// Another certconnector decides, which has the Intune credential that this
	// one has not.
	RegistrationPoint *RemotePolicy `yaml:"registration_point"`
	// One secret for all devices decides.
	Static *StaticPolicy `yaml:"static"`
}

// Vouched reports whether Intune compares names with what it expects: then an
// endpoint need not say which names it allows.
func (p Policy) Vouched() bool { return p.Intune != nil || p.RegistrationPoint != nil }

// kind names the policy in audit lines.
func (p Policy) kind() string {
	switch {
	case p.Intune != nil:
		return "intune"
	case p.RegistrationPoint != nil:
		return "registration_point"
	case p.Onetime != nil:
		return "onetime"
	case p.Token != nil:
		return "token"
	}
	return "static"
}

// makesChallenges reports whether principals may have challenges made.
func (p Policy) makesChallenges() bool {
	return p.Onetime != nil || p.Token != nil && p.Token.Signing != nil
}

// OnetimePolicy lets passwords for one use decide.
type OnetimePolicy struct {
	// How long a password may be used. Default 60m, as NDES has it.
	Lifetime time.Duration `yaml:"lifetime"`
	// Random bytes of a password; it is shown as twice as many hexadecimal
	// digits. Default 16; NDES has 8, which is also the least.
	Bytes int `yaml:"bytes"`
	// Passwords that may be outstanding at one time, of all principals. Default
	// 1000; NDES has 5.
	MaxOutstanding int `yaml:"max_outstanding"`
	// Path of the page that makes passwords, on listeners with the face
	// challenges. Default /certsrv/mscep_admin; case does not matter.
	AdminPath string `yaml:"admin_path"`
	// Encoding of that page: utf16le-bom, utf16le or utf8. Default utf16le-bom:
	// MDMs read it as UTF-16, as NDES sends it.
	Charset string `yaml:"charset"`
}

// TokenPolicy lets signed and sealed challenges decide.
type TokenPolicy struct {
	// Key that signs the challenges made here, by "certconnector challenge new"
	// and over HTTP. Default none: then only others make them.
	Signing *KeyPair `yaml:"signing"`
	// RSA keys that challenges are sealed to, newest first. At least one; more
	// while one is replaced by the next.
	Recipients []KeyPair `yaml:"recipients"`
	// Others whose challenges are accepted.
	Trusted []TrustedSigner `yaml:"trusted"`
	// Longest life time of a challenge. Default 60m.
	Lifetime time.Duration `yaml:"lifetime"`
}

// TrustedSigner is somebody else who makes challenges, as an MDM does.
type TrustedSigner struct {
	// Name, for logs.
	Name string `yaml:"name"`
	// PEM file with the certificate of the signing key.
	Certificate string `yaml:"certificate" path:"true"`
	// Names that its challenges may give, as in the endpoint's allow.
	Subject []string `yaml:"subject"`
	// Alternative names that its challenges may give, as in the endpoint's allow.
	SAN []string `yaml:"san"`
	// Extended key usages that its challenges may give. Default empty: those of
	// the endpoint.
	EKU []string `yaml:"eku"`
}

// RemotePolicy lets another certconnector decide, which must have the face crp.
type RemotePolicy struct {
	// Its address, as https://crp.corp.example:8443.
	URL string `yaml:"url"`
	// Name of the tenant there. Default empty: the first that we may use.
	Tenant string `yaml:"tenant"`
	// PEM file with our client certificate: extended key usage Client
	// Authentication, and the DNS name under which we are known there.
	Certificate string `yaml:"certificate" path:"true"`
	// PEM file with its private key, or a key in a device.
	Key string `yaml:"key" path:"key"`
	// PEM file with the roots that its certificate may chain to. Default empty:
	// the system's.
	CAFile string `yaml:"ca_file" path:"true"`
	// Proxy towards it. Default none: that of the environment is for the
	// cloud alone.
	Proxy *Proxy `yaml:"proxy"`
	// Time for one question, and for one notification. Default 40s.
	Timeout time.Duration `yaml:"timeout"`
}

// IntunePolicy lets Intune decide.
type IntunePolicy struct {
	// Name of the tenant that is asked.
	Tenant string `yaml:"tenant"`
}

// StaticPolicy lets one shared secret decide.
type StaticPolicy struct {
	// Where the secret is. At least 128 bits: 32 random hexadecimal digits, or 22
	// random letters and digits.
	Challenge SecretRef `yaml:"challenge"`
	// Unsafe, and must be true: whoever knows the secret gets a certificate with
	// any name that "allow" permits.
	AllowStaticChallenge bool `yaml:"allow_static_challenge"`
}

// SetDefaults gives the policy its defaults; the loader calls it.
func (p *OnetimePolicy) SetDefaults() {
	*p = OnetimePolicy{
		Lifetime: time.Hour, Bytes: 16, MaxOutstanding: 1000, AdminPath: "/certsrv/mscep_admin", Charset: "utf16le-bom",
	}
}

// SetDefaults gives the policy its defaults; the loader calls it.
func (p *TokenPolicy) SetDefaults() { *p = TokenPolicy{Lifetime: time.Hour} }

// SetDefaults gives the policy its defaults; the loader calls it.
func (p *RemotePolicy) SetDefaults() { *p = RemotePolicy{Timeout: 40 * time.Second} }
