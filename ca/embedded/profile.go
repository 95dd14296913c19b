package embedded

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Approval says who decides about a request.
type Approval string

// A profile issues at once, or parks each request for a person.
const (
	Auto   Approval = "auto"
	Manual Approval = "manual"
)

// Profile is one kind of certificate that the CA issues: what a Microsoft CA
// calls a template. What a request asks for beyond it is left out.
type Profile struct {
	Name string // compared without regard to case; required

	// KeyUsages are the bits that may leave. 0: digitalSignature and
	// keyEncipherment. Of them a certificate gets those that the request asks
	// for and its key can do; a request that names none gets all of these.
	KeyUsages x509.KeyUsage

	// ExtKeyUsages may leave. Empty: clientAuth.
	ExtKeyUsages []asn1.ObjectIdentifier
	// DefaultExtKeyUsages are for a request that names none. Empty: clientAuth
	// if it is among ExtKeyUsages, else the first of them.
	DefaultExtKeyUsages []asn1.ObjectIdentifier

	// Extensions are further extensions of the request that are copied as
	// they are. Empty: none. Those the CA makes itself, those that belong to
	// CAs, and the SID extension (KB5014754) cannot be listed.
	Extensions []asn1.ObjectIdentifier

	DefaultValidity time.Duration // when a request wishes none; 0: one year, or MaxValidity if shorter
	MaxValidity     time.Duration // cap of every life; 0: 825 days or DefaultValidity, whichever is longer
	BackDate        time.Duration // NotBefore lies this far back, for slow clocks; 0: 5 minutes; negative: none

	Approval Approval // "": auto

	MinRSABits int // smaller RSA keys are denied; 0: 2048
}

const (
	minRSABits      = 2048
	day             = 24 * time.Hour
	defaultValidity = 365 * day
	defaultMax      = 825 * day
	defaultBackDate = 5 * time.Minute

	defaultKeyUsages = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	// grantable are the bits that a device may have at all. nonRepudiation is
	// a promise of a person, and certificates and lists are signed by the CA.
	grantable = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment |
		x509.KeyUsageDataEncipherment | x509.KeyUsageKeyAgreement
)

// Extended key usages that have a part here. The last two make their holder
// more than a device and are never in a profile.
var (
	OIDClientAuth              = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
	OIDServerAuth              = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
	OIDEmailProtection         = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 4}
	OIDSmartcardLogon          = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 2}
	OIDCertificateRequestAgent = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 1}
	OIDAnyExtKeyUsage          = asn1.ObjectIdentifier{2, 5, 29, 37, 0}
)

// uncopied are extensions that no profile may copy from a request: a device
// would choose its own issuer, limits, template or identity with them.
var uncopied = []asn1.ObjectIdentifier{
	{2, 5, 29, 14}, {2, 5, 29, 15}, {2, 5, 29, 17}, {2, 5, 29, 18}, {2, 5, 29, 19}, {2, 5, 29, 20}, // SKI, KU, SAN, IAN, basicConstraints, cRLNumber
	{2, 5, 29, 30}, {2, 5, 29, 31}, {2, 5, 29, 33}, {2, 5, 29, 35}, {2, 5, 29, 36}, {2, 5, 29, 37}, // name constraints, CDP, policy mappings, AKI, policy constraints, EKU
	{2, 5, 29, 46}, {2, 5, 29, 54}, {1, 3, 6, 1, 5, 5, 7, 1, 1}, // freshest CRL, inhibit anyPolicy, AIA
	{1, 3, 6, 1, 4, 1, 311, 20, 2}, {1, 3, 6, 1, 4, 1, 311, 21, 7}, // certificate template names
	{1, 3, 6, 1, 5, 5, 7, 48, 1, 5}, // id-pkix-ocsp-nocheck
	{1, 3, 6, 1, 4, 1, 311, 25, 2},  // SID
}

// profile is a Profile that cannot be wrong.
type profile struct{ Profile }

// key is how a profile or template is found by name.
func profileKey(name string) string { return strings.ToLower(name) }

