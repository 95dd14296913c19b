package adcstest

// Authentication types and levels of RPC ([MS-RPCE], section 2.2.1.1.7-8).
const (
	authSPNEGO   byte = 9
	authNTLM     byte = 10
	authKerberos byte = 16

	levelConnect   byte = 2
	levelPacket    byte = 4
	levelIntegrity byte = 5
	levelPrivacy   byte = 6
)

// acceptor is the server's side of a security mechanism: it lets a client sign
// in, then protects messages. One belongs to one security context and is not
// safe for concurrent use.
type acceptor interface {
	// accept takes a token and returns the answer and whether the client is in.
	accept(token []byte) (reply []byte, done bool, err error)
	account() string   // DOMAIN\name or name@REALM
	mechanism() string // "NTLM" or "Kerberos"

	signatureSize(private bool) int
	seal(m rpcMessage) (signature []byte, err error) // encrypts m.stub in place
	unseal(m rpcMessage, signature []byte) error     // decrypts m.stub in place
	sign(m rpcMessage) (signature []byte, err error)
	verify(m rpcMessage, signature []byte) error
}

// rpcMessage is what a signature covers: NTLM the whole packet, Kerberos the
// stub, or all three parts with header signing.
type rpcMessage struct {
	packet, header, stub, trailer []byte
	headerSign                    bool
}

// acceptors make the mechanisms that a face offers; nil ones are off.
type acceptors struct {
	ntlm, kerberos func() acceptor
}

func (a acceptors) forType(kind byte) acceptor {
	switch {
	case kind == authNTLM && a.ntlm != nil:
		return a.ntlm()
	case kind == authKerberos && a.kerberos != nil:
		return a.kerberos()
	case kind == authSPNEGO:
		return &spnegoAcceptor{offered: a}
	}
	return nil
}
