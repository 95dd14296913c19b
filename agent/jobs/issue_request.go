package jobs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/certconnector/certconnector/agent/jobs/jobqueue"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/scep"
)

// keyTypes makes the keys that jobs name.
var keyTypes = map[string]func() (crypto.Signer, error){
	"rsa2048": func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) },
	"rsa3072": func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 3072) },
	"rsa4096": func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 4096) },
	"p256":    func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
	"p384":    func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P384(), rand.Reader) },
}

var keyUsages = map[string]x509.KeyUsage{
	"digitalsignature":  x509.KeyUsageDigitalSignature,
	"nonrepudiation":    x509.KeyUsageContentCommitment,
	"contentcommitment": x509.KeyUsageContentCommitment,
	"keyencipherment":   x509.KeyUsageKeyEncipherment,
	"dataencipherment":  x509.KeyUsageDataEncipherment,
	"keyagreement":      x509.KeyUsageKeyAgreement,
}

// buildCSR writes the certification request of a job (PKCS #10, RFC 2986).
// What is wrong with the job is the error, which names the member.
func buildCSR(job jobqueue.Job, key crypto.Signer) ([]byte, error) {
	extensions, err := requestedExtensions(job)
	if err != nil {
		return nil, err
	}
	subject, err := encodeSubject(job.Subject)
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("encoding the key: %w", err)
	}
	var attributes []asn1.RawValue
	add := func(id asn1.ObjectIdentifier, value any) error {
		der, err := asn1.Marshal(value)
		if err == nil {
			der, err = asn1.Marshal(struct {
				ID     asn1.ObjectIdentifier
				Values []asn1.RawValue `asn1:"set"`
			}{id, []asn1.RawValue{{FullBytes: der}}})
		}
		attributes = append(attributes, asn1.RawValue{FullBytes: der})
		return err
	}
	if len(extensions) > 0 {
		if err := add(pkcs10.OIDExtensionRequest, extensions); err != nil {
			return nil, fmt.Errorf("encoding the extensions: %w", err)
		}
	}
	for _, pair := range validityPairs(time.Duration(job.ValiditySeconds) * time.Second) {
		if err := add(pkcs10.OIDNameValuePair, []asn1.RawValue{bmpString(pair[0]), bmpString(pair[1])}); err != nil {
			return nil, fmt.Errorf("encoding the validity: %w", err)
		}
	}
	return signCSR(asn1.RawValue{FullBytes: subject}, asn1.RawValue{FullBytes: spki}, attributes, key)
}

// signCSR signs with SHA-256, or SHA-384 for P-384.
func signCSR(subject, spki asn1.RawValue, attributes []asn1.RawValue, key crypto.Signer) ([]byte, error) {
	tbs, err := asn1.Marshal(struct {
		Version       int
		Subject, Key  asn1.RawValue
		RawAttributes []asn1.RawValue `asn1:"tag:0,set"`
	}{0, subject, spki, attributes})
	if err != nil {
		return nil, fmt.Errorf("encoding the request: %w", err)
	}
	hash, algorithm := crypto.SHA256, pkix.AlgorithmIdentifier{
		Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, Parameters: asn1.NullRawValue,
	}
	if public, ok := key.Public().(*ecdsa.PublicKey); ok {
		algorithm = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}
		if public.Curve == elliptic.P384() {
			hash, algorithm.Algorithm = crypto.SHA384, asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}
		}
	}
	h := hash.New()
	h.Write(tbs)
	signature, err := key.Sign(rand.Reader, h.Sum(nil), hash)
	if err != nil {
		return nil, fmt.Errorf("signing the request: %w", err)
	}
	return asn1.Marshal(struct {
		Info      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: tbs}, algorithm, asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}})
}

