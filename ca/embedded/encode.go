package embedded

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"math/bits"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// The certificate is encoded here rather than by x509.CreateCertificate, which
// verifies its own signature and encodes the CA's parts anew each time: on top
// of a P-256 signature that takes four times as long (BenchmarkIssue and
// BenchmarkStandardLibrary).

// fixedParts are the parts that all certificates of a CA share, DER.
type fixedParts struct {
	algorithm  []byte // AlgorithmIdentifier of the signature
	issuer     []byte
	extensions []byte // basicConstraints, authorityKeyIdentifier and the addresses
	plain      []byte // the same without the addresses
}

var (
	oidSubjectKeyID      = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidKeyUsage          = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSubjectAltName    = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasicConstraints  = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidCRLPoints         = asn1.ObjectIdentifier{2, 5, 29, 31}
	oidAuthorityKeyID    = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidDeltaCRLIndicator = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidExtKeyUsage       = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidFreshestCRL       = asn1.ObjectIdentifier{2, 5, 29, 46}
	oidAuthorityInfo     = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 1}
	oidOCSP              = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1}
	oidCAIssuers         = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 2}
)

type accessDescription struct {
	Method   asn1.ObjectIdentifier
	Location asn1.RawValue
}

type distributionPoint struct {
	Name struct {
		FullName []asn1.RawValue `asn1:"optional,tag:0"`
	} `asn1:"optional,tag:0"`
}

func newFixedParts(cert *x509.Certificate, alg signatureAlgorithm, cfg Config) (fixedParts, error) {
	f := fixedParts{issuer: cert.RawSubject}
	var err error
	if f.algorithm, err = asn1.Marshal(alg.id); err != nil {
		return f, fmt.Errorf("encoding the signature algorithm: %v", err)
	}
	b := cryptobyte.NewBuilder(nil)
	addExtension(b, oidBasicConstraints, true, []byte{0x30, 0x00}) // cA is FALSE by default
	addExtensionBuilt(b, oidAuthorityKeyID, false, func(b *cryptobyte.Builder) {
		addSequence(b, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes(cert.SubjectKeyId) })
		})
	})
	plain, err := b.Bytes()
	if err != nil {
		return f, err
	}
	f.plain = slices.Clone(plain) // the builder goes on writing
	addresses, err := addressExtensions(cfg)
	if err != nil {
		return f, err
	}
	for _, e := range addresses {
		addExtension(b, e.Id, false, e.Value)
	}
	f.extensions, err = b.Bytes()
	return f, err
}

// addressExtensions says where to find the revocation list, the responder and
// the CA certificate (RFC 5280, sections 4.2.1.13, 4.2.1.15 and 4.2.2.1).
func addressExtensions(cfg Config) ([]pkix.Extension, error) {
	var extensions []pkix.Extension
	var access []accessDescription
	for _, u := range cfg.OCSPURLs {
		access = append(access, accessDescription{oidOCSP, uriName(u)})
	}
	for _, u := range cfg.IssuerURLs {
		access = append(access, accessDescription{oidCAIssuers, uriName(u)})
	}
	if access != nil {
		der, err := asn1.Marshal(access)
		if err != nil {
			return nil, fmt.Errorf("encoding the CA's addresses: %v", err)
		}
		extensions = append(extensions, pkix.Extension{Id: oidAuthorityInfo, Value: der})
	}
	for _, points := range []struct {
		id   asn1.ObjectIdentifier
		urls []string
	}{{oidCRLPoints, cfg.CRLURLs}, {oidFreshestCRL, cfg.DeltaCRLURLs}} {
		if len(points.urls) == 0 {
			continue
		}
		e, err := distributionPoints(points.id, points.urls)
		if err != nil {
			return nil, err
		}
		extensions = append(extensions, e)
	}
	return extensions, nil
}

// distributionPoints is CRLDistributionPoints of RFC 5280, section 4.2.1.13:
// one point with all addresses, for all have the same list.
func distributionPoints(id asn1.ObjectIdentifier, urls []string) (pkix.Extension, error) {
	var point distributionPoint
	for _, u := range urls {
		point.Name.FullName = append(point.Name.FullName, uriName(u))
	}
	der, err := asn1.Marshal([]distributionPoint{point})
	if err != nil {
		return pkix.Extension{}, fmt.Errorf("encoding the addresses of a revocation list: %w", err)
	}
	return pkix.Extension{Id: id, Value: der}, nil
}

