package enroll

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/scep"
)

// Rules are the registration authority's own limits on what a device may ask
// for, whoever vouches. Zero values are the safe defaults.
type Rules struct {
	MinRSABits   int                     // 0: 2048
	MaxRSABits   int                     // 0: 8192
	MaxValidity  time.Duration           // cap on a certificate's life; 0: the template's
	LegacySHA1   bool                    // accept CSRs that are signed with SHA-1
	ExtKeyUsages []asn1.ObjectIdentifier // what may be asked for; empty: anything that is not forbidden
	ECDSA        bool                    // accept ECDSA keys on P-256 and P-384 too; only where no reply is encrypted to the key
	StripSID     bool                    // let a requested SID extension pass; for a CA that never copies it
	RefuseSIDURI bool                    // refuse a SID in a SAN URI even when the module vouched for it

	// SIDFromURI lets a certificate carry the SID extension with the very SID
	// of its SAN URI, as a CA of ours adds it. No other is ever delivered.
	SIDFromURI bool

	// Names says which names may be asked for. nil: any; only for a module
	// that compares the names itself, as Intune does.
	Names *policymodule.Names

	// RenewalWithoutChallenge lets a certificate of this CA vouch instead of a
	// challenge. RenewalNewKey then wants another key than the old one, and
	// RenewalGrace lets a certificate vouch for so long after its end.
	RenewalWithoutChallenge bool
	RenewalNewKey           bool
	RenewalGrace            time.Duration

	// RenewalFrom names the other endpoints whose certificates may vouch here.
	RenewalFrom []string
}

// The names of the rules, as they stand in logs, metrics and the docs.
const (
	RuleKeyProof      policymodule.Reason = "key_proof"
	RuleKeyType       policymodule.Reason = "key_type"
	RuleKeySize       policymodule.Reason = "key_size"
	RuleKeyWeak       policymodule.Reason = "key_weak"
	RuleCSRDigest     policymodule.Reason = "csr_digest"
	RuleExtension     policymodule.Reason = "extension_not_allowed"
	RuleSID           policymodule.Reason = "sid_extension"
	RuleSIDURI        policymodule.Reason = "sid_uri_not_vouched"
	RuleSIDDuplicate  policymodule.Reason = "sid_duplicate"
	RuleSIDMismatch   policymodule.Reason = "sid_mismatch"
	RuleSIDMalformed  policymodule.Reason = "sid_malformed"
	RuleCA            policymodule.Reason = "ca_certificate"
	RuleKeyUsage      policymodule.Reason = "key_usage"
	RuleTemplate      policymodule.Reason = "device_chosen_template"
	RuleRenewalSigner policymodule.Reason = "renewal_signer"
	RuleRenewalNames  policymodule.Reason = "renewal_names"
	RuleChallengeUsed policymodule.Reason = "challenge_used"
	RuleRestored      policymodule.Reason = "challenge_before_restore"
	RuleNoRequest     policymodule.Reason = "no_such_request"

	// What stands in the place of a rule when a request ended later.
	RuleCADenied       policymodule.Reason = journal.RuleCADenied
	RuleCAUnavailable  policymodule.Reason = journal.RuleCAUnavailable
	RuleOutcomeUnknown policymodule.Reason = journal.RuleOutcomeUnknown
	RuleParked         policymodule.Reason = journal.RuleParked
	RuleIssued         policymodule.Reason = journal.RuleIssued
	RuleWithheld       policymodule.Reason = journal.RuleWithheld

	// Rules that modules apply as well.
	RuleExtKeyUsage = policymodule.RuleExtKeyUsage
	RuleSubject     = policymodule.RuleSubject
	RuleSAN         = policymodule.RuleSAN
)

const (
	defaultMinRSABits = 2048
	defaultMaxRSABits = 8192
	minRSAExponent    = 65537
)

var (
	oidSAN              = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidSubjectKeyID     = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidTemplateName     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2}
	oidTemplate         = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 21, 7}
	oidSMIMECaps        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 15}
	oidAnyPurpose       = asn1.ObjectIdentifier{2, 5, 29, 37, 0}
	oidRequestAgent     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 1}
)

// requestable are the extensions a device may ask for; all others are refused
// (default deny). What of them reaches the certificate the CA's template says.
var requestable = []asn1.ObjectIdentifier{
	oidSAN, oidKeyUsage, oidExtKeyUsage, oidBasicConstraints, oidSubjectKeyID, pkcs10.OIDApplicationPolicies, oidSMIMECaps,
}

