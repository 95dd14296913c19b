package adcstest

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/oiweiwei/gokrb5.fork/v9/keytab"
	"github.com/oiweiwei/gokrb5.fork/v9/spnego"
	"github.com/oiweiwei/gokrb5.fork/v9/types"
)

// WebAuth says how callers of a web face may sign in. None of them: nobody may.
type WebAuth struct {
	Keytab            string // Negotiate with Kerberos: file with the keys of HTTP/host
	NTLM              bool   // as scheme NTLM
	NTLMInNegotiate   bool   // as scheme Negotiate
	Basic             bool
	ClientCertificate bool // the account is the certificate's common name; its issuer must be ClientCAs

	// RequireChannelBinding is Extended Protection set to Required: Kerberos
	// and NTLM must name the TLS channel.
	RequireChannelBinding bool
}

// webGate signs callers in, as IIS does: NTLM signs in the connection, all
// else the request.
type webGate struct {
	WebAuth
	ca      *CA
	binding [16]byte
	keys    *keytab.Keytab

	mu    sync.Mutex
	asked map[string]int // requests that were let in, by mechanism
	seen  map[[32]byte]bool
}

// newWebGate prepares for a server with this certificate, whose signature must
// be made with SHA-256.
func newWebGate(c *CA, o WebAuth, server []byte) (*webGate, error) {
	g := &webGate{WebAuth: o, ca: c, asked: map[string]int{}, seen: map[[32]byte]bool{}}
	sum := sha256.Sum256(server)
	name := append([]byte("tls-server-end-point:"), sum[:]...)
	var b bytes.Buffer
	b.Write(make([]byte, 16)) // no addresses
	binary.Write(&b, binary.LittleEndian, uint32(len(name)))
	b.Write(name)
	g.binding = md5.Sum(b.Bytes())
	if o.Keytab != "" {
		keys, err := keytab.Load(o.Keytab)
		if err != nil {
			return nil, fmt.Errorf("keytab %q: %w", o.Keytab, err)
		}
		g.keys = keys
	}
	return g, nil
}

// webConn is what IIS knows of a connection.
type webConn struct {
	mu   sync.Mutex
	ntlm webNTLM
	user string
}

type webConnKey struct{}

// connContext goes into http.Server.
func (g *webGate) connContext(ctx context.Context, _ net.Conn) context.Context {
	return context.WithValue(ctx, webConnKey{}, &webConn{ntlm: webNTLM{domain: g.ca.Domain(), computer: "CA01"}})
}

// guard lets in who signs in and tells the handler the account.
func (g *webGate) guard(next func(w http.ResponseWriter, r *http.Request, account string)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn := r.Context().Value(webConnKey{}).(*webConn)
		conn.mu.Lock()
		account, mechanism, token := g.signIn(conn, r)
		conn.mu.Unlock()
		if account == "" {
			g.refuse(w, mechanism, token)
			return
		}
		g.mu.Lock()
		g.asked[mechanism]++
		g.mu.Unlock()
		next(w, r, account)
	})
}

// signedIn counts the requests let in by a mechanism.
func (g *webGate) signedIn(mechanism string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.asked[mechanism]
}

// signIn returns who calls, or what to answer.
func (g *webGate) signIn(conn *webConn, r *http.Request) (account, mechanism string, token []byte) {
	if g.ClientCertificate && r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return r.TLS.PeerCertificates[0].Subject.CommonName, "certificate", nil
	}
	scheme, value, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch strings.ToLower(scheme) {
	case "":
		return conn.user, "NTLM", nil
	case "basic":
		user, password, _ := r.BasicAuth()
		if want, ok := g.ca.Password(user); g.Basic && ok && password == want {
			return user, "Basic", nil
		}
		return "", "", nil
	}
	conn.user = ""
	b, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return "", "", nil
	}
	isNTLM := bytes.HasPrefix(b, []byte("NTLMSSP\x00"))
	switch negotiate := strings.EqualFold(scheme, "Negotiate"); {
	case negotiate && !isNTLM && g.keys != nil:
		if account := g.acceptKerberos(b); account != "" {
			return account, "Kerberos", nil
		}
	case isNTLM && len(b) > 8 && (negotiate && g.NTLMInNegotiate || strings.EqualFold(scheme, "NTLM") && g.NTLM):
		if b[8] == 1 {
			answer, err := conn.ntlm.challenge(b)
			if err != nil {
				return "", "", nil
			}
			return "", scheme, answer
		}
		user, binding, err := conn.ntlm.accept(b, g.ca.Password)
		if err == nil && g.bound(binding) {
			conn.user = user
			return user, "NTLM", nil
		}
	}
	return "", "", nil
}

// bound checks a channel binding: a wrong one never does, none only where it
// is not required.
func (g *webGate) bound(binding [16]byte) bool {
	return binding == g.binding || binding == [16]byte{} && !g.RequireChannelBinding
}

// acceptKerberos checks a token of SPNEGO and returns its principal.
func (g *webGate) acceptKerberos(b []byte) (account string) {
	defer func() {
		if recover() != nil { // the library trusts lengths
			account = ""
		}
	}()
	var token spnego.SPNEGOToken
	var krb spnego.KRB5Token
	if token.Unmarshal(b) != nil || !token.Init || krb.Unmarshal(token.NegTokenInit.MechTokenBytes) != nil || !krb.IsAPReq() {
		return ""
	}
	ok, err := krb.APReq.Verify(g.keys, 5*time.Minute, types.HostAddress{}, nil)
	if err != nil || !ok || g.replayed(krb.APReq.EncryptedAuthenticator.Cipher) {
		return ""
	}
	sum := krb.APReq.Authenticator.Cksum.Checksum // RFC 4121, section 4.1.1
	if len(sum) < 24 || !g.bound([16]byte(sum[4:20])) {
		return ""
	}
	return krb.APReq.Authenticator.CName.PrincipalNameString()
}

// replayed reports whether an authenticator was seen before (RFC 4120, section
// 3.2.3). The library's own cache never ends.
func (g *webGate) replayed(authenticator []byte) bool {
	sum := sha256.Sum256(authenticator)
	g.mu.Lock()
	defer g.mu.Unlock()
	again := g.seen[sum]
	g.seen[sum] = true
	return again
}

// refuse answers 401 with the schemes on offer, or with the next message of a
// handshake.
func (g *webGate) refuse(w http.ResponseWriter, scheme string, token []byte) {
	if token != nil {
		w.Header().Set("WWW-Authenticate", scheme+" "+base64.StdEncoding.EncodeToString(token))
	} else {
		for _, offer := range []struct {
			on     bool
			scheme string
		}{{g.keys != nil || g.NTLMInNegotiate, "Negotiate"}, {g.NTLM, "NTLM"}, {g.Basic, `Basic realm="certsrv"`}} {
			if offer.on {
				w.Header().Add("WWW-Authenticate", offer.scheme)
			}
		}
	}
	w.Header().Set("Content-Type", "text/html")
	w.WriteHeader(http.StatusUnauthorized)
	fmt.Fprint(w, "<html><body><h2>401 - Unauthorized: Access is denied due to invalid credentials.</h2></body></html>")
}
