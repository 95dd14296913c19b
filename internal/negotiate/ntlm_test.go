package negotiate

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// ntlmServer lets in whoever answers its challenge on the same connection. It
// checks no password: the answer's form is what these tests are about.
type ntlmServer struct {
	mu         sync.Mutex
	challenged map[string]bool // by remote address
	signedIn   map[string]bool
	log        []string // message and length of the body
	cutAfter   int      // close so many connections after the challenge
	refuse     bool
}

func challengeMessage() []byte {
	info := appendPair(nil, 2, utf16le("CORP"))
	info = appendPair(info, avChannelBindings, bytes.Repeat([]byte{0xEE}, 16)) // not the server's to say
	info = appendPair(info, avEnd, nil)
	b := append([]byte("NTLMSSP\x00\x02\x00\x00\x00"), make([]byte, 8)...)
	b = append(binary.LittleEndian.AppendUint32(b, 0xa0898215), "12345678\x00\x00\x00\x00\x00\x00\x00\x00"...)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(info)))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(info)))
	b = binary.LittleEndian.AppendUint32(b, 48)
	return append(b, info...)
}

func (s *ntlmServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	token, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(r.Header.Get("Authorization"), "NTLM "))
	kind := "none"
	if len(token) > 8 {
		kind = map[byte]string{1: "negotiate", 3: "authenticate"}[token[8]]
	}
	s.log = append(s.log, kind+" "+string(body))
	switch {
	case kind == "none" && s.signedIn[r.RemoteAddr]:
		return
	case kind == "authenticate" && s.challenged[r.RemoteAddr] && !s.refuse:
		s.signedIn[r.RemoteAddr] = true
		return
	case kind == "negotiate":
		s.challenged[r.RemoteAddr] = true
		w.Header().Set("WWW-Authenticate", "NTLM "+base64.StdEncoding.EncodeToString(challengeMessage()))
		if s.cutAfter > 0 {
			s.cutAfter--
			w.Header().Set("Connection", "close")
		}
	default:
		w.Header().Set("WWW-Authenticate", "NTLM")
	}
	w.WriteHeader(http.StatusUnauthorized)
}

func startNTLM(t *testing.T, s *ntlmServer) (url string, rt *Transport) {
	s.challenged, s.signedIn = map[string]bool{}, map[string]bool{}
	srv, c := serve(t, s.ServeHTTP)
	c.NTLM = &NTLM{User: `CORP\svc`, Password: "x"}
	return srv.URL, newTransport(t, c)
}

// TestNTLMSignsInTheConnection: the body travels with the third message, and
// later ones without any.
func TestNTLMSignsInTheConnection(t *testing.T) {
	s := &ntlmServer{}
	url, rt := startNTLM(t, s)
	for _, body := range []string{"first", "second"} {
		if resp, err := post(t, rt, url, body); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %v, %v", body, resp, err)
		}
	}
	if got, want := strings.Join(s.log, ","), "negotiate ,authenticate first,none second"; got != want {
		t.Errorf("server saw %q, want %q", got, want)
	}
}

func TestNTLMBeginsAnewOnce(t *testing.T) {
	s := &ntlmServer{cutAfter: 1}
	url, rt := startNTLM(t, s)
	if resp, err := post(t, rt, url, "x"); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("cut once: %v, %v", resp, err)
	}
	s = &ntlmServer{cutAfter: 100}
	url, rt = startNTLM(t, s)
	if resp, err := post(t, rt, url, "x"); err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("always cut: %v, %v, want 401", resp, err)
	}
	if len(s.log) > 6 {
		t.Errorf("%d requests: %q", len(s.log), s.log)
	}
}