// check applies the rules to a request that a module has granted. vouched
// says that the module compared the names with what it expects.
func (r Rules) check(req *scep.Request, vouched bool) *policymodule.Decision {
	for _, rule := range []func(*scep.Request) *policymodule.Decision{
		r.checkKey, r.checkDigest, r.checkSIDs, r.checkExtensions, r.checkUsages,
	} {
		if d := rule(req); d != nil {
			return d
		}
	}
	if d := r.checkSIDVouched(req, vouched); d != nil || r.Names == nil {
		return d
	}
	return r.Names.Check(req.CSR)
}

func refuse(rule policymodule.Reason, info policymodule.FailInfo, detail string) *policymodule.Decision {
	d := policymodule.Refuse(rule, info, detail)
	return &d
}

// checkKey wants an RSA key of sane size: devices must be able to open the
// reply, and RFC 8894 knows no way for other keys but a password. Who asks
// from within this process gets no such reply.
func (r Rules) checkKey(req *scep.Request) *policymodule.Decision {
	if ec, ok := req.CSR.PublicKey.(*ecdsa.PublicKey); ok && r.ECDSA {
		if ec.Curve != elliptic.P256() && ec.Curve != elliptic.P384() {
			return refuse(RuleKeyType, policymodule.BadAlg, "an ECDSA key on another curve than P-256 and P-384")
		}
		return nil
	}
	key, ok := req.CSR.PublicKey.(*rsa.PublicKey)
	if !ok {
		return refuse(RuleKeyType, policymodule.BadAlg, "only RSA keys can be enrolled over SCEP")
	}
	least, most := r.MinRSABits, r.MaxRSABits
	setDefault(&least, defaultMinRSABits)
	setDefault(&most, defaultMaxRSABits)
	if bits := key.N.BitLen(); bits < least || bits > most {
		return refuse(RuleKeySize, policymodule.BadAlg, fmt.Sprintf("RSA key of %d bits, %d to %d are wanted", bits, least, most))
	}
	if key.E < minRSAExponent || key.E%2 == 0 {
		return refuse(RuleKeySize, policymodule.BadAlg, "RSA public exponent below 65537 or even")
	}
	if why := pkcs10.WeakKey(key); why != "" {
		return refuse(RuleKeyWeak, policymodule.BadAlg, why)
	}
	return nil
}

func (r Rules) checkDigest(req *scep.Request) *policymodule.Decision {
	if req.CSR.DigestAlgorithm() == crypto.SHA1 && !r.LegacySHA1 {
		return refuse(RuleCSRDigest, policymodule.BadAlg, "the CSR is signed with SHA-1; legacy_sha1 is off")
	}
	return nil
}

func (r Rules) checkExtensions(req *scep.Request) *policymodule.Decision {
	for _, ext := range req.CSR.Extensions {
		switch {
		case ext.Id.Equal(oidSID) && r.StripSID:
		case ext.Id.Equal(oidSID):
			return refuse(RuleSID, policymodule.BadRequest, "the device asks for a security identifier extension (1.3.6.1.4.1.311.25.2)")
		case ext.Id.Equal(oidTemplateName), ext.Id.Equal(oidTemplate):
			return refuse(RuleTemplate, policymodule.BadRequest, "the device names a certificate template")
		case !slices.ContainsFunc(requestable, ext.Id.Equal):
			return refuse(RuleExtension, policymodule.BadRequest, "extension "+ext.Id.String()+" may not be asked for")
		case ext.Id.Equal(oidBasicConstraints) && !saysEndEntity(ext.Value):
			return refuse(RuleCA, policymodule.BadRequest, "the device asks for a CA certificate")
		}
	}
	return nil
}

// saysEndEntity reads BasicConstraints; whatever is not plainly CA:FALSE is not.
func saysEndEntity(der []byte) bool {
	var bc struct {
		CA      bool `asn1:"optional"`
		PathLen int  `asn1:"optional,default:-1"`
	}
	rest, err := asn1.Unmarshal(der, &bc)
	return err == nil && len(rest) == 0 && !bc.CA
}

// signedByCSRKey reports whether message and CSR were signed with one key.
func signedByCSRKey(signer *scep.Signer, csr *pkcs10.Request) bool {
	return bytes.Equal(signer.RawSubjectPublicKeyInfo, csr.RawSubjectPublicKeyInfo)
}
