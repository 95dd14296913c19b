package intunetest

import (
	"crypto"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/url"
	"strconv"
	"strings"
)

// CSR makes the request that a device makes of a challenge, signed with
// SHA-256, or SHA-1 where the profile says so. The key is RSA.
func (ch Challenge) CSR(key crypto.Signer) ([]byte, error) {
	template := &x509.CertificateRequest{SignatureAlgorithm: x509.SHA256WithRSA}
	subject, err := marshalSubject(ch.Subject)
	if err != nil {
		return nil, err
	}
	template.RawSubject = subject
	if err := ch.extend(template); err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil || ch.Challenge == "" {
		return der, err
	}
	hash, algorithm := crypto.SHA256, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
	if ch.Hash == "SHA-1" {
		hash, algorithm = crypto.SHA1, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}
	}
	return addChallenge(der, ch.Challenge, key, hash, algorithm)
}

func marshalSubject(text string) ([]byte, error) {
	attributes, err := parseSubject(text)
	if err != nil {
		return nil, err
	}
	var name pkix.RDNSequence
	for _, a := range attributes {
		var oid asn1.ObjectIdentifier
		for part := range strings.SplitSeq(a.Type, ".") {
			n, err := strconv.Atoi(part)
			if err != nil {
				return nil, err
			}
			oid = append(oid, n)
		}
		name = append(name, pkix.RelativeDistinguishedNameSET{{Type: oid, Value: a.Value}})
	}
	return asn1.Marshal(name)
}

// extend adds the extensions that the profile asks for.
func (ch Challenge) extend(template *x509.CertificateRequest) error {
	add := func(oid asn1.ObjectIdentifier, value any) error {
		der, err := asn1.Marshal(value)
		if err == nil {
			template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: oid, Value: der})
		}
		return err
	}
	if names, err := ch.SAN.marshal(); err != nil {
		return err
	} else if len(names) > 0 {
		if err := add(oidSAN, names); err != nil {
			return err
		}
	}
	if ch.KeyUsage != 0 {
		bits := asn1.BitString{Bytes: make([]byte, 2)}
		for i := range 9 {
			if ch.KeyUsage>>i&1 == 1 {
				bits.Bytes[i/8] |= 0x80 >> (i % 8)
				bits.BitLength = i + 1
			}
		}
		bits.Bytes = bits.Bytes[:(bits.BitLength+7)/8]
		if err := add(oidKeyUsage, bits); err != nil {
			return err
		}
	}
	var usages []asn1.ObjectIdentifier
	for _, text := range ch.EKU {
		oid, err := x509.ParseOID(text)
		if err != nil {
			return err
		}
		der, err := oid.MarshalBinary()
		if err != nil {
			return err
		}
		var old asn1.ObjectIdentifier
		if _, err := asn1.UnmarshalWithParams(append([]byte{0x06, byte(len(der))}, der...), &old, ""); err != nil {
			return err
		}
		usages = append(usages, old)
	}
	if len(usages) > 0 {
		return add(oidEKU, usages)
	}
	return nil
}

// marshal returns the names as GeneralNames (RFC 5280, section 4.2.1.6).
func (n Names) marshal() ([]asn1.RawValue, error) {
	var out []asn1.RawValue
	plain := func(tag int, texts []string) {
		for _, t := range texts {
			out = append(out, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: []byte(t)})
		}
	}
	plain(1, n.Email)
	plain(2, n.DNS)
	for _, u := range n.URI {
		if _, err := url.Parse(u); err != nil {
			return nil, err
		}
	}
	plain(6, n.URI)
	for _, upn := range n.UPN {
		var other struct {
			Type  asn1.ObjectIdentifier
			Value string `asn1:"tag:0,explicit,utf8"`
		}
		other.Type, other.Value = oidUPN, upn
		der, err := asn1.MarshalWithParams(other, "tag:0")
		if err != nil {
			return nil, err
		}
		out = append(out, asn1.RawValue{FullBytes: der})
	}
	return out, nil
}

// addChallenge puts a challengePassword into a request, which crypto/x509
// cannot do, and signs it again.
func addChallenge(der []byte, challenge string, key crypto.Signer, hash crypto.Hash, algorithm asn1.ObjectIdentifier) ([]byte, error) {
	var request struct {
		Info struct {
			Version    int
			Subject    asn1.RawValue
			PublicKey  asn1.RawValue
			Attributes []asn1.RawValue `asn1:"tag:0,set"`
		}
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &request); err != nil {
		return nil, err
	}
	attribute, err := asn1.Marshal(struct {
		Type   asn1.ObjectIdentifier
		Values []asn1.RawValue `asn1:"set"`
	}{oidChallenge, []asn1.RawValue{{Tag: asn1.TagUTF8String, Bytes: []byte(challenge)}}})
	if err != nil {
		return nil, err
	}
	request.Info.Attributes = append(request.Info.Attributes, asn1.RawValue{FullBytes: attribute})
	tbs, err := asn1.Marshal(request.Info)
	if err != nil {
		return nil, err
	}
	var digest []byte
	if hash == crypto.SHA1 {
		sum := sha1.Sum(tbs)
		digest = sum[:]
	} else {
		sum := sha256.Sum256(tbs)
		digest = sum[:]
	}
	signature, err := key.Sign(rand.Reader, digest, hash)
	if err != nil {
		return nil, err
	}
	request.Algorithm = pkix.AlgorithmIdentifier{Algorithm: algorithm, Parameters: asn1.NullRawValue}
	request.Signature = asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}
	return asn1.Marshal(request)
}