func TestNTLMPasswordIsRefusedOnce(t *testing.T) {
	s := &ntlmServer{refuse: true}
	url, rt := startNTLM(t, s)
	if resp, err := post(t, rt, url, "x"); err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Fatalf("got %v, %v, want 401", resp, err)
	}
	if _, err := post(t, rt, url, "x"); !errors.Is(err, ErrRefused) {
		t.Errorf("got %v, want ErrRefused", err)
	}
	if len(s.log) != 2 {
		t.Errorf("the password was shown again: %q", s.log)
	}
}

// TestChallengeIsBound: the server's own word on the channel does not count.
func TestChallengeIsBound(t *testing.T) {
	binding := [16]byte{1, 2, 3}
	b, err := bindChallenge(challengeMessage(), "HTTP/ca01.corp.test", binding)
	if err != nil {
		t.Fatal(err)
	}
	info := b[binary.LittleEndian.Uint32(b[44:]):]
	if bytes.Contains(info, bytes.Repeat([]byte{0xEE}, 16)) || !bytes.Contains(info, appendPair(nil, avChannelBindings, binding[:])) ||
		!bytes.Contains(info, appendPair(nil, avTargetName, utf16le("HTTP/ca01.corp.test"))) || !bytes.Contains(info, utf16le("CORP")) {
		t.Errorf("target information %q", info)
	}
}

// TestEndPointHash: RFC 5929, section 4.1, replaces MD5 and SHA-1 only.
func TestEndPointHash(t *testing.T) {
	for algorithm, size := range map[x509.SignatureAlgorithm]int{
		x509.SHA1WithRSA: 32, x509.MD5WithRSA: 32, x509.ECDSAWithSHA256: 32, x509.SHA384WithRSA: 48, x509.ECDSAWithSHA512: 64,
	} {
		got := endPoint(&x509.Certificate{SignatureAlgorithm: algorithm, Raw: []byte("x")})
		if len(got) != len("tls-server-end-point:")+size {
			t.Errorf("%v: %d bytes", algorithm, len(got))
		}
	}
	if endPoint(&x509.Certificate{SignatureAlgorithm: x509.PureEd25519}) != nil || bindingOf(nil) != [16]byte{} {
		t.Error("a binding was made up")
	}
}

// writePair writes a self-signed client certificate.
func writePair(t *testing.T, files Certificate, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{files.File: {Type: "CERTIFICATE", Bytes: cert}, files.Key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestClientCertificateIsReadAgain: a renewed one is used without a restart,
// on a connection of its own.
func TestClientCertificateIsReadAgain(t *testing.T) {
	var names []string
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		names = append(names, r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	srv.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	srv.StartTLS()
	defer srv.Close()
	dir := t.TempDir()
	files := Certificate{File: filepath.Join(dir, "client.pem"), Key: filepath.Join(dir, "client.key")}
	writePair(t, files, "first")
	c := TransportConfig{Host: strings.TrimPrefix(srv.URL, "https://"), Roots: x509.NewCertPool(), Certificate: &files}
	c.Roots.AddCert(srv.Certificate())
	rt := newTransport(t, c)
	post(t, rt, srv.URL, "x")
	post(t, rt, srv.URL, "x")
	writePair(t, files, "the second")
	post(t, rt, srv.URL, "x")
	if err := os.Remove(files.Key); err != nil { // in the middle of the next replacement
		t.Fatal(err)
	}
	if _, err := post(t, rt, srv.URL, "x"); err != nil {
		t.Errorf("while the files change: %v", err)
	}
	if got := strings.Join(names, ","); got != "first,first,the second,the second" {
		t.Errorf("server saw %s", got)
	}
}

// TestConnectionsAreBounded: who does not get one within its time has sent
// nothing.
func TestConnectionsAreBounded(t *testing.T) {
	srv, c := serve(t, func(http.ResponseWriter, *http.Request) {})
	c.Connections = 1
	rt := newTransport(t, c)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL, nil)
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := rt.RoundTrip(req.Clone(ctx)); !errors.Is(err, ErrNotSent) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second at once: got %v", err)
	}
	resp.Body.Close()
	if resp, err = rt.RoundTrip(req); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}
