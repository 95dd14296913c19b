package agent

import "time"

// Shapes of the registration authority's certificates.
const (
	ShapeSplit    = "split"    // one signs, one decrypts, as NDES has it
	ShapeCombined = "combined" // one certificate does both
)

// Who renews the registration authority's certificates.
const (
	RenewAuto = "auto"
	RenewOff  = "off"
)

// Endpoint is one SCEP endpoint.
type Endpoint struct {
	// Name, for logs and the journal. Do not change it while
	// enrolments are unsettled.
	Name string `yaml:"name"`
	// Path of the URL, as /certsrv/mscep/mscep.dll or /scep/corp. Devices that
	// append /pkiclient.exe are served too; case does not matter. A path below
	// /certsrv/mscep serves that whole folder, as NDES does.
	Path string `yaml:"path"`
	// Who decides whether a request may have a certificate. Exactly one.
	Policy Policy `yaml:"policy"`
	// Name of the CA that issues.
	CA string `yaml:"ca"`
	// Certificate template (profile, for an embedded CA) by the key usage that a
	// request asks for. A device never chooses it.
	Templates Templates `yaml:"templates"`
	// Certificates and keys that speak SCEP to devices.
	RA RA `yaml:"ra"`
	// How long an exchange is held for a result before the device is told to
	// come again. Default 25s, which is what devices and proxies bear.
	AnswerWithin time.Duration `yaml:"answer_within"`
	// How long a certificate is kept for a device while its notification is not
	// accepted; then it is revoked. Default 50m, shorter than the life of a challenge.
	WithholdFor time.Duration `yaml:"withhold_for"`
	// How long a repeated request gets the same certificate. Default 24h.
	ReplayWindow time.Duration `yaml:"replay_window"`
	// How long a request that the CA parked or could not take is kept. Default
	// 168h (a week).
	PendingFor time.Duration `yaml:"pending_for"`
	// Algorithms of old devices.
	Algorithms Algorithms `yaml:"algorithms"`
	// Renewal by an existing certificate.
	Renewal Renewal `yaml:"renewal"`
	// What a request may ask for.
	Allow Allow `yaml:"allow"`
	// What GetCACert answers.
	GetCACert GetCACert `yaml:"get_ca_cert"`
	// Put one zero octet into FAILURE and PENDING replies, which carry nothing
	// (RFC 8894), as NDES does in failures. Default false. For certmonger with
	// OpenSSL 3: it cannot read a reply without content, and so never learns of
	// a refusal.
	DummyContent bool `yaml:"dummy_content"`
	// The security identifier (SID) of strong certificate mapping.
	SID SID `yaml:"sid"`
	// What this endpoint may take of the limits of all, so that one cannot take
	// everything.
	Limits EndpointLimits `yaml:"limits"`
}

// EndpointLimits bounds one endpoint.
type EndpointLimits struct {
	// Requests of this endpoint that may do cryptography at one time. Default 0:
	// no limit of its own.
	Concurrent int `yaml:"concurrent"`
	// Exchanges of this endpoint that may be under way at one time. Default 0:
	// no limit of its own.
	Held int `yaml:"held"`
}

// Templates names a template for each kind of key usage. An empty one refuses
// requests of that kind at a CA that has no default.
type Templates struct {
	// For digitalSignature alone. Default empty: the same as general.
	Signature string `yaml:"signature"`
	// For keyEncipherment alone. Default empty: the same as general.
	Encryption string `yaml:"encryption"`
	// For both, or where a request names no key usage. Default empty: the CA's default.
	General string `yaml:"general"`
}

// RA is the registration authority that devices see. Its keys are RSA, 2048
// bits or more, also where the CA's key is not; they are never the CA's key.
type RA struct {
	// split (two certificates, as NDES has) or combined (one for both uses).
	// Default split.
	Shape string `yaml:"shape"`
	// The certificate that signs answers; in the combined shape it decrypts too.
	Signing KeyPair `yaml:"signing"`
	// The certificate that devices encrypt to. Only in the split shape.
	Encryption KeyPair `yaml:"encryption"`
	// auto: the service replaces both certificates at two thirds of their life,
	// and at once when the CA's certificate changes; it keeps the new ones in
	// state_dir. off: a person does. Default auto.
	Renew string `yaml:"renew"`
	// Certificate templates for that, at a Microsoft CA; without them it cannot
	// renew there and says so in time.
	Templates RATemplates `yaml:"templates"`
}

