package scep_test

import (
	"bytes"
	"crypto"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/certconnector/certconnector/scep"
)

// counter counts the private-key operations of a registration authority.
type counter struct {
	ra scep.RA
	n  *atomic.Int64
}

type countingKey struct {
	crypto.Signer
	n *atomic.Int64
}

func (k countingKey) Decrypt(rand io.Reader, msg []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	k.n.Add(1)
	return k.Signer.(crypto.Decrypter).Decrypt(rand, msg, opts)
}

func countDecryptions(ra scep.RA) counter {
	n := &atomic.Int64{}
	ra.Encryption.Key = countingKey{ra.Encryption.Key, n}
	ra.Previous = slices.Clone(ra.Previous)
	for i := range ra.Previous {
		ra.Previous[i].Key = countingKey{ra.Previous[i].Key, n}
	}
	return counter{ra, n}
}

// T10: from the decryption on, a sender learns nothing but that it failed.
func TestT10NoOracle(t *testing.T) {
	w := newWorld(t)
	material := w.material()
	material.SendFailInfoText = true // where a difference would show
	counted := countDecryptions(material)
	ra := newRA(t, counted.ra)

	csr := request{}.build(t)
	toRA := []to{{cert: w.encryption}}
	unparsable := bytes.Clone(csr)
	unparsable[5] ^= 0xff
	n := 16 - len(csr)%16
	wrongPadding := bytes.Repeat([]byte{byte(n)}, n)
	wrongPadding[n-1] = 17
	zeroPadding := make([]byte, n)
	unevenPadding := slices.Concat(bytes.Repeat([]byte{7}, n+14), []byte{16, 16})
	md5 := bytes.ReplaceAll(csr, []byte("\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b"), []byte("\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04"))

	cases := []struct {
		name string
		kind string
		env  envelope
	}{
		{"wrong padding of the key", "19", envelope{to: []to{{cert: w.encryption, encrypted: bytes.Repeat([]byte{0x33}, 256)}}, plain: csr}},
		{"wrong padding of the key, OAEP", "19", envelope{to: []to{{cert: w.encryption, oaep: crypto.SHA256, oaepParam: seq(), encrypted: bytes.Repeat([]byte{0x33}, 256)}}, plain: csr}},
		{"ciphertext of the key too short", "19", envelope{to: []to{{cert: w.encryption, encrypted: []byte{1, 2, 3}}}, plain: csr}},
		{"ciphertext of the key above the modulus", "19", envelope{to: []to{{cert: w.encryption, encrypted: bytes.Repeat([]byte{0xff}, 256)}}, plain: csr}},
		{"key too short for the cipher", "19", envelope{to: toRA, plain: csr, key: []byte("8 octets")}},
		{"key too long for the cipher", "19", envelope{to: toRA, plain: csr, key: bytes.Repeat([]byte{1}, 32)}},
		{"encrypted to the CA", "19", envelope{to: []to{{cert: w.ca}}, plain: csr}},
		{"wrong padding of the content", "19", envelope{to: toRA, plain: csr, padding: wrongPadding}},
		{"padding of zeros", "19", envelope{to: toRA, plain: csr, padding: zeroPadding}},
		{"padding that is not uniform", "19", envelope{to: toRA, plain: csr, padding: unevenPadding}},
		{"content that is no DER", "19", envelope{to: toRA, plain: []byte("no DER at all")}},
		{"content empty", "19", envelope{to: toRA}},
		{"CSR damaged", "19", envelope{to: toRA, plain: unparsable}},
		{"CSR with bytes behind", "19", envelope{to: toRA, plain: append(bytes.Clone(csr), 0)}},
		{"CSR signed over MD5", "19", envelope{to: toRA, plain: md5}},
		{"CSR signature wrong", "19", envelope{to: toRA, plain: request{breakSig: true}.build(t)}},
		{"T7 two challenges", "19", envelope{to: toRA, plain: request{challenge: slices.Concat(el(0x13, []byte("a")), el(0x13, []byte("b")))}.build(t)}},
		{"poll with wrong padding", "20", envelope{to: toRA, plain: seq(name("ca"), name("device")), padding: make([]byte, 16-len(seq(name("ca"), name("device")))%16)}},
		{"poll that is no name", "20", envelope{to: toRA, plain: csr}},
		{"GetCert without a serial", "21", envelope{to: toRA, plain: seq(name("ca"), name("ca"))}},
		{"serial of 65 octets", "22", envelope{to: toRA, plain: seq(name("ca"), el(2, bytes.Repeat([]byte{1}, 65)))}},
	}
	signer := selfSigned(t, message{}.signerKey())
	var first decoded
	var firstLength int
	for i, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			m, err := scep.Parse(message{cert: signer, messageType: tt.kind, content: tt.env.build(t)}.build(t), everything)
			if err != nil {
				t.Fatal(err)
			}
			counted.n.Store(0)
			req, err := m.Open(ra)
			if req != nil {
				t.Fatal("opened")
			}
			r := refusal(t, err)
			if r.FailInfo != scep.BadMessageCheck || r.Detail == "" {
				t.Errorf("%v, detail %q", r.FailInfo, r.Detail)
			}
			if strings.Contains(r.Detail, "key size") {
				t.Error("the work ended with the key: the content was never decrypted")
			}
			want := int64(1)
			if tt.env.to[0].cert == w.ca { // nobody is named: every key is tried
				want = 2
			}
			if got := counted.n.Load(); got != want {
				t.Errorf("%d private-key operations, want %d", got, want)
			}
			reply, err := ra.Reply(m, r.Result())
			if err != nil {
				t.Fatal(err)
			}
			got := decode(t, reply)
			delete(got.attributes, scepOID(5).String()) // the fresh senderNonce
			if i == 0 {
				first, firstLength = got, len(reply)
				return
			}
			if len(reply) != firstLength {
				t.Errorf("reply of %d octets, the first one had %d", len(reply), firstLength)
			}
			for oid, value := range first.attributes {
				if !bytes.Equal(got.attributes[oid], value) {
					t.Errorf("attribute %s differs from that of the first failure", oid)
				}
			}
		})
	}
}

// T6: a recipient that names our certificate, in whatever string types, is
// found by its name; nobody makes the RA try its keys on all the others.
func TestNamedRecipientCostsOneDecryption(t *testing.T) {
	w := newWorld(t)
	counted := countDecryptions(w.material())
	ra := newRA(t, counted.ra)
	others := []to{{cert: w.ca}, {cert: w.signing}}
	for _, tt := range []struct {
		name string
		ours to
		want int64
	}{
		{"same bytes", to{cert: w.encryption}, 1},
		{"other string types", to{cert: w.encryption, issuer: restring(w.ca.RawSubject)}, 1},
		{"key identifier", to{cert: w.encryption, keyID: true}, 1},
		{"foreign name: the current key on each in turn", to{cert: w.encryption, issuer: name("an old CA")}, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			counted.n.Store(0)
			env := envelope{to: append(slices.Clone(others), tt.ours), plain: request{}.build(t)}
			exchange(t, ra, message{content: env.build(t)}.build(t), everything)
			if got := counted.n.Load(); got != tt.want {
				t.Errorf("%d private-key operations, want %d", got, tt.want)
			}
		})
	}
}
