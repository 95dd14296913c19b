package adcstest

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// bindPDU is a bind to the object exporter without authentication.
func bindPDU(t testing.TB, trailer, token []byte) []byte {
	t.Helper()
	object := syntax("99fcfec4-5260-101b-bbcb-00aa0021347a", 0)
	b := newPDU(pduBind, flagFirst|flagLast, 1)
	b = append(b, 0xd0, 0x16, 0xd0, 0x16, 0, 0, 0, 0, 1, 0, 0, 0)
	b = append(b, 0, 0, 1, 0)
	b = append(append(b, object[:]...), syntaxNDR[:]...)
	return finish(append(b, trailer...), token)
}

func requestPDU(opnum uint16, stub []byte) []byte {
	b := newPDU(pduRequest, flagFirst|flagLast, 2)
	b = le.AppendUint32(b, uint32(len(stub)))
	b = le.AppendUint16(b, 0)
	b = le.AppendUint16(b, opnum)
	return finish(append(b, stub...), nil)
}

func FuzzPDU(f *testing.F) {
	f.Add(bindPDU(f, nil, nil))
	f.Add(bindPDU(f, []byte{authNTLM, levelPrivacy, 0, 0, 1, 0, 0, 0}, []byte("NTLMSSP\x00")))
	f.Add(requestPDU(5, make([]byte, 40)))
	f.Fuzz(func(t *testing.T, in []byte) {
		p, err := readPDU(bytes.NewReader(in))
		if err != nil {
			return
		}
		if len(p.raw) > len(in) || headerSize+len(p.body)+len(p.trailer)+len(p.signature) != len(p.raw) {
			t.Fatalf("parts of %d, %d and %d octets in a packet of %d", len(p.body), len(p.trailer), len(p.signature), len(p.raw))
		}
		b, err := parseBinding(p.body)
		if err == nil && 12+24*len(b.offers) > len(p.body) {
			t.Fatalf("%d offers in %d octets", len(b.offers), len(p.body))
		}
	})
}

// FuzzConnection sends whole conversations to the endpoint mapper's port, where
// strangers may speak.
func FuzzConnection(f *testing.F) {
	ca := newCA(f, Options{})
	r, err := ca.ServeRPC(RPCOptions{})
	if err != nil {
		f.Fatalf("ServeRPC: %v", err)
	}
	f.Cleanup(func() { r.Close() })
	f.Add(append(bindPDU(f, nil, nil), requestPDU(5, nil)...))
	f.Add(append(bindPDU(f, nil, nil), requestPDU(1, make([]byte, 40))...))
	f.Add(bindPDU(f, []byte{authSPNEGO, levelPrivacy, 0, 0, 1, 0, 0, 0}, []byte{0x60, 3, 6, 1, 0}))
	f.Fuzz(func(t *testing.T, in []byte) {
		client, server := net.Pipe()
		done := make(chan struct{})
		go func() { defer close(done); defer server.Close(); r.mapper.converse(server, "135") }()
		go io.Copy(io.Discard, client)
		client.SetWriteDeadline(time.Now().Add(time.Minute))
		client.Write(in)
		client.Close()
		<-done
		if callers := r.Callers(); len(callers) != 0 {
			t.Fatalf("a stranger signed in: %v", callers)
		}
	})
}

func FuzzNTLM(f *testing.F) {
	negotiate := append([]byte("NTLMSSP\x00"), 1, 0, 0, 0, 0x35, 0x82, 0x88, 0xe2)
	authenticate := append(append([]byte("NTLMSSP\x00"), 3, 0, 0, 0), make([]byte, 100)...)
	f.Add(negotiate, authenticate)
	f.Add(append(negotiate, make([]byte, 24)...), authenticate[:64])
	f.Fuzz(func(t *testing.T, first, second []byte) {
		n := &ntlmAcceptor{domain: "CORP", computer: "CA01", dnsDomain: "corp.test", dnsHost: "ca01.corp.test",
			password: func(string) (string, bool) { return DefaultPassword, true }}
		if _, done, _ := n.accept(first); done {
			t.Fatal("the first message signed a stranger in")
		}
		if _, done, err := n.accept(second); done && err == nil {
			t.Fatal("a stranger signed in")
		}
	})
}

func FuzzSPNEGO(f *testing.F) {
	f.Add([]byte{0x60, 3, 6, 1, 0}, []byte{0xa1, 2, 0x30, 0})
	f.Fuzz(func(t *testing.T, first, second []byte) {
		s := &spnegoAcceptor{offered: acceptors{ntlm: func() acceptor {
			return &ntlmAcceptor{password: func(string) (string, bool) { return DefaultPassword, true }}
		}}}
		for _, token := range [][]byte{first, second} {
			if _, done, err := s.accept(token); done && err == nil {
				t.Fatal("a stranger signed in")
			}
		}
	})
}
