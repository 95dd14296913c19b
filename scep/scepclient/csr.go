package scepclient

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/bits"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/certconnector/certconnector/internal/secret"
)

var (
	oidChallenge        = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}
	oidExtensionRequest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 14}
	oidNameValuePair    = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 13, 2, 1}
	oidSAN              = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidUPN              = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}
)

// CSR describes a certification request (PKCS #10, RFC 2986).
type CSR struct {
	Subject    pkix.Name
	RawSubject []byte // DER, in place of Subject: names that pkix.Name cannot say

	DNSNames, Emails, UPNs []string
	URIs                   []*url.URL
	IPs                    []net.IP
	RawSAN                 []byte // DER GeneralNames, in place of the names above

	KeyUsage    x509.KeyUsage // 0: no such extension
	ExtKeyUsage []asn1.ObjectIdentifier
	Extensions  []pkix.Extension // further ones, as they are

	Challenge     secret.Text // of any length; "" for none
	ChallengeUTF8 bool        // UTF8String even where PrintableString would do

	Validity time.Duration // wish of the profile in whole days; 0: none
	Pair     ValidityPair  // how it is said

	Attributes [][]byte // further encoded attributes
}

// Encode signs the request with key.
func (c *CSR) Encode(key *rsa.PrivateKey) ([]byte, error) {
	subject := c.RawSubject
	if subject == nil {
		var err error
		if subject, err = MarshalName(c.Subject); err != nil {
			return nil, err
		}
	}
	if err := c.checkIdentifiers(); err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("certification request: %w", err)
	}
	info := sequence(smallInteger(0), subject, spki, tlv(tagContext0, c.attributes()...))
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum(crypto.SHA256, info))
	if err != nil {
		return nil, fmt.Errorf("certification request: %w", err)
	}
	return sequence(info, algorithm(oidSHA256WithRSA, null()), bitString(signature)), nil
}

// checkIdentifiers refuses object identifiers that cannot be encoded, before
// they are.
func (c *CSR) checkIdentifiers() error {
	ids := slices.Clone(c.ExtKeyUsage)
	for _, e := range c.Extensions {
		ids = append(ids, e.Id)
	}
	for _, id := range ids {
		if _, err := asn1.Marshal(id); err != nil {
			return fmt.Errorf("certification request: object identifier %v: %w", id, err)
		}
	}
	return nil
}

func (c *CSR) attributes() [][]byte {
	var list [][]byte
	if c.Challenge != "" {
		list = append(list, sequence(oid(oidChallenge), set(directoryString(c.Challenge.Reveal(), c.ChallengeUTF8))))
	}
	list = append(list, c.validity()...)
	if e := c.extensions(); len(e) > 0 {
		list = append(list, sequence(oid(oidExtensionRequest), set(sequence(e...))))
	}
	return append(list, c.Attributes...)
}

// validity says the wish in Microsoft's name/value pairs, a pair an attribute
// value; Android exchanges the two values.
func (c *CSR) validity() [][]byte {
	if c.Pair == PairAbsent || c.Validity <= 0 {
		return nil
	}
	unit, number := "Days", fmt.Sprint(int(c.Validity.Hours()/24))
	if c.Pair == PairSwapped {
		unit, number = number, unit
	}
	pair := func(name, value string) []byte {
		return sequence(oid(oidNameValuePair), set(sequence(bmpString(name), bmpString(value))))
	}
	return [][]byte{pair("ValidityPeriod", unit), pair("ValidityPeriodUnits", number)}
}

func (c *CSR) extensions() [][]byte {
	var list [][]byte
	extension := func(id asn1.ObjectIdentifier, critical bool, value []byte) {
		var flag []byte
		if critical {
			flag = tlv(0x01, []byte{0xff})
		}
		list = append(list, sequence(oid(id), flag, octets(value)))
	}
	if c.KeyUsage != 0 {
		extension(oidKeyUsage, true, keyUsage(c.KeyUsage))
	}
	if len(c.ExtKeyUsage) > 0 {
		var ids [][]byte
		for _, id := range c.ExtKeyUsage {
			ids = append(ids, oid(id))
		}
		extension(oidExtKeyUsage, false, sequence(ids...))
	}
	if c.RawSAN != nil {
		extension(oidSAN, false, c.RawSAN)
	} else if names := c.generalNames(); len(names) > 0 {
		extension(oidSAN, false, sequence(names...))
	}
	for _, e := range c.Extensions {
		extension(e.Id, e.Critical, e.Value)
	}
	return list
}

// generalNames encodes the subject's alternative names (RFC 5280, section
// 4.2.1.6).
func (c *CSR) generalNames() [][]byte {
	var names [][]byte
	for _, s := range c.UPNs {
		names = append(names, tlv(0xa0, oid(oidUPN), tlv(tagContext0, tlv(tagUTF8String, []byte(s)))))
	}
	for _, s := range c.Emails {
		names = append(names, tlv(0x81, []byte(s)))
	}
	for _, s := range c.DNSNames {
		names = append(names, tlv(0x82, []byte(s)))
	}
	for _, u := range c.URIs {
		names = append(names, tlv(0x86, []byte(u.String())))
	}
	for _, ip := range c.IPs {
		if v4 := ip.To4(); v4 != nil {
			ip = v4
		}
		names = append(names, tlv(0x87, ip))
	}
	return names
}

// keyUsage encodes the named bits without trailing zeros (X.690, 11.2.2).
func keyUsage(u x509.KeyUsage) []byte {
	b := []byte{bits.Reverse8(byte(u)), bits.Reverse8(byte(u >> 8))}
	if b[1] == 0 {
		b = b[:1]
	}
	unused := byte(bits.TrailingZeros8(b[len(b)-1]))
	return tlv(tagBitString, []byte{unused}, b)
}

// directoryString encodes a PrintableString where the text allows and the
// caller does not want UTF-8. Intune's challenge is base64 and always fits.
func directoryString(s string, utf8 bool) []byte {
	if utf8 || strings.ContainsFunc(s, func(r rune) bool { return !printable(r) }) {
		return tlv(tagUTF8String, []byte(s))
	}
	return tlv(tagPrintableString, []byte(s))
}

func printable(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(" '()+,-./:=?", r)
}

func bmpString(s string) []byte {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		b = append(b, byte(u>>8), byte(u))
	}
	return tlv(tagBMPString, b)
}
