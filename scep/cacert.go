package scep

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"slices"
	"strings"
)

// Content types of GetCACert (RFC 8894, section 4.2.1).
const (
	contentTypeCA = "application/x-x509-ca-cert"
	contentTypeRA = "application/x-x509-ca-ra-cert"
)

// CACert returns the answer to GetCACert and its content type. The RA's
// certificates come first, then issuing CA to root: clients take the first, or
// save them by number.
func (ra *RA) CACert() (body []byte, contentType string) { return ra.caCert, ra.caCertType }

// buildCACert writes that answer once. A single certificate goes bare; the
// type for several would have Apple's devices look for an RA among them.
func (ra *RA) buildCACert() ([]byte, string) {
	if ra.Shape == CADirect {
		return ra.Signing.Certificate.Raw, contentTypeCA
	}
	list := [][]byte{ra.Signing.Certificate.Raw}
	if ra.Shape == SplitRA {
		list = append(list, ra.Encryption.Certificate.Raw)
	}
	list = append(list, ra.visibleChain(ra.Chain)...)
	if ra.DERSort {
		slices.SortFunc(list, bytes.Compare)
	}
	return certsOnly(list...), contentTypeRA
}

// visibleChain leaves out the root unless it is wanted, or the issuing CA itself.
func (ra *RA) visibleChain(chain []*x509.Certificate) [][]byte {
	var list [][]byte
	for i, c := range chain {
		if i == 0 || ra.IncludeRoot || !selfIssued(c) {
			list = append(list, c.Raw)
		}
	}
	return list
}

// NextCACert returns the answer to GetNextCACert: the next certificates,
// signed with the current RA's key (RFC 8894, section 4.7.1). ErrNoNextCA when
// no rollover is staged.
func (ra *RA) NextCACert() ([]byte, error) {
	if ra.Next == nil {
		return nil, ErrNoNextCA
	}
	list := ra.visibleChain(ra.Next.Chain)
	for _, c := range ra.Next.RA {
		list = append(list, c.Raw)
	}
	return ra.signer.sign(certsOnly(list...), crypto.SHA256, nil)
}

// certsOnly writes a SignedData without content or signers, around
// certificates in the order given (RFC 8894, section 3.4). eContent is absent,
// not empty: cryptlib tells them apart.
func certsOnly(certificates ...[]byte) []byte {
	return degenerate(tlv(tagExplicit0, certificates...))
}

// crlOnly writes the same around a CRL.
func crlOnly(crl []byte) []byte { return degenerate(tlv(tagExplicit1, crl)) }

func degenerate(field []byte) []byte {
	return typed(oidSignedData, tagSequence,
		version(1),
		[]byte{tagSet, 0},
		sequence(object(oidData)),
		field,
		[]byte{tagSet, 0},
	)
}

// Capabilities returns the body of GetCACaps (RFC 8894, section 3.5.2), a line
// for each keyword. nextCA says whether GetNextCACert is served. DES3 keeps
// old jscep agents from falling to single DES; SHA-384 is no keyword of the
// RFC, but strongSwan asks for it.
func Capabilities(accept Algorithms, nextCA bool) string {
	var b strings.Builder
	add := func(keyword string, when bool) {
		if when {
			b.WriteString(keyword)
			b.WriteByte('\n')
		}
	}
	add("AES", true)
	add("DES3", accept.Legacy3DES)
	add("POSTPKIOperation", true)
	add("Renewal", true)
	add("SHA-1", accept.LegacySHA1)
	add("SHA-256", true)
	add("SHA-384", true)
	add("SHA-512", true)
	add("SCEPStandard", true)
	add("GetNextCACert", nextCA)
	return b.String()
}
