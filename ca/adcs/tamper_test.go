package adcs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/catest"
)

// attacker sits on the connection to the CA's objects and changes what the CA
// answers there.
type attacker struct {
	mu     sync.Mutex
	change func(pdu []byte) []byte // nil: looks on
	calls  int
	last   []byte // response seen last, as it came
}

// between puts the attacker on each connection of the bridge but those to the
// endpoint mapper.
func (a *attacker) between(c *CA) {
	c.connect = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialTCP(ctx, network, address)
		if _, port, _ := net.SplitHostPort(address); err != nil || port == portText(c.mapperPort) {
			return conn, err
		}
		return &attacked{Conn: conn, attacker: a}, nil
	}
}

func portText(port int) string {
	_, text, _ := net.SplitHostPort((&net.TCPAddr{Port: port}).String())
	return text
}

func (a *attacker) set(change func([]byte) []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.change, a.calls = change, 0
}

func (a *attacker) touch(b []byte) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	if b[2] != pduResponse {
		return b
	}
	was := bytes.Clone(b)
	if a.change != nil {
		a.calls++
		b = a.change(b)
	}
	a.last = was
	return b
}

type attacked struct {
	net.Conn
	attacker *attacker
	rest     []byte
	cut      bool
}

// Read hands out the CA's PDUs, changed.
func (c *attacked) Read(p []byte) (int, error) {
	if c.cut && len(c.rest) == 0 {
		return 0, io.EOF
	}
	if len(c.rest) == 0 {
		head := make([]byte, pduHeader)
		if _, err := io.ReadFull(c.Conn, head); err != nil {
			return 0, err
		}
		b := append(head, make([]byte, int(binary.LittleEndian.Uint16(head[8:]))-pduHeader)...)
		if _, err := io.ReadFull(c.Conn, b[pduHeader:]); err != nil {
			return 0, err
		}
		whole := len(b)
		c.rest = c.attacker.touch(b)
		if c.cut = len(c.rest) < whole/2+1; len(c.rest) == 0 {
			return 0, io.EOF
		}
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// plainReply is a reply to Request2 as the attacker likes it, without
// protection: pending under request 7.
func plainReply() []byte {
	body := make([]byte, 8) // ORPCTHAT
	body = binary.LittleEndian.AppendUint32(body, 7)
	body = binary.LittleEndian.AppendUint32(body, dispositionPending)
	return append(body, make([]byte, 3*8+4)...) // three empty blobs, return value 0
}

// unprotected turns a response into a PDU of another type that carries a plain
// reply.
func unprotected(kind byte) func([]byte) []byte {
	return func(b []byte) []byte {
		head := bytes.Clone(b[:pduCallHeader])
		head[2], head[3] = kind, 0x03
		if kind == pduFault {
			head = append(head, make([]byte, 8)...) // status 0
		}
		out := append(head, plainReply()...)
		out = append(out, make([]byte, pduTrailer)...) // which the library takes off, whatever the header says
		binary.LittleEndian.PutUint16(out[8:], uint16(len(out)))
		binary.LittleEndian.PutUint16(out[10:], 0)
		return out
	}
}

// flip changes one bit, counted from the front or, if negative, from the end.
func flip(offset int) func([]byte) []byte {
	return func(b []byte) []byte {
		if offset < 0 {
			offset += len(b)
		}
		b[offset] ^= 0x01
		return b
	}
}

func (a *attacker) tricks() map[string]func([]byte) []byte {
	return map[string]func([]byte) []byte{
		"bit of the sealed reply flipped":           flip(pduCallHeader + 30),
		"bit of the signature flipped":              flip(-3),
		"bit of the sequence number flipped":        flip(-1),
		"reply without protection":                  unprotected(pduResponse),
		"reply inside a fault of status 0":          unprotected(pduFault),
		"reply inside an answer to a bind":          unprotected(pduBindAck),
		"reply inside an answer to alter_context":   unprotected(pduAlterAck),
		"protection level lowered to signing":       func(b []byte) []byte { return lowered(b) },
		"connection cut in the middle of the reply": func(b []byte) []byte { return b[:len(b)/2] },
		"connection cut before the reply":           func([]byte) []byte { return nil },
		"earlier reply played again": func(b []byte) []byte {
			if a.last == nil {
				return nil
			}
			old := bytes.Clone(a.last)
			copy(old[12:16], b[12:16]) // with the ID of this call
			return old
		},
	}
}

func lowered(b []byte) []byte {
	auth := int(binary.LittleEndian.Uint16(b[10:]))
	b[len(b)-auth-pduTrailer+1] = 5
	return b
}

// testAttacker runs the tricks: each ends with an unknown outcome, and the
// bridge finds afterwards what the CA really did.
func testAttacker(t *testing.T, make func(t *testing.T) *CA, template string) {
	for name := range (&attacker{}).tricks() {
		t.Run(name, func(t *testing.T) {
			c, a := make(t), &attacker{}
			a.between(c)
			first := ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{}), Template: template}
			if _, err := c.Issue(t.Context(), first); err != nil {
				t.Fatalf("nobody interferes: %v", err)
			}
			a.set(a.tricks()[name])
			req := ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{}), Template: template}
			got, err := c.Issue(t.Context(), req)
			if got != nil || !errors.Is(err, ca.ErrOutcomeUnknown) {
				t.Errorf("got a certificate: %t, error %v; want ErrOutcomeUnknown", got != nil, err)
			}
			if a.calls == 0 {
				t.Error("the attacker saw no reply")
			}
			a.set(nil)
			found, err := (finder{c}).Find(t.Context(), ca.Query{CSRDigest: req.CSR.Digest(), KeyDigest: req.CSR.KeyDigest(),
				From: time.Now().Add(-time.Hour), To: time.Now()})
			if err != nil || !bytes.Equal(found.Certificate.RawSubjectPublicKeyInfo, req.CSR.RawSubjectPublicKeyInfo) {
				t.Errorf("Find after it: %v", err)
			}
			if _, err := c.Issue(t.Context(), first); err != nil {
				t.Errorf("next request: %v", err)
			}
		})
	}
}
