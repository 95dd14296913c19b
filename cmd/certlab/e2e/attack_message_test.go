//go:build e2e

package e2e

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"
	random "math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// signed is a SCEP message taken apart, so that what it carries can be changed
// and signed again: anybody can make a key for that.
type signed struct {
	Version   int
	Digests   asn1.RawValue
	Content   encapsulated
	Certs     asn1.RawValue `asn1:"optional,tag:0"`
	SignerSet []signer      `asn1:"set"`
}

type encapsulated struct {
	Type    asn1.ObjectIdentifier
	Content []byte `asn1:"explicit,tag:0"`
}

type signer struct {
	Version    int
	ID         asn1.RawValue
	Digest     pkix.AlgorithmIdentifier
	Attributes []attributeOf `asn1:"tag:0,set"`
	Algorithm  pkix.AlgorithmIdentifier
	Signature  []byte
}

type attributeOf struct {
	Type   asn1.ObjectIdentifier
	Values asn1.RawValue
}

type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"explicit,tag:0"`
}

// resign changes the envelope of a message and signs it with its key.
func resign(t *testing.T, message []byte, key *rsa.PrivateKey, change func(envelope []byte) []byte) []byte {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var outer contentInfo
	_, err := asn1.Unmarshal(message, &outer)
	must(err)
	var m signed
	_, err = asn1.Unmarshal(outer.Content.Bytes, &m)
	if err != nil { // explicit tags keep the element within
		_, err = asn1.Unmarshal(outer.Content.FullBytes, &m)
	}
	must(err)
	m.Content.Content = change(slices.Clone(m.Content.Content))
	digest := sha256.Sum256(m.Content.Content)
	value, err := asn1.Marshal(digest[:])
	must(err)
	s := &m.SignerSet[0]
	for i, a := range s.Attributes {
		if a.Type.Equal(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4}) {
			s.Attributes[i].Values = asn1.RawValue{Class: 0, Tag: asn1.TagSet, IsCompound: true, Bytes: value}
		}
	}
	attributes, err := asn1.MarshalWithParams(s.Attributes, "set")
	must(err)
	sum := sha256.Sum256(attributes)
	s.Signature, err = rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	must(err)
	inner, err := asn1.Marshal(m)
	must(err)
	whole, err := asn1.Marshal(contentInfo{outer.Type, asn1.RawValue{Class: 2, Tag: 0, IsCompound: true, Bytes: inner}})
	must(err)
	return whole
}

// oracle sends what somebody would who has recorded a message and wants to
// know what is in it: each envelope wrong in one way, as Bleichenbacher and
// Vaudenay want it. All get one answer (P6; TestEnvelopeOracle in
// scep/scephttp has more of them and counts what is done with the keys).
func (b *besieged) oracle(t *testing.T) {
	const seed = 6
	r := random.New(random.NewPCG(seed, seed))
	key := testkeys.RSA2048(0)
	d := &scepclient.Client{URL: b.url(fencedPath)}
	tx, err := d.Prepare(t.Context(), scepclient.EnrollRequest{Key: key, CSR: b.request("oracle", b.static), TransactionID: rand.Text()})
	if err != nil {
		t.Fatal(err)
	}
	b.secretCSR(tx.DER)
	envelope := func(change func([]byte) []byte) *scepclient.Message {
		m := *tx.Message
		m.Raw = resign(t, tx.Message.Raw, key, change)
		return &m
	}
	bit := func(b []byte) { b[r.IntN(len(b))] ^= 1 << r.IntN(8) }
	transport := func(e []byte) []byte { // the encrypted key
		at := bytes.Index(e, []byte{0x04, 0x82, 0x01, 0x00})
		if at < 0 {
			t.Fatal("no encrypted key of 256 octets")
		}
		return e[at+4 : at+260]
	}
	iv := func(e []byte) []byte {
		at := bytes.LastIndex(e[:len(e)-500], []byte{0x04, 0x10})
		return e[at+2 : at+18]
	}
	mutations := map[string]func(e []byte){
		"a bit of the encrypted key":      func(e []byte) { bit(transport(e)) },
		"another encrypted key":           func(e []byte) { k := transport(e); rand.Read(k[1:]); k[0] = 0 },
		"the key's padding, by its prime": func(e []byte) { k := transport(e); clear(k[:250]) },
		"the last block":                  func(e []byte) { bit(e[len(e)-16:]) },
		"the block before, so padding":    func(e []byte) { bit(e[len(e)-32 : len(e)-16]) },
		"one octet of padding":            func(e []byte) { e[len(e)-17] ^= byte(1 + r.IntN(255)) },
		"the middle":                      func(e []byte) { bit(e[len(e)-400 : len(e)-32]) },
		"the initialization vector":       func(e []byte) { bit(iv(e)) },
	}
	before := len(b.certificates())
	answers := map[string]int{}
	for name, mutate := range mutations {
		for range 40 {
			m := envelope(func(e []byte) []byte { mutate(e); return e })
			reply, err := d.Send(t.Context(), m)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			answers[fmt.Sprintf("HTTP %d %s, %d octets", reply.HTTPStatus, describe(reply), len(reply.Raw))]++
		}
	}
	if len(answers) != 1 || !strings.Contains(fmt.Sprint(answers), scep.BadMessageCheck.String()) {
		t.Errorf("an attacker can tell apart %v", answers)
	}
	if n := len(b.certificates()) - before; n != 0 {
		t.Errorf("the CA issued %d certificates", n)
	}
	if events := b.trace(tx.Message.TransactionID); len(events) != 0 {
		t.Errorf("what was never opened is in the trace: %+v", events)
	}
	// The log knows the difference: the mutations failed in more than one place.
	for _, reason := range []string{"no valid padding", "certification request"} {
		b.logged(tx.Message.TransactionID, reason)
	}
	b.mustIssue(send(t, d, envelope(func(e []byte) []byte { return e })), key) // they were near misses
}

// stripper is somebody between device and service who changes the answer to
// GetCACaps.
type stripper struct{ capabilities string }

func (s stripper) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && r.URL.Query().Get("operation") == "GetCACaps" {
		_ = resp.Body.Close()
		resp.Body, resp.ContentLength = io.NopCloser(strings.NewReader(s.capabilities)), int64(len(s.capabilities))
	}
	return resp, err
}

// strip has devices believe that the service is older than it is (P9).
func (b *besieged) strip(t *testing.T) {
	for _, a := range []struct {
		name, capabilities string
		change             func(*scepclient.Quirks)
		envelope           func([]byte) []byte
		reason             string // in the log
	}{
		{"to nothing: single DES and MD5", "POSTPKIOperation\n", nil, nil, "digest algorithm not accepted"},
		{"to single DES", "POSTPKIOperation\nSHA-256\n", nil, nil, "content encryption"},
		{"to SHA-1", "POSTPKIOperation\nAES\nSHA-1\n", nil, nil, "digest algorithm not accepted"},
		{"MD5 whatever is listed", "POSTPKIOperation\nAES\nSHA-256\n", func(q *scepclient.Quirks) { q.Digest = crypto.MD5 }, nil, "digest algorithm not accepted"},
		{"single DES whatever is listed", "POSTPKIOperation\nAES\nSHA-256\n", func(q *scepclient.Quirks) { q.Cipher = scepclient.SingleDES }, nil, "content encryption"},
		{"RC2", "POSTPKIOperation\nDES3\nSHA-256\n", func(q *scepclient.Quirks) { q.Cipher, q.Encoding = scepclient.TripleDES, scepclient.DER }, func(e []byte) []byte {
			return bytes.Replace(e, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x03, 0x07}, []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x03, 0x02}, 1)
		}, "content encryption"},
	} {
		t.Run("P9 "+a.name, func(t *testing.T) {
			defer b.during(t)()
			before := len(b.certificates())
			d := b.device("android", fencedPath) // falls as far as it is led to
			d.HTTP = &http.Client{Transport: stripper{a.capabilities}}
			d.Quirks.MaxDigest = crypto.SHA256
			if a.change != nil {
				a.change(&d.Quirks)
			}
			key := testkeys.RSA2048(1)
			tx, err := d.Prepare(t.Context(), scepclient.EnrollRequest{Key: key, CSR: b.request("nine", b.static), TransactionID: rand.Text()})
			if err != nil {
				t.Fatal(err)
			}
			b.secretCSR(tx.DER)
			if a.envelope != nil {
				tx.Message.Raw = resign(t, tx.Message.Raw, key, a.envelope)
			}
			mustRefuse(t, send(t, d, tx.Message), scep.BadAlg)
			if n := len(b.certificates()) - before; n != 0 {
				t.Errorf("the CA issued %d certificates", n)
			}
			b.logged(tx.Message.TransactionID, a.reason)
		})
	}
}

// logged wants a line about a transaction that says a reason.
func (b *besieged) logged(id, reason string) {
	b.t.Helper()
	for line := range strings.Lines(b.logText()) {
		if strings.Contains(line, id) && strings.Contains(line, reason) {
			return
		}
	}
	b.t.Errorf("no line of the log about the transaction says %q", reason)
}

// bombs sends what costs more to read than to write (P12).
func (b *besieged) bombs(t *testing.T) {
	nested := func(depth int) []byte {
		return append(bytes.Repeat([]byte{0x30, 0x80}, depth), bytes.Repeat([]byte{0, 0}, depth)...)
	}
	post := func(body io.Reader, query string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, b.url(fencedPath)+"?"+query, body)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0 // it hung up on us
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	const operation = "operation=PKIOperation"
	for _, a := range []struct {
		name  string
		body  io.Reader
		query string
		want  []int
	}{
		{"nested 100,000 deep", bytes.NewReader(nested(100_000)), operation, []int{400}},
		{"nested 33 deep", bytes.NewReader(nested(33)), operation, []int{400}},
		{"length beyond the end", bytes.NewReader([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff}), operation, []int{400}},
		{"body of 3 MiB", bytes.NewReader(make([]byte, 3<<20)), operation, []int{413}},
		{"body of 3 MiB in chunks", io.LimitReader(zeros{}, 3<<20), operation, []int{413, 0}},
		{"URL of 132,000 octets", nil, operation + "&message=" + strings.Repeat("A", 132_000), []int{414}},
		{"URL of 1,000,000 octets", nil, operation + "&message=" + strings.Repeat("A", 1_000_000), []int{431, 0}},
	} {
		t.Run("P12 "+a.name, func(t *testing.T) {
			if got := post(a.body, a.query); !slices.Contains(a.want, got) {
				t.Errorf("HTTP %d, want one of %v", got, a.want)
			}
		})
	}
	t.Run("P12 headers of 1,000,000 octets", func(t *testing.T) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.url(fencedPath)+"?operation=GetCACaps", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Cookie", strings.Repeat("a", 1_000_000))
		if resp, err := http.DefaultClient.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
				t.Errorf("HTTP %d", resp.StatusCode)
			}
		}
	})
	t.Run("P12 many certificates", func(t *testing.T) {
		defer b.during(t)()
		key := testkeys.RSA2048(2)
		d := &scepclient.Client{URL: b.url(fencedPath)}
		tx, err := d.Prepare(t.Context(), scepclient.EnrollRequest{Key: key, CSR: b.request("twelve", b.static)})
		if err != nil {
			t.Fatal(err)
		}
		for range 17 {
			tx.Message.Certificates = append(tx.Message.Certificates, b.root.Raw)
		}
		if _, err := tx.Message.Build(); err != nil {
			t.Fatal(err)
		}
		if r, err := d.Send(t.Context(), tx.Message); err == nil || r == nil || r.HTTPStatus != http.StatusBadRequest {
			t.Errorf("the answer is %v, want HTTP 400", err)
		}
	})
	t.Run("P12 key of 8193 bits", func(t *testing.T) { b.hugeKey(t) })
	t.Run("P12 slow devices", func(t *testing.T) { b.slow(t) })
	t.Run("P12 memory", func(t *testing.T) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.running.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		_, after, _ := strings.Cut(string(status), "VmHWM:")
		kib, err := strconv.Atoi(strings.Fields(after)[0])
		if err != nil || kib > 200<<10 {
			t.Errorf("it took %d KiB (%v), want less than 200 MiB", kib, err)
		}
	})
	defer b.during(t)()
	b.get(fencedPath, b.enrol(3, b.request("alive", b.static)))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// hugeKey asks for a certificate of a key that costs a second to verify with,
// and signs with a certificate of such a key. Nobody has the private key; that
// is for the service to find out, and it should not try.
func (b *besieged) hugeKey(t *testing.T) {
	defer b.during(t)()
	modulus := new(big.Int).SetBit(big.NewInt(1), 8192, 1)
	spki, err := x509.MarshalPKIXPublicKey(&rsa.PublicKey{N: modulus, E: 65537})
	if err != nil {
		t.Fatal(err)
	}
	key := testkeys.RSA2048(3)
	own, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	csr := b.request("huge", b.static)
	der, err := csr.Encode(key)
	if err != nil {
		t.Fatal(err)
	}
	before := len(b.certificates())
	exchange := func(content []byte, certificate []byte) *scepclient.Reply {
		t.Helper()
		d := &scepclient.Client{URL: b.url(fencedPath)}
		service, err := d.Discover(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return send(t, d, &scepclient.Message{
			Type: scep.PKCSReq, TransactionID: rand.Text(), Content: content, Service: service,
			Signer: scepclient.Identity{Certificate: certificate, Key: key},
		})
	}
	self, err := scepclient.SelfSigned(key, b.root.RawSubject, scepclient.Quirks{})
	if err != nil {
		t.Fatal(err)
	}
	mustRefuse(t, exchange(swapKey(t, der, own, spki), self.Certificate), scep.BadMessageCheck)
	mustRefuse(t, exchange(der, swapKey(t, self.Certificate, own, spki)), scep.BadAlg)
	if n := len(b.certificates()) - before; n != 0 {
		t.Errorf("the CA issued %d certificates", n)
	}
}

// swapKey puts another public key into a certificate or a request, whose
// signature then does not fit.
func swapKey(t *testing.T, der, old, with []byte) []byte {
	t.Helper()
	var outer struct {
		TBS       asn1.RawValue
		Algorithm asn1.RawValue
		Signature asn1.RawValue
	}
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		t.Fatal(err)
	}
	if bytes.Count(outer.TBS.Bytes, old) != 1 {
		t.Fatal("the key is not there once")
	}
	outer.TBS = asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: bytes.Replace(outer.TBS.Bytes, old, with, 1)}
	swapped, err := asn1.Marshal(outer)
	if err != nil {
		t.Fatal(err)
	}
	return swapped
}

// slow opens connections and sends next to nothing over them.
func (b *besieged) slow(t *testing.T) {
	address := strings.TrimPrefix(b.base, "http://")
	var open []net.Conn
	for i := range 100 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		text := "POST " + fencedPath + "?operation=PKIOperation HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n0"
		if i%2 == 0 {
			text = text[:40] // not even its header
		}
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	defer b.during(t)()
	b.get(fencedPath, b.enrol(4, b.request("patient", b.static)))
	// read_header_timeout is 5s here.
	_ = open[0].SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadAll(open[0]); err != nil {
		t.Errorf("a connection without a header is kept: %v", err)
	}
}
