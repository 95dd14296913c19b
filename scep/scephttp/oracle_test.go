package scephttp_test

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	crand "crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"maps"
	"math/big"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"

	"go.uber.org/zap"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
	"github.com/certconnector/certconnector/scep/scephttp"
)

// countingRSA counts what is done with a private key of the RA.
type countingRSA struct {
	*rsa.PrivateKey
	signatures, decryptions *atomic.Int64
}

func (k countingRSA) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	k.signatures.Add(1)
	return k.PrivateKey.Sign(r, digest, opts)
}

func (k countingRSA) Decrypt(r io.Reader, b []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	k.decryptions.Add(1)
	return k.PrivateKey.Decrypt(r, b, opts)
}

// stranger sends envelopes of its own making, each signed as it should be:
// anybody can make a key for that.
type stranger struct {
	handler                 http.Handler
	signatures, decryptions atomic.Int64
	ra                      *x509.Certificate // signs replies
	to                      *rsa.PublicKey
	recipient               []byte // IssuerAndSerialNumber
	signer                  scepclient.Identity
	signerID                []byte
	csr                     []byte
	key, iv                 []byte
}

func newStranger(t *testing.T, a *authority) *stranger {
	t.Helper()
	s := &stranger{ra: a.ra.Signing.Certificate, key: make([]byte, 16), iv: make([]byte, 16)}
	ra, err := scep.NewRA(scep.RA{
		Chain: a.ra.Chain, SendFailInfoText: true, // where a difference would show
		Signing:    scep.KeyPair{Certificate: s.ra, Key: countingRSA{testkeys.RSA2048(1), &s.signatures, &s.decryptions}},
		Encryption: scep.KeyPair{Certificate: a.ra.Encryption.Certificate, Key: countingRSA{testkeys.RSA2048(2), &s.signatures, &s.decryptions}},
	})
	if err != nil {
		t.Fatal(err)
	}
	e := a.endpoint()
	e.RA = func() *scep.RA { return ra }
	if s.handler, err = scephttp.New([]scephttp.Endpoint{e}, scephttp.Limits{FailuresPerMinute: -1}, zap.NewNop(), nil); err != nil {
		t.Fatal(err)
	}
	s.to = a.ra.Encryption.Certificate.PublicKey.(*rsa.PublicKey)
	s.recipient = issuerAndSerial(a.ra.Encryption.Certificate)
	key := testkeys.RSA2048(3)
	cert := certificate(t, "stranger", x509.KeyUsageDigitalSignature, false, &key.PublicKey, nil, key)
	s.signer, s.signerID = scepclient.Identity{Certificate: cert.Raw, Key: key}, issuerAndSerial(cert)
	request := device("open sesame").CSR
	if s.csr, err = request.Encode(key); err != nil {
		t.Fatal(err)
	}
	return s
}

// envelope is what a mutation changes.
type envelope struct{ encryptedKey, iv, content []byte }

func (s *stranger) wrap(key []byte) []byte {
	//lint:ignore SA1019 this is what devices send
	b, err := rsa.EncryptPKCS1v15(crand.Reader, s.to, key)
	if err != nil {
		panic(err) // of a key longer than the modulus
	}
	return b
}

func pad(plain []byte) []byte {
	n := 16 - len(plain)%16
	return append(slices.Clone(plain), bytes.Repeat([]byte{byte(n)}, n)...)
}

// seal encrypts a plain text that is padded, rightly or not.
func (s *stranger) seal(padded []byte) envelope {
	block, err := aes.NewCipher(s.key)
	if err != nil {
		panic(err)
	}
	content := make([]byte, len(padded))
	cipher.NewCBCEncrypter(block, s.iv).CryptBlocks(content, padded)
	return envelope{s.wrap(s.key), s.iv, content}
}