// RATemplates are the templates of the registration authority's certificates.
type RATemplates struct {
	// For signing, or for both in the combined shape. Default none.
	Signing string `yaml:"signing"`
	// For encryption. Default: the same as for signing.
	Encryption string `yaml:"encryption"`
}

// Algorithms switches algorithms of old devices.
type Algorithms struct {
	// Unsafe: accept and offer SHA-1. Default false.
	LegacySHA1 bool `yaml:"legacy_sha1"`
	// Accept and offer triple DES. Default true: without it old Android agents
	// fall back to single DES, which is always refused.
	Legacy3DES bool `yaml:"legacy_3des"`
}

// Renewal rules what an existing certificate may do.
type Renewal struct {
	// Accept an existing certificate of this CA instead of a challenge. Default
	// false. Not on an Intune endpoint: a device that lost its compliance would
	// renew without Intune being asked.
	WithoutChallenge bool `yaml:"without_challenge"`
	// Let a renewal keep its key. Default true.
	AllowSameKey bool `yaml:"allow_same_key"`
	// How long after its end a certificate may still be renewed. Default 0s.
	Grace time.Duration `yaml:"grace"`
	// Names of other endpoints of the same CA whose certificates may be renewed
	// here without a challenge. Default none: whoever decides there would not be
	// asked. An endpoint that Intune vouches for cannot be named.
	From []string `yaml:"from"`
}

// Allow is what a request may ask for; anything else is refused.
type Allow struct {
	// Subjects: every attribute must match one of these, as "CN=*.corp.example"
	// or "O=Corp"; "*" stands for any run of characters, and alone for any
	// subject. Needed wherever Intune does not compare names; default there: any.
	Subject []string `yaml:"subject"`
	// Alternative names, as "dns:*.corp.example", "email:*@corp.example", "upn:",
	// "uri:", "ip:10.1.0.0/16", or "*" for any. Default none; where Intune
	// compares names, any.
	SAN []string `yaml:"san"`
	// Extended key usages that a request may ask for: clientAuth, serverAuth,
	// emailProtection, ipsecIKE, or an object identifier. Default clientAuth.
	EKU []string `yaml:"eku"`
	// Smallest RSA key in bits. Default 2048, never less.
	MinRSABits int `yaml:"min_rsa_bits"`
	// Largest RSA key in bits. Default 8192, never more.
	MaxRSABits int `yaml:"max_rsa_bits"`
	// Longest life time of a certificate. Default 0s: the template decides.
	MaxValidity time.Duration `yaml:"max_validity"`
}

// GetCACert shapes the answer to GetCACert.
type GetCACert struct {
	// Include the root certificate. Default true: Apple devices compare it with
	// the fingerprint of their profile.
	IncludeRoot bool `yaml:"include_root"`
	// Sort the certificates as DER wants it instead of RA, issuing CA, root.
	// Default false: some clients take the first certificate.
	DERSort bool `yaml:"der_sort"`
	// PEM file with the CA's next certificate first and then its chain, to
	// announce a roll-over by GetNextCACert. Default empty: there is none.
	Next string `yaml:"next" path:"true"`
}

// SID rules what becomes of a security identifier in a request.
type SID struct {
	// The extension 1.3.6.1.4.1.311.25.2: refuse, or strip (embedded CA only).
	// Default refuse: a CA would copy it unchecked.
	Extension string `yaml:"extension"`
	// The URI in the subjectAltName: keep_if_validated (Intune vouched for the
	// names) or refuse. Default keep_if_validated.
	URI string `yaml:"uri"`
}

// SetDefaults gives an endpoint its defaults; the loader calls it.
func (e *Endpoint) SetDefaults() {
	*e = Endpoint{
		RA:           RA{Shape: ShapeSplit, Renew: RenewAuto},
		AnswerWithin: 25 * time.Second,
		WithholdFor:  50 * time.Minute,
		ReplayWindow: 24 * time.Hour,
		PendingFor:   7 * 24 * time.Hour,
		Algorithms:   Algorithms{Legacy3DES: true},
		Renewal:      Renewal{AllowSameKey: true},
		Allow:        Allow{EKU: []string{"clientAuth"}, MinRSABits: 2048, MaxRSABits: 8192},
		GetCACert:    GetCACert{IncludeRoot: true},
		SID:          SID{Extension: "refuse", URI: "keep_if_validated"},
	}
}
