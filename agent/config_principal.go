package agent

// Principal is somebody who may have challenges made.
type Principal struct {
	// Name, for logs, and the user name of a password.
	Name string `yaml:"name"`
	// Where its password is, for Basic authentication over TLS. At least 128
	// bits: 32 random hexadecimal digits, or 22 random letters and digits.
	Password *SecretRef `yaml:"password"`
	// Its certificate, for mutual TLS.
	Certificate *ClientCertificate `yaml:"certificate"`
	// What it may have challenges for. At least one.
	Rights []Right `yaml:"rights"`
}

// ClientCertificate says which client certificate identifies somebody: one
// that chains to the listener's client_ca, is for Client Authentication, and
// has the DNS name.
type ClientCertificate struct {
	// The DNS name in the certificate: a subjectAltName, or the common name where
	// there is none.
	DNSName string `yaml:"dns_name"`
	// SHA-256 of the certificates that will do, in hexadecimal. Default empty:
	// any with the name.
	SHA256 []string `yaml:"sha256"`
}

// Right is what a principal may have challenges for at one endpoint.
type Right struct {
	// Name of the endpoint.
	Endpoint string `yaml:"endpoint"`
	// Subjects, as in the endpoint's allow. At least one.
	Subject []string `yaml:"subject"`
	// Alternative names, as in the endpoint's allow; "sid:S-1-5-21-1-2-3-*" lets
	// a signed challenge name a security identifier. Default none.
	SAN []string `yaml:"san"`
	// Extended key usages. Default empty: those of the endpoint.
	EKU []string `yaml:"eku"`
	// One-time passwords that may be outstanding at one time. Default 0: an equal
	// share of the endpoint's, so that nobody uses up the places of all.
	MaxOutstanding int `yaml:"max_outstanding"`
	// Challenges a minute. Default 60.
	PerMinute int `yaml:"per_minute"`
}

// SetDefaults gives a right its defaults; the loader calls it.
func (r *Right) SetDefaults() { *r = Right{PerMinute: 60} }

// RegistrationPoint is what this service answers to other front ends, on
// listeners with the face crp.
type RegistrationPoint struct {
	// Who may ask. None by default.
	FrontEnds []FrontEnd `yaml:"front_ends"`
}

// FrontEnd is a SCEP server elsewhere that has its requests vouched for here.
type FrontEnd struct {
	// Name, for logs and the journal. Do not change it.
	Name string `yaml:"name"`
	// Its client certificate.
	Certificate ClientCertificate `yaml:"certificate"`
	// Names of the tenants that it may use; the first is its default.
	Tenants []string `yaml:"tenants"`
	// Whether it gives certificates to devices before Intune has taken the
	// notification, as Microsoft's NDES does. Then notifications are kept and
	// repeated here, and a certificate is revoked when Intune refuses. Default false.
	ReleasesItself bool `yaml:"releases_itself"`
	// Name of the CA that revokes for a front end that releases itself. Default
	// empty: then somebody must revoke by hand, and is told so.
	CA string `yaml:"ca"`
}