func octets(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func flip(r *rand.Rand, b []byte, from, to int) []byte {
	b = slices.Clone(b)
	b[from+r.IntN(to-from)] ^= 1 << r.IntN(8)
	return b
}

// mutations are ways in which an envelope is wrong, as an attacker tries them
// who has one that is right.
var mutations = map[string]func(*stranger, *rand.Rand) envelope{
	"key: random in place of a ciphertext": func(s *stranger, r *rand.Rand) envelope {
		e := s.seal(pad(s.csr))
		e.encryptedKey = append([]byte{0}, octets(r, 255)...)
		return e
	},
	"key: one bit of its ciphertext": func(s *stranger, r *rand.Rand) envelope {
		e := s.seal(pad(s.csr))
		e.encryptedKey = flip(r, e.encryptedKey, 0, 256)
		return e
	},
	"key: ciphertext of another length": func(s *stranger, r *rand.Rand) envelope {
		e := s.seal(pad(s.csr))
		e.encryptedKey = octets(r, (257+r.IntN(400))%400)
		return e
	},
	"key: multiplied as Bleichenbacher does": func(s *stranger, r *rand.Rand) envelope {
		e := s.seal(pad(s.csr))
		factor := new(big.Int).Exp(big.NewInt(2+int64(r.Uint32())), big.NewInt(int64(s.to.E)), s.to.N)
		c := new(big.Int).SetBytes(e.encryptedKey)
		e.encryptedKey = c.Mod(c.Mul(c, factor), s.to.N).FillBytes(make([]byte, 256))
		return e
	},
	"key: wrong length": func(s *stranger, r *rand.Rand) envelope {
		e := s.seal(pad(s.csr))
		e.encryptedKey = s.wrap(octets(r, (17+r.IntN(240))%240))
		if r.IntN(8) == 0 {
			e.encryptedKey = s.wrap(nil)
		}
		return e
	},
	"key: another one": func(s *stranger, r *rand.Rand) envelope {
		e := s.seal(pad(s.csr))
		e.encryptedKey = s.wrap(octets(r, 16))
		return e
	},
	"padding: last octet": func(s *stranger, r *rand.Rand) envelope {
		p := pad(s.csr)
		p[len(p)-1] ^= byte(1 + r.IntN(255))
		return s.seal(p)
	},
	"padding: not uniform": func(s *stranger, r *rand.Rand) envelope {
		return s.seal(append(pad(s.csr), flip(r, bytes.Repeat([]byte{16}, 16), 0, 15)...))
	},
	"content: garbage": func(s *stranger, r *rand.Rand) envelope { return s.seal(pad(octets(r, 1+r.IntN(3000)))) },
	"content: nothing": func(s *stranger, _ *rand.Rand) envelope { return s.seal(pad(nil)) },
	"content: one bit of its ciphertext, as Vaudenay does": func(s *stranger, r *rand.Rand) envelope {
		e := s.seal(pad(s.csr))
		e.content = flip(r, e.content, 0, len(e.content))
		return e
	},
	"content: ciphertext cut off": func(s *stranger, r *rand.Rand) envelope {
		e := s.seal(pad(s.csr))
		e.content = e.content[:16*(1+r.IntN(len(e.content)/16-1))]
		return e
	},
	"content: blocks in another order": func(s *stranger, r *rand.Rand) envelope {
		e := s.seal(pad(s.csr))
		i := 16 * r.IntN(len(e.content)/16-1)
		e.content = slices.Concat(e.content[:i], e.content[i+16:], e.content[i:i+16])
		return e
	},
	"content: one bit of the initialisation vector": func(s *stranger, r *rand.Rand) envelope {
		e := s.seal(pad(s.csr))
		e.iv = flip(r, e.iv, 0, 16)
		return e
	},
	"CSR: one bit of what is signed": func(s *stranger, r *rand.Rand) envelope {
		return s.seal(pad(flip(r, s.csr, 4, len(s.csr)-300)))
	},
	"CSR: one bit of the signature": func(s *stranger, r *rand.Rand) envelope {
		return s.seal(pad(flip(r, s.csr, len(s.csr)-256, len(s.csr))))
	},
	"CSR: cut off": func(s *stranger, r *rand.Rand) envelope { return s.seal(pad(s.csr[:r.IntN(len(s.csr))])) },
	"CSR: something added": func(s *stranger, r *rand.Rand) envelope {
		return s.seal(pad(append(slices.Clone(s.csr), octets(r, 1+r.IntN(40))...)))
	},
}

// TestEnvelopeOracle sends ten thousand envelopes that are wrong behind a right
// signature (M8). Whatever is wrong, the answer is the same in every octet that
// is not a nonce or its signature, and costs one decryption and one signature.
func TestEnvelopeOracle(t *testing.T) {
	count := 10_000
	if testing.Short() {
		count = 500
	}
	a := newAuthority(t, false)
	const shards = 2
	names := slices.Sorted(maps.Keys(mutations))
	reference := newStranger(t, a)
	first := reference.send(t, "the first", reference.seal(pad(nil)))
	for shard := range shards {
		t.Run(fmt.Sprintf("shard %d", shard), func(t *testing.T) {
			t.Parallel()
			s := newStranger(t, a)
			r := rand.New(rand.NewPCG(uint64(shard), 8))
			for i := range count / shards {
				name := names[i%len(names)]
				if got := s.send(t, name, mutations[name](s, r)); !maps.Equal(got, first) {
					t.Fatalf("%s: the answer's attributes are %x, those of the first failure %x", name, got, first)
				}
			}
		})
	}
	t.Cleanup(func() {
		if n := len(a.requests()); n != 0 {
			t.Errorf("%d of the envelopes were opened", n)
		}
	})
}

// TestEnvelopeOracleControl shows that the stranger's messages are right but
// for what a mutation changes: the unchanged one is opened.
func TestEnvelopeOracleControl(t *testing.T) {
	a := newAuthority(t, false)
	s := newStranger(t, a)
	if r := ask(s.handler, "POST", path+"?operation=PKIOperation", s.message(s.seal(pad(s.csr)))); r.StatusCode != http.StatusOK {
		t.Fatalf("status %d", r.StatusCode)
	}
	if n := len(a.requests()); n != 1 {
		t.Errorf("%d requests reached the enroller, want 1", n)
	}
}

// send sends one wrong envelope and returns the signed attributes of the
// answer, but for the nonce that is fresh in each.
func (s *stranger) send(t *testing.T, name string, e envelope) map[string]string {
	t.Helper()
	signed, opened := s.signatures.Load(), s.decryptions.Load()
	r := ask(s.handler, "POST", path+"?operation=PKIOperation", s.message(e))
	if r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != "application/x-pki-message" {
		t.Fatalf("%s: HTTP status %d, Content-Type %q", name, r.StatusCode, r.Header.Get("Content-Type"))
	}
	if n := s.decryptions.Load() - opened; n != 1 {
		t.Fatalf("%s: %d decryptions, want 1", name, n)
	}
	if n := s.signatures.Load() - signed; n != 1 {
		t.Fatalf("%s: %d signatures, want 1", name, n)
	}
	got := s.attributes(t, name, read(t, r))
	status, info := got["2.16.840.1.113733.1.9.3"], got["2.16.840.1.113733.1.9.4"]
	if status != "\x31\x03\x13\x012" || info != "\x31\x03\x13\x011" {
		t.Fatalf("%s: pkiStatus %x, failInfo %x; want FAILURE and badMessageCheck", name, status, info)
	}
	delete(got, "2.16.840.1.113733.1.9.5") // senderNonce
	return got
}

// attributes verifies a CertRep and returns its signed attributes, each value
// a SET as it stands there.
func (s *stranger) attributes(t *testing.T, name string, reply []byte) map[string]string {
	t.Helper()
	var outer struct {
		Type    asn1.ObjectIdentifier
		Content struct {
			Version              int
			Digests, Encapsulate asn1.RawValue
			Certificates         asn1.RawValue
			Signers              []struct {
				Version    int
				ID         asn1.RawValue
				Digest     pkix.AlgorithmIdentifier
				Attributes asn1.RawValue
				Algorithm  pkix.AlgorithmIdentifier
				Signature  []byte
			} `asn1:"set"`
		} `asn1:"explicit,tag:0"`
	}
	if rest, err := asn1.Unmarshal(reply, &outer); err != nil || len(rest) > 0 || len(outer.Content.Signers) != 1 {
		t.Fatalf("%s: the answer is no CertRep: %v", name, err)
	}
	signer := outer.Content.Signers[0]
	covered := slices.Clone(signer.Attributes.FullBytes)
	covered[0] = 0x31
	digest := sha256.Sum256(covered)
	if err := rsa.VerifyPKCS1v15(s.ra.PublicKey.(*rsa.PublicKey), crypto.SHA256, digest[:], signer.Signature); err != nil {
		t.Fatalf("%s: the answer is not signed by the RA: %v", name, err)
	}
	found := map[string]string{}
	for rest := signer.Attributes.Bytes; len(rest) > 0; {
		var attribute struct {
			Type   asn1.ObjectIdentifier
			Values asn1.RawValue
		}
		var err error
		if rest, err = asn1.Unmarshal(rest, &attribute); err != nil {
			t.Fatalf("%s: attributes: %v", name, err)
		}
		found[attribute.Type.String()] = string(attribute.Values.FullBytes)
	}
	return found
}

func element(tag byte, parts ...[]byte) []byte {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.Tag(tag), func(b *cryptobyte.Builder) { b.AddBytes(slices.Concat(parts...)) })
	return b.BytesOrPanic()
}

