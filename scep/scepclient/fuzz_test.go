package scepclient_test

import (
	"crypto/x509/pkix"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// answering is a server that answers everything with the same octets.
type answering []byte

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	w.Header().Set("Content-Type", "application/x-pki-message")
	w.Write(a)
	return w.Result(), nil
}

// FuzzReply feeds the client with what a server may send. Only a reply that is
// signed by the RA may be believed, and no input may take the client down.
func FuzzReply(f *testing.F) {
	s := newResponder(f)
	service := &scepclient.Service{Certificates: s.certificates, Recipient: s.encryption, Issuer: s.root}
	key := testkeys.RSA2048(3)
	subject, err := scepclient.MarshalName(pkix.Name{CommonName: "device"})
	if err != nil {
		f.Fatal(err)
	}
	signer, err := scepclient.SelfSigned(key, subject, scepclient.Quirks{})
	if err != nil {
		f.Fatal(err)
	}
	message := func() *scepclient.Message {
		return &scepclient.Message{
			Type: scep.PKCSReq, TransactionID: "1", SenderNonce: []byte("0123456789abcdef"), Signer: signer, Service: service,
			Content: []byte("content"), Raw: []byte{0x30, 0},
		}
	}
	built := message()
	raw, err := built.Build()
	if err != nil {
		f.Fatal(err)
	}
	s.failInfo = "2"
	to := s.read(f, raw)
	for status, content := range map[string][]byte{"0": s.root.Raw, "2": nil, "3": nil} {
		f.Add(s.reply(f, to, status, content))
	}
	f.Add(raw)
	f.Add([]byte{0x30, 0x80, 0, 0})
	f.Fuzz(func(t *testing.T, octets []byte) {
		c := &scepclient.Client{URL: "http://scep.example.test/", HTTP: &http.Client{Transport: answering(octets)}}
		r, err := c.Send(t.Context(), message())
		if err == nil && (r.Signer == nil || !r.Signer.Equal(s.signing)) {
			t.Errorf("believed a reply of %v", r.Signer)
		}
	})
}
