package scep_test

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/certconnector/certconnector/internal/testkeys"
)

// The builders of this file make requests without any code of the package
// under test, down to what no library would write.

func el(tag byte, parts ...[]byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.Tag(tag), func(b *cryptobyte.Builder) { b.AddBytes(bytes.Join(parts, nil)) })
	return b.BytesOrPanic()
}

func seq(parts ...[]byte) []byte { return el(0x30, parts...) }

func oid(o asn1.ObjectIdentifier) []byte {
	var b cryptobyte.Builder
	b.AddASN1ObjectIdentifier(o)
	return b.BytesOrPanic()
}

var (
	idData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	idSignedData    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}
	idEnvelopedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 3}
	idEncryptedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 6}
	idContentType   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3}
	idMessageDigest = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}
	idChallenge     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 7}
	idRSA           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	idOAEP          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7}
	idMGF1          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
	idPSS           = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	idRSAWithSHA1   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}
	idRSAWithSHA256 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
	idRSAWithMD5    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 4}
	idMD5           = asn1.ObjectIdentifier{1, 2, 840, 113549, 2, 5}
	idSHA1          = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 26}
	idSHA256        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	idSHA384        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 2}
	idSHA512        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 3}
	idAES128        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 2}
	idAES192        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 22}
	idAES256        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
	id3DES          = asn1.ObjectIdentifier{1, 2, 840, 113549, 3, 7}
	idDES           = asn1.ObjectIdentifier{1, 3, 14, 3, 2, 7}
	idRC2           = asn1.ObjectIdentifier{1, 2, 840, 113549, 3, 2}
)

func scepOID(n int) asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{2, 16, 840, 1, 113733, 1, 9, n}
}

func alg(o asn1.ObjectIdentifier, parameters ...[]byte) []byte {
	return seq(append([][]byte{oid(o)}, parameters...)...)
}

func attr(o asn1.ObjectIdentifier, values ...[]byte) []byte {
	return seq(oid(o), el(0x31, values...))
}

// request is a PKCS #10 request under construction.
type request struct {
	key       *rsa.PrivateKey // default: the device's
	subject   []byte          // DER Name; default CN=device
	challenge []byte          // the string element; default a PrintableString
	sha1      bool
	breakSig  bool
}