func uriName(u string) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(u)}
}

// toBeSigned is TBSCertificate of RFC 5280, section 4.1.
func (c *CA) toBeSigned(serial *big.Int, d draft) ([]byte, error) {
	keyID, err := subjectKeyID(d.spki)
	if err != nil {
		return nil, err
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, 512+len(d.subject)+len(d.spki)+len(d.san)+len(c.fixed.extensions)+len(c.fixed.issuer)))
	addSequence(b, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(0).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) { b.AddASN1Int64(2) }) // v3
		b.AddASN1BigInt(serial)
		b.AddBytes(c.fixed.algorithm)
		b.AddBytes(c.fixed.issuer)
		addSequence(b, func(b *cryptobyte.Builder) {
			addTime(b, d.notBefore)
			addTime(b, d.notAfter)
		})
		b.AddBytes(d.subject)
		b.AddBytes(d.spki)
		b.AddASN1(cbasn1.Tag(3).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
			addSequence(b, func(b *cryptobyte.Builder) { c.addExtensions(b, d, keyID) })
		})
	})
	return b.Bytes()
}

func (c *CA) addExtensions(b *cryptobyte.Builder, d draft, keyID []byte) {
	addExtension(b, oidKeyUsage, true, keyUsageBits(d.keyUsage))
	addExtensionBuilt(b, oidExtKeyUsage, false, func(b *cryptobyte.Builder) {
		addSequence(b, func(b *cryptobyte.Builder) {
			for _, oid := range d.extKeyUsage {
				b.AddASN1ObjectIdentifier(oid)
			}
		})
	})
	if d.noAddresses {
		b.AddBytes(c.fixed.plain)
	} else {
		b.AddBytes(c.fixed.extensions)
	}
	addExtensionBuilt(b, oidSubjectKeyID, false, func(b *cryptobyte.Builder) { b.AddASN1OctetString(keyID) })
	if d.san != nil {
		// RFC 5280, section 4.2.1.6: critical if it is the only name.
		addExtension(b, oidSubjectAltName, string(d.subject) == "\x30\x00", d.san)
	}
	for _, e := range d.extra {
		addExtension(b, e.Id, e.Critical, e.Value)
	}
}

func addSequence(b *cryptobyte.Builder, f cryptobyte.BuilderContinuation) {
	b.AddASN1(cbasn1.SEQUENCE, f)
}

func addExtension(b *cryptobyte.Builder, oid asn1.ObjectIdentifier, critical bool, value []byte) {
	addExtensionBuilt(b, oid, critical, func(b *cryptobyte.Builder) { b.AddBytes(value) })
}

func addExtensionBuilt(b *cryptobyte.Builder, oid asn1.ObjectIdentifier, critical bool, value cryptobyte.BuilderContinuation) {
	addSequence(b, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		if critical {
			b.AddASN1Boolean(true)
		}
		b.AddASN1(cbasn1.OCTET_STRING, value)
	})
}

// addTime is Time of RFC 5280, section 4.1.2.5: UTCTime until 2049.
func addTime(b *cryptobyte.Builder, t time.Time) {
	if y := t.UTC().Year(); y >= 1950 && y < 2050 {
		b.AddASN1UTCTime(t.UTC())
		return
	}
	b.AddASN1GeneralizedTime(t.UTC())
}

// keyUsageBits is a BIT STRING without trailing zeros, as DER wants named bits
// (RFC 5280, section 4.2.1.3). x509.KeyUsage counts bits from the other end.
func keyUsageBits(u x509.KeyUsage) []byte {
	b := bits.Reverse8(byte(u)) // the bits in use here fit one octet
	return []byte{byte(cbasn1.BIT_STRING), 2, byte(bits.TrailingZeros8(b)), b}
}

// subjectKeyID is the leftmost 160 bits of the SHA-256 of the key (RFC 7093,
// section 2, method 1).
func subjectKeyID(spki []byte) ([]byte, error) {
	var inner, algorithm cryptobyte.String
	var key asn1.BitString
	s := cryptobyte.String(spki)
	if !s.ReadASN1(&inner, cbasn1.SEQUENCE) || !s.Empty() ||
		!inner.ReadASN1(&algorithm, cbasn1.SEQUENCE) || !inner.ReadASN1BitString(&key) || !inner.Empty() {
		return nil, errors.New("the public key is no SubjectPublicKeyInfo")
	}
	sum := sha256.Sum256(key.RightAlign())
	return sum[:20], nil
}
