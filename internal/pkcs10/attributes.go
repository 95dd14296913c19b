package pkcs10

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/certconnector/certconnector/internal/secret"
)

// readAttributes reads the content of the attributes field.
func (r *Request) readAttributes(s cryptobyte.String) error {
	var (
		seen  []asn1.ObjectIdentifier
		pairs pairs
	)
	for !s.Empty() {
		var (
			attribute, values cryptobyte.String
			oid               asn1.ObjectIdentifier
		)
		if !s.ReadASN1(&attribute, cbasn1.SEQUENCE) || !attribute.ReadASN1ObjectIdentifier(&oid) ||
			!attribute.ReadASN1(&values, cbasn1.SET) || !attribute.Empty() {
			return errors.New("malformed attribute")
		}
		// certreq writes one attribute for each name/value pair; any other
		// attribute that comes twice could be read in two ways.
		if !oid.Equal(OIDNameValuePair) && slices.ContainsFunc(seen, oid.Equal) {
			return fmt.Errorf("attribute %v comes twice", oid)
		}
		if seen = append(seen, oid); len(seen) > maxAttributes {
			return fmt.Errorf("more than %d attributes", maxAttributes)
		}
		var err error
		switch {
		case oid.Equal(OIDChallengePassword):
			err = r.readChallenge(values)
		case oid.Equal(OIDExtensionRequest), oid.Equal(OIDMicrosoftExtensions):
			err = r.mergeExtensions(values)
		case oid.Equal(OIDNameValuePair):
			err = pairs.read(values)
		}
		if err != nil {
			return err
		}
	}
	r.Validity, r.IgnoredPairs = pairs.result()
	return r.lookIntoExtensions()
}

// readChallenge reads challengePassword, whatever string type a platform
// chose. The 255 characters of PKCS #9 do not hold for Intune's challenge.
func (r *Request) readChallenge(values cryptobyte.String) error {
	if len(values) > maxChallenge+8 {
		return fmt.Errorf("challenge longer than %d octets", maxChallenge)
	}
	var (
		content cryptobyte.String
		tag     cbasn1.Tag
	)
	if !values.ReadAnyASN1(&content, &tag) {
		return errors.New("malformed challenge")
	}
	if !values.Empty() {
		return errors.New("more than one challenge")
	}
	text, ok := decodeString(tag, content)
	if !ok {
		return errors.New("malformed challenge")
	}
	r.ChallengePassword = secret.Text(text)
	return nil
}

// mergeExtensions adds the extensions of one attribute. PKIX's and Microsoft's
// attribute may both be there and overlap, but must not contradict.
func (r *Request) mergeExtensions(values cryptobyte.String) error {
	var list cryptobyte.String
	if values.Empty() {
		return nil
	}
	if !values.ReadASN1(&list, cbasn1.SEQUENCE) || !values.Empty() {
		return errors.New("malformed extension request")
	}
	before := len(r.Extensions) // of the other attribute
	for !list.Empty() {
		ext, err := readExtension(&list)
		if err != nil {
			return err
		}
		at := slices.IndexFunc(r.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(ext.Id) })
		switch {
		case at < 0:
			r.Extensions = append(r.Extensions, ext)
		case at >= before:
			return fmt.Errorf("extension %v comes twice", ext.Id)
		case r.Extensions[at].Critical != ext.Critical || !bytes.Equal(r.Extensions[at].Value, ext.Value):
			return fmt.Errorf("extension %v differs between the two extension attributes", ext.Id)
		}
		if len(r.Extensions) > maxExtensions {
			return fmt.Errorf("more than %d extensions", maxExtensions)
		}
	}
	return nil
}

// readExtension reads one Extension (RFC 5280, section 4.1).
func readExtension(s *cryptobyte.String) (pkix.Extension, error) {
	var (
		ext        pkix.Extension
		seq, value cryptobyte.String
	)
	if !s.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1ObjectIdentifier(&ext.Id) {
		return ext, errors.New("malformed extension")
	}
	// An explicit FALSE is not DER, and sent nevertheless; so is a TRUE of 01.
	if seq.PeekASN1Tag(cbasn1.BOOLEAN) {
		var b cryptobyte.String
		if !seq.ReadASN1(&b, cbasn1.BOOLEAN) || len(b) != 1 {
			return ext, errors.New("malformed extension")
		}
		ext.Critical = b[0] != 0
	}
	if !seq.ReadASN1(&value, cbasn1.OCTET_STRING) || !seq.Empty() {
		return ext, errors.New("malformed extension")
	}
	ext.Value = value
	return ext, nil
}

// lookIntoExtensions fills the fields that have names of their own. An
// extension that somebody decides on has to be understood; others may hold
// anything here.
func (r *Request) lookIntoExtensions() error {
	for _, ext := range r.Extensions {
		s := cryptobyte.String(ext.Value)
		switch {
		case ext.Id.Equal(OIDSubjectAltName):
			r.RawSAN = ext.Value
		case ext.Id.Equal(OIDKeyUsage):
			var bits asn1.BitString
			if !s.ReadASN1BitString(&bits) || !s.Empty() {
				return errors.New("malformed keyUsage")
			}
			for i := range 9 {
				r.KeyUsage |= bits.At(i) << i
			}
		case ext.Id.Equal(OIDExtKeyUsage):
			var list cryptobyte.String
			if !s.ReadASN1(&list, cbasn1.SEQUENCE) || !s.Empty() {
				return errors.New("malformed extKeyUsage")
			}
			for !list.Empty() {
				var oid asn1.ObjectIdentifier
				if !list.ReadASN1ObjectIdentifier(&oid) {
					return errors.New("malformed extKeyUsage")
				}
				r.ExtKeyUsage = append(r.ExtKeyUsage, oid)
			}
		}
	}
	return nil
}
