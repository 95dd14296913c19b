package agent

import "time"

// CA is a certificate authority that issues: exactly one of embedded, adcs,
// certsrv, wstep and roads.
type CA struct {
	// Name, for endpoints to refer to, for the journal and for notifications.
	// Do not change it: its register is kept under it.
	Name string `yaml:"name"`
	// A CA in this process, for sites without a Microsoft CA and for laboratories.
	Embedded *EmbeddedCA `yaml:"embedded"`
	// A Microsoft CA over DCOM and RPC: the only road that can also revoke.
	ADCS *ADCS `yaml:"adcs"`
	// A Microsoft CA over its web enrolment pages.
	Certsrv *Certsrv `yaml:"certsrv"`
	// A Microsoft CA over its enrolment web services.
	WSTEP *WSTEP `yaml:"wstep"`
	// Names of other CAs of this list that are roads to the same issuing CA, in
	// the order in which they are tried.
	Roads []string `yaml:"roads"`
	// PEM file with the issuing CA's certificate first, then its issuers up to
	// the root, and after them former certificates of the issuing CA. Needed for
	// every CA but an embedded one: what it has not signed never leaves.
	Chain string `yaml:"chain" path:"true"`
	// Requests under way at the CA at one time. Default 8. Not for an embedded CA.
	Concurrent int `yaml:"concurrent"`
	// Requests that wait for their turn; more are told to come again. Default 256.
	Queue int `yaml:"queue"`
}

// SetDefaults gives a CA its defaults; the loader calls it.
func (c *CA) SetDefaults() { *c = CA{Concurrent: 8, Queue: 256} }

// EmbeddedCA is a certificate authority in the process.
type EmbeddedCA struct {
	// PEM file with the CA certificate, and after it its issuers where it is
	// not a root.
	Certificate string `yaml:"certificate" path:"true"`
	// PEM file with the CA's private key, or a key in a device.
	Key string `yaml:"key" path:"key"`
	// What it issues. Default: one profile "device" with clientAuth and a year.
	Profiles []Profile `yaml:"profiles"`
	// Address of the revocation list that certificates name, as
	// http://pki.corp.example/crl/embedded.crl; a listener with the face crl serves
	// its path. Default none: then nobody who relies on a certificate learns of
	// its revocation, unless ocsp_url is set.
	CRLURL string `yaml:"crl_url"`
	// Address of the list of what was revoked since the last full one. Default
	// none: then there are no delta lists.
	DeltaCRLURL string `yaml:"delta_crl_url"`
	// Life time of a delta list. Default 24h.
	DeltaCRLLifetime time.Duration `yaml:"delta_crl_lifetime"`
	// Address of the OCSP responder that certificates name, as
	// http://pki.corp.example/ocsp; a listener with the face ocsp serves it.
	// Default none.
	OCSPURL string `yaml:"ocsp_url"`
	// What OCSP says of a serial number that was never issued: unknown or
	// revoked. Default unknown.
	OCSPUnknown string `yaml:"ocsp_unknown"`
	// Address of the CA's own certificate that certificates name, as
	// http://pki.corp.example/crl/embedded.cer, on the face crl. Default none.
	IssuerURL string `yaml:"issuer_url"`
	// Life time of a revocation list; a new one is made after half of it.
	// Default 168h.
	CRLLifetime time.Duration `yaml:"crl_lifetime"`
	// How far a certificate's begin lies in the past, for devices whose clock
	// is slow. Default 5m, at most 24h.
	Backdate time.Duration `yaml:"backdate"`
}

// Profile is what an embedded CA puts into certificates of one kind: its
// counterpart of a certificate template.
type Profile struct {
	// Name; an endpoint's templates refer to it.
	Name string `yaml:"name"`
	// Life time of a certificate, and its cap. Default 8760h (a year).
	Validity time.Duration `yaml:"validity"`
	// Extended key usages that a certificate may have: clientAuth, serverAuth,
	// emailProtection, ipsecIKE, or an object identifier. A request that asks
	// for none gets clientAuth if it is listed, else the first. Default clientAuth.
	EKU []string `yaml:"eku"`
	// Park each request until a person approves it with "certconnector
	// requests approve". Default false.
	Approval bool `yaml:"approval"`
}

// DefaultProfile is the profile of an embedded CA that names none.
func DefaultProfile() Profile {
	p := Profile{}
	p.SetDefaults()
	p.Name = "device"
	return p
}

// SetDefaults gives an embedded CA its defaults; the loader calls it.
func (e *EmbeddedCA) SetDefaults() {
	*e = EmbeddedCA{CRLLifetime: 7 * 24 * time.Hour, DeltaCRLLifetime: 24 * time.Hour, OCSPUnknown: "unknown", Backdate: 5 * time.Minute}
}

// SetDefaults gives a profile its defaults; the loader calls it.
func (p *Profile) SetDefaults() {
	*p = Profile{Validity: 365 * 24 * time.Hour, EKU: []string{"clientAuth"}}
}