func identifier(parts ...int) []byte {
	var b cryptobyte.Builder
	b.AddASN1ObjectIdentifier(parts)
	return b.BytesOrPanic()
}

func issuerAndSerial(c *x509.Certificate) []byte {
	serial, err := asn1.Marshal(c.SerialNumber)
	if err != nil {
		panic(err)
	}
	return element(0x30, c.RawIssuer, serial)
}

// message signs a PKCSReq with an envelope as its content.
func (s *stranger) message(e envelope) []byte {
	var (
		null      = []byte{5, 0}
		data      = identifier(1, 2, 840, 113549, 1, 7, 1)
		rsaAlg    = element(0x30, identifier(1, 2, 840, 113549, 1, 1, 1), null)
		sha256Alg = element(0x30, identifier(2, 16, 840, 1, 101, 3, 4, 2, 1), null)
		aes128    = element(0x30, identifier(2, 16, 840, 1, 101, 3, 4, 1, 2), element(4, e.iv))
	)
	content := element(0x30, identifier(1, 2, 840, 113549, 1, 7, 3), element(0xa0, element(0x30, []byte{2, 1, 0},
		element(0x31, element(0x30, []byte{2, 1, 0}, s.recipient, rsaAlg, element(4, e.encryptedKey))),
		element(0x30, data, aes128, element(0x80, e.content)))))
	digest := sha256.Sum256(content)
	attribute := func(id, value []byte) []byte { return element(0x30, id, element(0x31, value)) }
	scepAttribute := func(n int, value []byte) []byte { return attribute(identifier(2, 16, 840, 1, 113733, 1, 9, n), value) }
	attributes := [][]byte{
		attribute(identifier(1, 2, 840, 113549, 1, 9, 3), data),
		attribute(identifier(1, 2, 840, 113549, 1, 9, 4), element(4, digest[:])),
		scepAttribute(2, element(0x13, []byte("19"))),
		scepAttribute(5, element(4, []byte("0123456789abcdef"))),
		scepAttribute(7, element(0x13, []byte("one and the same"))),
	}
	slices.SortFunc(attributes, bytes.Compare)
	covered := sha256.Sum256(element(0x31, attributes...))
	signature, err := rsa.SignPKCS1v15(nil, s.signer.Key, crypto.SHA256, covered[:])
	if err != nil {
		panic(err)
	}
	return element(0x30, identifier(1, 2, 840, 113549, 1, 7, 2), element(0xa0, element(0x30, []byte{2, 1, 1}, element(0x31, sha256Alg),
		element(0x30, data, element(0xa0, element(4, content))), element(0xa0, s.signer.Certificate),
		element(0x31, element(0x30, []byte{2, 1, 1}, s.signerID, sha256Alg, element(0xa0, attributes...), rsaAlg, element(4, signature))))))
}
