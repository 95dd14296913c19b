package catest

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/bits"
	"sync/atomic"
	"testing"

	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/testkeys"
)

// CSROptions describe a certification request; the zero value is one of a
// device that asks for clientAuth, to sign and to encipher keys.
type CSROptions struct {
	Key         crypto.Signer           // nil: an RSA key of 2048 bits
	RawSubject  []byte                  // DER; nil: a subject of its own
	RawSAN      []byte                  // octets of subjectAltName; nil: none
	KeyUsage    x509.KeyUsage           // 0: digitalSignature and keyEncipherment; NoKeyUsage: none asked for
	ExtKeyUsage []asn1.ObjectIdentifier // nil: clientAuth; empty: none asked for
	Extra       []pkix.Extension        // further extensions
}

// NoKeyUsage leaves the key usage out of a request.
const NoKeyUsage x509.KeyUsage = -1

var (
	oidKeyUsage    = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSAN         = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidExtKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidClientAuth  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
)

var devices atomic.Int64

// NewCSR makes a certification request and reads it as the connector does.
func NewCSR(t testing.TB, o CSROptions) *pkcs10.Request {
	t.Helper()
	if o.Key == nil {
		o.Key = testkeys.RSA2048(0)
	}
	if o.RawSubject == nil {
		o.RawSubject = marshal(t, pkix.Name{CommonName: fmt.Sprintf("device-%d", devices.Add(1))}.ToRDNSequence())
	}
	template := &x509.CertificateRequest{RawSubject: o.RawSubject, ExtraExtensions: o.extensions(t)}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, o.Key)
	if err != nil {
		t.Fatalf("making a certification request: %v", err)
	}
	csr, err := pkcs10.Parse(der)
	if err != nil {
		t.Fatalf("reading a certification request: %v", err)
	}
	return csr
}

func (o CSROptions) extensions(t testing.TB) []pkix.Extension {
	t.Helper()
	var list []pkix.Extension
	if o.KeyUsage == 0 {
		o.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
	}
	if o.KeyUsage != NoKeyUsage {
		octets := []byte{bits.Reverse8(byte(o.KeyUsage)), bits.Reverse8(byte(o.KeyUsage >> 8))}
		value := asn1.BitString{Bytes: octets[:1], BitLength: 8}
		if octets[1] != 0 {
			value = asn1.BitString{Bytes: octets, BitLength: 9}
		} else {
			value.BitLength -= bits.TrailingZeros8(octets[0])
		}
		list = append(list, pkix.Extension{Id: oidKeyUsage, Critical: true, Value: marshal(t, value)})
	}
	if o.ExtKeyUsage == nil {
		o.ExtKeyUsage = []asn1.ObjectIdentifier{oidClientAuth}
	}
	if len(o.ExtKeyUsage) > 0 {
		list = append(list, pkix.Extension{Id: oidExtKeyUsage, Value: marshal(t, o.ExtKeyUsage)})
	}
	if o.RawSAN != nil {
		list = append(list, pkix.Extension{Id: oidSAN, Value: o.RawSAN})
	}
	return append(list, o.Extra...)
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatalf("encoding %T: %v", v, err)
	}
	return der
}

// OddSubject is a subject whose bytes a CA is tempted to tidy up: several
// string types, a name of two attributes, a repeated attribute, an order that
// is not the usual one.
func OddSubject(t testing.TB) []byte {
	type attribute struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	text := func(tag int, s string) asn1.RawValue { return asn1.RawValue{Tag: tag, Bytes: []byte(s)} }
	set := func(attributes ...attribute) asn1.RawValue {
		var content []byte
		for _, a := range attributes {
			content = append(content, marshal(t, a)...)
		}
		return asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: content}
	}
	cn, ou, o, email := asn1.ObjectIdentifier{2, 5, 4, 3}, asn1.ObjectIdentifier{2, 5, 4, 11},
		asn1.ObjectIdentifier{2, 5, 4, 10}, asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
	return marshal(t, []asn1.RawValue{
		set(attribute{cn, text(asn1.TagUTF8String, "Zoë's  Gerät, №5")}),
		set(attribute{ou, text(asn1.TagPrintableString, "Devices")}, attribute{ou, text(asn1.TagUTF8String, "Field")}),
		set(attribute{o, text(asn1.TagPrintableString, "Contoso")}),
		set(attribute{email, text(asn1.TagIA5String, "zoe@contoso.example")}),
		set(attribute{ou, text(asn1.TagPrintableString, "Devices")}),
	})
}

// OddSAN is a subjectAltName as Intune's profiles make it: a user principal
// name, a mail address, a DNS name and the tag URI of a SID (KB5014754).
func OddSAN(t testing.TB) []byte {
	context := func(tag int, content []byte, constructed bool) asn1.RawValue {
		return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: constructed, Bytes: content}
	}
	upn := append(marshal(t, asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}),
		marshal(t, context(0, marshal(t, asn1.RawValue{Tag: asn1.TagUTF8String, Bytes: []byte("zoë@contoso.example")}), true))...)
	return marshal(t, []asn1.RawValue{
		context(6, []byte("tag:microsoft.com,2022-09-14:sid:S-1-5-21-1111111111-2222222222-3333333333-1001"), false),
		context(0, upn, true),
		context(2, []byte("Device-1.Contoso.example"), false),
		context(1, []byte("zoe@contoso.example"), false),
	})
}