func requestedExtensions(job jobqueue.Job) ([]pkix.Extension, error) {
	var list []pkix.Extension
	add := func(id asn1.ObjectIdentifier, critical bool, value any) error {
		der, err := asn1.Marshal(value)
		list = append(list, pkix.Extension{Id: id, Critical: critical, Value: der})
		return err
	}
	if len(job.SANs) > 0 {
		names, err := encodeSANs(job.SANs)
		if err != nil {
			return nil, err
		}
		// RFC 5280, section 4.2.1.6: critical when it is the only name.
		if err := add(pkcs10.OIDSubjectAltName, strings.TrimSpace(job.Subject) == "", names); err != nil {
			return nil, fmt.Errorf("member sans: %w", err)
		}
	}
	usage := x509.KeyUsage(0)
	for _, name := range job.KeyUsage {
		bit, known := keyUsages[strings.ToLower(name)]
		if !known {
			return nil, errors.New("member keyUsage names a usage that is not known, or not for an end entity")
		}
		usage |= bit
	}
	if usage != 0 {
		if err := add(pkcs10.OIDKeyUsage, true, usageBits(usage)); err != nil {
			return nil, fmt.Errorf("member keyUsage: %w", err)
		}
	}
	if len(job.EKUs) > 0 {
		oids, err := parseEKUs(job.EKUs)
		if err != nil {
			return nil, errors.New("member ekus names a usage that is not known")
		}
		if err := add(pkcs10.OIDExtKeyUsage, false, oids); err != nil {
			return nil, fmt.Errorf("member ekus: %w", err)
		}
	}
	return list, nil
}

// usageBits encodes a KeyUsage of bits 0 to 4 (RFC 5280, section 4.2.1.3): the
// first bit is the highest of the octet, and trailing zeros are left out.
func usageBits(usage x509.KeyUsage) asn1.BitString {
	var octet byte
	length := 0
	for i := range 8 {
		if usage&(1<<i) != 0 {
			octet |= 0x80 >> i
			length = i + 1
		}
	}
	return asn1.BitString{Bytes: []byte{octet}, BitLength: length}
}

// validityPairs wishes a life as a Microsoft CA understands it ([MS-WCCE]
// 2.2.2.7.10), in the largest unit that says it exactly.
func validityPairs(d time.Duration) [][2]string {
	if d <= 0 {
		return nil
	}
	unit, name := time.Second, "Seconds"
	if d%(24*time.Hour) == 0 {
		unit, name = 24*time.Hour, "Days"
	} else if d%time.Hour == 0 {
		unit, name = time.Hour, "Hours"
	}
	return [][2]string{{"ValidityPeriod", name}, {"ValidityPeriodUnits", fmt.Sprint(int64(d / unit))}}
}

func bmpString(s string) asn1.RawValue {
	var b []byte
	for _, unit := range utf16.Encode([]rune(s)) {
		b = append(b, byte(unit>>8), byte(unit))
	}
	return asn1.RawValue{Tag: asn1.TagBMPString, Bytes: b}
}

// scepRequest is the job's request as the registration authority takes it:
// signed with the key that it is for. The transaction ID is the job's, so that
// a repetition is recognized.
func scepRequest(source, context string, csr *pkcs10.Request, key crypto.Signer) (*scep.Request, error) {
	digest := csr.Digest()
	tmpl := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(append([]byte{1}, digest[:15]...)), Subject: pkix.Name{CommonName: "issuance job"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2049, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("making the signer of the request: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading the signer of the request: %w", err)
	}
	return &scep.Request{
		MessageType: scep.PKCSReq, TransactionID: transactionID(source, context), CSR: csr,
		Signer: &scep.Signer{
			Raw: cert.Raw, RawIssuer: cert.RawIssuer, RawSubject: cert.RawSubject,
			RawSubjectPublicKeyInfo: cert.RawSubjectPublicKeyInfo, Serial: cert.SerialNumber, RawSerial: cert.SerialNumber.Bytes(),
			PublicKey: csr.PublicKey, SelfIssued: bytes.Equal(cert.RawIssuer, cert.RawSubject),
		},
	}, nil
}

// transactionID is derived from the job, and of another form than those that
// devices choose.
func transactionID(source, context string) string {
	digest := sha256.Sum256(fmt.Appendf(nil, "certconnector issuance job\x00%d:%s%s", len(source), source, context))
	return "job-" + hex.EncodeToString(digest[:])
}