func (r request) build(t testing.TB) []byte {
	t.Helper()
	if r.key == nil {
		r.key = testkeys.RSA2048(deviceKey)
	}
	if r.subject == nil {
		r.subject = name("device")
	}
	if r.challenge == nil {
		r.challenge = el(0x13, []byte("challenge"))
	}
	spki, err := x509.MarshalPKIXPublicKey(r.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	tbs := seq([]byte{2, 1, 0}, r.subject, spki, el(0xa0, attr(idChallenge, r.challenge)))
	algorithm, hash := idRSAWithSHA256, crypto.SHA256
	if r.sha1 {
		algorithm, hash = idRSAWithSHA1, crypto.SHA1
	}
	signature := signPKCS1(t, r.key, hash, tbs)
	if r.breakSig {
		signature[20] ^= 1
	}
	return seq(tbs, alg(algorithm, []byte{5, 0}), el(3, []byte{0}, signature))
}

func name(cn string) []byte {
	b, err := asn1.Marshal(pkix.Name{CommonName: cn}.ToRDNSequence())
	if err != nil {
		panic(err)
	}
	return b
}

func sum(h crypto.Hash, parts ...[]byte) []byte {
	w := h.New()
	for _, p := range parts {
		w.Write(p)
	}
	return w.Sum(nil)
}

func signPKCS1(t testing.TB, key *rsa.PrivateKey, h crypto.Hash, data []byte) []byte {
	t.Helper()
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, h, sum(h, data))
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

// to is one recipient of an envelope.
type to struct {
	cert      *x509.Certificate
	keyID     bool   // name it by subjectKeyIdentifier
	issuer    []byte // instead of the certificate's
	oaep      crypto.Hash
	oaepParam []byte // instead of those that belong to oaep
	encrypted []byte // instead of the encrypted key
}

// envelope is an EnvelopedData under construction.
type envelope struct {
	cipher      asn1.ObjectIdentifier // default AES-128-CBC
	contentType asn1.ObjectIdentifier
	to          []to
	plain       []byte
	key         []byte // default: of the cipher's length
	padding     []byte // default: right
	ber         int    // > 0: indefinite lengths, segments of that size
}

func (e envelope) build(t testing.TB) []byte {
	t.Helper()
	if e.cipher == nil {
		e.cipher = idAES128
	}
	if e.contentType == nil {
		e.contentType = idData
	}
	keyLen, open := cipherBlock(e.cipher)
	key := e.key
	if key == nil {
		key = bytes.Repeat([]byte{0x5a, 0xc3, 0x17}, 11)[:keyLen]
	}
	block, err := open(append(slices.Clone(key), make([]byte, 32)...)[:keyLen])
	if err != nil {
		t.Fatal(err)
	}
	size := block.BlockSize()
	if e.padding == nil {
		n := size - len(e.plain)%size
		e.padding = bytes.Repeat([]byte{byte(n)}, n)
	}
	content := slices.Concat(e.plain, e.padding)
	iv := bytes.Repeat([]byte{0x42}, size)
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(content, content)

	var recipients [][]byte
	for _, r := range e.to {
		recipients = append(recipients, r.build(t, key))
	}
	der := seq(oid(idEnvelopedData), el(0xa0, seq([]byte{2, 1, 0}, el(0x31, recipients...),
		seq(oid(e.contentType), alg(e.cipher, el(4, iv)), el(0x80, content)))))
	if e.ber > 0 {
		return toBER(der, e.ber)
	}
	return der
}

func cipherBlock(o asn1.ObjectIdentifier) (keyLen int, open func([]byte) (cipher.Block, error)) {
	switch {
	case o.Equal(idAES192):
		return 24, aes.NewCipher
	case o.Equal(idAES256):
		return 32, aes.NewCipher
	case o.Equal(id3DES):
		return 24, des.NewTripleDESCipher
	case o.Equal(idDES), o.Equal(idRC2): // what RC2 would give is never looked at
		return 8, des.NewCipher
	}
	return 16, aes.NewCipher
}

func (r to) build(t testing.TB, key []byte) []byte {
	t.Helper()
	public := r.cert.PublicKey.(*rsa.PublicKey)
	issuer := r.cert.RawIssuer
	if r.issuer != nil {
		issuer = r.issuer
	}
	serial, err := asn1.Marshal(r.cert.SerialNumber)
	if err != nil {
		t.Fatal(err)
	}
	id, v := seq(issuer, serial), []byte{2, 1, 0}
	if r.keyID {
		id, v = el(0x80, r.cert.SubjectKeyId), []byte{2, 1, 2}
	}
	algorithm := alg(idRSA, []byte{5, 0})
	var encrypted []byte
	if r.oaep != 0 {
		algorithm = alg(idOAEP, r.oaepParam)
		encrypted, err = rsa.EncryptOAEP(r.oaep.New(), rand.Reader, public, key, nil)
	} else {
		//lint:ignore SA1019 this is what devices send
		encrypted, err = rsa.EncryptPKCS1v15(rand.Reader, public, key)
	}
	if err != nil {
		t.Fatal(err)
	}
	if r.encrypted != nil {
		encrypted = r.encrypted
	}
	return seq(v, id, algorithm, el(4, encrypted))
}

// message is a pkiMessage under construction. The zero value with content is a
// PKCSReq by a self-signed device.
type message struct {
	key         *rsa.PrivateKey
	cert        []byte // DER; default self-signed with key
	certs       [][]byte
	keyID       []byte // sid as subjectKeyIdentifier
	messageType string
	id          []byte // the transactionID's value element
	noNonce     bool
	digest      crypto.Hash
	digestAlg   []byte // AlgorithmIdentifier; default by digest, NULL parameters
	sigAlg      []byte // default rsaEncryption with NULL
	pss         bool
	asSent      bool // sign the attributes in the order sent, which is not DER's
	reversed    bool // send them out of order, sign in order
	extra       [][]byte
	content     []byte
	noContent   bool
	breakSig    bool
	breakDigest bool
	ber         int
}

var transactionID = []byte("3F9A/+=b 77")

func selfSigned(t testing.TB, key *rsa.PrivateKey) []byte {
	t.Helper()
	return certify(t, &x509.Certificate{Subject: pkix.Name{CommonName: "4A1D51C2-6F7C"}}, nil, key.Public(), key).Raw
}

func (m message) build(t testing.TB) []byte {
	t.Helper()
	m.defaults(t)
	digest := sum(m.digest, m.content)
	if m.breakDigest {
		digest[0] ^= 1
	}
	attributes := [][]byte{
		attr(idContentType, oid(idData)),
		attr(idMessageDigest, el(4, digest)),
		attr(scepOID(2), el(0x13, []byte(m.messageType))),
		attr(scepOID(7), m.id),
	}
	if !m.noNonce {
		attributes = append(attributes, attr(scepOID(5), el(4, []byte("0123456789abcdef"))))
	}
	attributes = append(attributes, m.extra...)
	slices.SortFunc(attributes, bytes.Compare)
	signed := el(0x31, attributes...)
	if m.asSent || m.reversed {
		slices.Reverse(attributes)
	}
	if m.asSent {
		signed = el(0x31, attributes...)
	}
	signature := signPKCS1(t, m.key, m.digest, signed)
	if m.pss {
		var err error
		if signature, err = rsa.SignPSS(rand.Reader, m.key, m.digest, sum(m.digest, signed), nil); err != nil {
			t.Fatal(err)
		}
	}
	if m.breakSig {
		signature[7] ^= 1
	}
	signer, err := x509IssuerAndSerial(m.cert)
	if err != nil {
		t.Fatal(err)
	}
	if m.keyID != nil {
		signer = el(0x80, m.keyID)
	}
	encap := seq(oid(idData), el(0xa0, el(4, m.content)))
	if m.noContent {
		encap = seq(oid(idData))
	}
	der := seq(oid(idSignedData), el(0xa0, seq([]byte{2, 1, 1}, el(0x31, m.digestAlg), encap, el(0xa0, m.certs...),
		el(0x31, seq([]byte{2, 1, 1}, signer, m.digestAlg, el(0xa0, attributes...), m.sigAlg, el(4, signature))))))
	if m.ber > 0 {
		return toBER(der, m.ber)
	}
	return der
}

func (m *message) defaults(t testing.TB) {
	t.Helper()
	if m.key == nil {
		m.key = testkeys.RSA2048(deviceKey)
	}
	if m.cert == nil {
		m.cert = selfSigned(t, m.key)
	}
	if m.certs == nil {
		m.certs = [][]byte{m.cert}
	}
	if m.messageType == "" {
		m.messageType = "19"
	}
	if m.id == nil {
		m.id = el(0x13, transactionID)
	}
	if m.digest == 0 {
		m.digest = crypto.SHA256
	}
	if m.digestAlg == nil {
		digests := map[crypto.Hash]asn1.ObjectIdentifier{
			crypto.MD5: idMD5, crypto.SHA1: idSHA1, crypto.SHA256: idSHA256, crypto.SHA384: idSHA384, crypto.SHA512: idSHA512,
		}
		m.digestAlg = alg(digests[m.digest], []byte{5, 0})
	}
	if m.sigAlg == nil {
		m.sigAlg = alg(idRSA, []byte{5, 0})
	}
}

// x509IssuerAndSerial reads issuer and serial out of a certificate that
// crypto/x509 might not like.
func x509IssuerAndSerial(der []byte) ([]byte, error) {
	var cert struct {
		TBS struct {
			Raw     asn1.RawContent
			Version int `asn1:"optional,explicit,default:0,tag:0"`
			Serial  asn1.RawValue
			Alg     asn1.RawValue
			Issuer  asn1.RawValue
			Rest    []asn1.RawValue `asn1:"optional,omitempty"`
		}
	}
	// Only the beginning is read; encoding/asn1 ignores what follows in a SEQUENCE.
	if _, err := asn1.Unmarshal(der, &cert); err != nil {
		return nil, err
	}
	return seq(cert.TBS.Issuer.FullBytes, cert.TBS.Serial.FullBytes), nil
}

// toBER writes DER anew the way Apple's devices do: indefinite lengths, and
// OCTET STRINGs, explicit or implicit [0], in segments.
func toBER(der []byte, segment int) []byte {
	var out []byte
	for s := cryptobyte.String(der); !s.Empty(); {
		var content cryptobyte.String
		var tag cbasn1.Tag
		if !s.ReadAnyASN1(&content, &tag) {
			panic("toBER: not DER")
		}
		switch {
		case tag&0x20 != 0:
			out = append(out, byte(tag), 0x80)
			out = append(out, toBER(content, segment)...)
			out = append(out, 0, 0)
		case tag == 4 || tag == 0x80 && len(content) > 32:
			out = append(out, byte(tag)|0x20, 0x80)
			for len(content) > 0 {
				n := min(segment, len(content))
				out = append(out, el(4, content[:n])...)
				content = content[n:]
			}
			out = append(out, 0, 0)
		default:
			out = append(out, el(byte(tag), content)...)
		}
	}
	return out
}