// readProfiles checks the profiles and returns all mistakes at once.
func readProfiles(list []Profile, sealer bool) (map[string]*profile, *profile, error) {
	if len(list) == 0 {
		list = []Profile{{Name: "default"}}
	}
	profiles := make(map[string]*profile, len(list))
	var standard *profile
	var errs []error
	for _, raw := range list {
		p, err := newProfile(raw)
		if err == nil && p.Approval == Manual && !sealer {
			err = errors.New("approval by a person needs a sealer, to keep parked requests secret")
		}
		if err == nil && profiles[profileKey(p.Name)] != nil {
			err = errors.New("there are two of this name")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("profile %q: %w", raw.Name, err))
			continue
		}
		profiles[profileKey(p.Name)] = p
		if standard == nil {
			standard = p
		}
	}
	return profiles, standard, errors.Join(errs...)
}

// newProfile fills in the defaults and refuses what a device must not have.
func newProfile(p Profile) (*profile, error) {
	var errs []error
	if p.Name == "" {
		errs = append(errs, errors.New("it has no name"))
	}
	if p.KeyUsages == 0 {
		p.KeyUsages = defaultKeyUsages
	}
	if p.KeyUsages&^grantable != 0 {
		errs = append(errs, errors.New("key usages may be digitalSignature, keyEncipherment, dataEncipherment and keyAgreement only"))
	}
	errs = append(errs, p.readExtKeyUsages(), p.readTimes())
	for _, oid := range p.Extensions {
		if containsOID(uncopied, oid) {
			errs = append(errs, fmt.Errorf("extension %v cannot be copied from a request", oid))
		}
	}
	switch p.Approval {
	case "":
		p.Approval = Auto
	case Auto, Manual:
	default:
		errs = append(errs, fmt.Errorf("approval is %q, must be auto or manual", p.Approval))
	}
	if p.MinRSABits == 0 {
		p.MinRSABits = minRSABits
	}
	if p.MinRSABits < minRSABits {
		errs = append(errs, fmt.Errorf("RSA keys of %d bits are too weak, at least %d", p.MinRSABits, minRSABits))
	}
	return &profile{p}, errors.Join(errs...)
}

func (p *Profile) readExtKeyUsages() error {
	if len(p.ExtKeyUsages) == 0 {
		p.ExtKeyUsages = []asn1.ObjectIdentifier{OIDClientAuth}
	}
	for _, oid := range p.ExtKeyUsages {
		if oid.Equal(OIDAnyExtKeyUsage) || oid.Equal(OIDCertificateRequestAgent) || oid.Equal(OIDOCSPSigning) {
			return fmt.Errorf("extended key usage %v is not for devices", oid)
		}
		if _, err := asn1.Marshal(oid); err != nil {
			return fmt.Errorf("extended key usage %v is no object identifier", oid)
		}
	}
	if len(p.DefaultExtKeyUsages) == 0 {
		p.DefaultExtKeyUsages = p.ExtKeyUsages[:1]
		if containsOID(p.ExtKeyUsages, OIDClientAuth) {
			p.DefaultExtKeyUsages = []asn1.ObjectIdentifier{OIDClientAuth}
		}
	}
	for _, oid := range p.DefaultExtKeyUsages {
		if !containsOID(p.ExtKeyUsages, oid) {
			return fmt.Errorf("default extended key usage %v is not among those allowed", oid)
		}
	}
	return nil
}

func (p *Profile) readTimes() error {
	if p.DefaultValidity < 0 || p.MaxValidity < 0 {
		return errors.New("a validity is negative")
	}
	if p.MaxValidity == 0 {
		p.MaxValidity = max(defaultMax, p.DefaultValidity)
	}
	if p.DefaultValidity == 0 {
		p.DefaultValidity = min(defaultValidity, p.MaxValidity)
	}
	if p.DefaultValidity > p.MaxValidity {
		return fmt.Errorf("default validity %v is longer than the maximum %v", p.DefaultValidity, p.MaxValidity)
	}
	if p.MaxValidity < time.Minute {
		return fmt.Errorf("maximum validity %v is too short", p.MaxValidity)
	}
	switch {
	case p.BackDate == 0:
		p.BackDate = defaultBackDate
	case p.BackDate < 0:
		p.BackDate = 0
	case p.BackDate > day:
		return fmt.Errorf("back-dating by %v is too much, at most a day", p.BackDate)
	}
	return nil
}

func containsOID(list []asn1.ObjectIdentifier, oid asn1.ObjectIdentifier) bool {
	return slices.ContainsFunc(list, oid.Equal)
}
