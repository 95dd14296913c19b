package adcstest

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/rc4"
	"errors"
	"strings"
	"time"

	//lint:ignore SA1019 NTLM is built on MD4
	"golang.org/x/crypto/md4"
)

// Flags of NTLM messages ([MS-NLMP], section 2.2.2.5).
const (
	ntlmUnicode          uint32 = 0x00000001
	ntlmRequestTarget    uint32 = 0x00000004
	ntlmSign             uint32 = 0x00000010
	ntlmSeal             uint32 = 0x00000020
	ntlmNTLM             uint32 = 0x00000200
	ntlmAlwaysSign       uint32 = 0x00008000
	ntlmTargetServer     uint32 = 0x00020000
	ntlmExtendedSecurity uint32 = 0x00080000
	ntlmTargetInfo       uint32 = 0x00800000
	ntlmVersion          uint32 = 0x02000000
	ntlm128              uint32 = 0x20000000
	ntlmKeyExchange      uint32 = 0x40000000
	ntlm56               uint32 = 0x80000000
)

var (
	errLogon = errors.New("logon failure")
	errNTLM  = errors.New("malformed NTLM message")
)

// ntlmAcceptor lets clients in with NTLMv2 ([MS-NLMP]); NTLMv1 and anonymous
// ones stay out. Its message integrity code is checked where the client says
// that it sent one.
type ntlmAcceptor struct {
	domain, computer, dnsDomain, dnsHost string
	password                             func(account string) (string, bool)

	negotiate, challenge []byte // as they were sent
	nonce                []byte
	user                 string
	micSeen              bool

	keyExchange       bool
	clientSign        []byte
	serverSign        []byte
	clientKey         []byte
	serverKey         []byte
	fromClient        *rc4.Cipher
	toClient          *rc4.Cipher
	clientSeq, ourSeq uint32
}

func (n *ntlmAcceptor) account() string        { return n.user }
func (n *ntlmAcceptor) mechanism() string      { return "NTLM" }
func (n *ntlmAcceptor) signatureSize(bool) int { return 16 }

// ntlmType checks the signature and returns the message's type.
func ntlmType(token []byte) (uint32, error) {
	if len(token) < 12 || string(token[:8]) != "NTLMSSP\x00" {
		return 0, errNTLM
	}
	return le.Uint32(token[8:]), nil
}

func (n *ntlmAcceptor) accept(token []byte) ([]byte, bool, error) {
	kind, err := ntlmType(token)
	switch {
	case err != nil:
		return nil, false, err
	case kind == 1 && n.negotiate == nil && len(token) >= 16:
		n.negotiate = token
		n.challenge = n.makeChallenge(le.Uint32(token[12:]))
		return n.challenge, false, nil
	case kind == 3 && n.negotiate != nil:
		return nil, true, n.authenticate(token)
	}
	return nil, false, errNTLM
}

// makeChallenge is CHALLENGE_MESSAGE ([MS-NLMP], section 2.2.1.2).
func (n *ntlmAcceptor) makeChallenge(offered uint32) []byte {
	const taken = ntlmUnicode | ntlmRequestTarget | ntlmSign | ntlmSeal | ntlmNTLM | ntlmAlwaysSign |
		ntlmExtendedSecurity | ntlmVersion | ntlm128 | ntlmKeyExchange | ntlm56
	flags := offered&taken | ntlmTargetInfo | ntlmTargetServer | ntlmUnicode | ntlmRequestTarget | ntlmNTLM
	n.nonce = make([]byte, 8)
	rand.Read(n.nonce)
	var info []byte
	add := func(id uint16, value []byte) {
		info = le.AppendUint16(info, id)
		info = le.AppendUint16(info, uint16(len(value)))
		info = append(info, value...)
	}
	add(2, encodeUTF16(n.domain))
	add(1, encodeUTF16(n.computer))
	add(4, encodeUTF16(n.dnsDomain))
	add(3, encodeUTF16(n.dnsHost))
	add(7, filetime(time.Now()))
	add(0, nil)
	target := encodeUTF16(n.domain)
	b := append([]byte("NTLMSSP\x00"), 2, 0, 0, 0)
	field := func(size, offset int) {
		b = le.AppendUint16(b, uint16(size))
		b = le.AppendUint16(b, uint16(size))
		b = le.AppendUint32(b, uint32(offset))
	}
	field(len(target), 56)
	b = le.AppendUint32(b, flags)
	b = append(b, n.nonce...)
	b = append(b, make([]byte, 8)...)
	field(len(info), 56+len(target))
	b = append(b, 10, 0, 0x7c, 0x4f, 0, 0, 0, 15) // Windows Server 2022
	return append(append(b, target...), info...)
}

// ntlmAuthenticate is AUTHENTICATE_MESSAGE ([MS-NLMP], section 2.2.1.3).
type ntlmAuthenticate struct {
	response     []byte // NTLMv2_RESPONSE
	domain, user string
	sessionKey   []byte
	flags        uint32
}

func parseAuthenticate(token []byte) (ntlmAuthenticate, error) {
	if kind, err := ntlmType(token); err != nil || kind != 3 || len(token) < 64 {
		return ntlmAuthenticate{}, errNTLM
	}
	var bad bool
	field := func(at int) []byte {
		size, offset := int(le.Uint16(token[at:])), int(le.Uint32(token[at+4:]))
		if offset > len(token) || size > len(token)-offset {
			bad = true
			return nil
		}
		return token[offset : offset+size]
	}
	a := ntlmAuthenticate{
		response: field(20), domain: decodeUTF16(field(28), false), user: decodeUTF16(field(36), false),
		sessionKey: field(52), flags: le.Uint32(token[60:]),
	}
	if bad {
		return ntlmAuthenticate{}, errNTLM
	}
	return a, nil
}

// The proof and its blob ([MS-NLMP], section 2.2.2.7-8).
const (
	ntlmProofSize = 16
	ntlmBlobSize  = 28
)

func (n *ntlmAcceptor) authenticate(token []byte) error {
	a, err := parseAuthenticate(token)
	if err != nil {
		return err
	}
	if len(a.response) < ntlmProofSize+ntlmBlobSize {
		return errLogon // anonymous or NTLMv1
	}
	password, ok := n.password(a.user)
	if !ok {
		return errLogon
	}
	hash := md4.New()
	hash.Write(encodeUTF16(password))
	owf := hmacMD5(hash.Sum(nil), encodeUTF16(strings.ToUpper(a.user)+a.domain))
	proof := hmacMD5(owf, n.nonce, a.response[ntlmProofSize:])
	if !hmac.Equal(proof, a.response[:ntlmProofSize]) {
		return errLogon
	}
	key := hmacMD5(owf, proof)
	if n.keyExchange = a.flags&ntlmKeyExchange != 0; n.keyExchange {
		if len(a.sessionKey) != 16 {
			return errNTLM
		}
		exported := make([]byte, 16)
		newRC4(key).XORKeyStream(exported, a.sessionKey)
		key = exported
	}
	if wantsMIC(a.response[ntlmProofSize+ntlmBlobSize:]) {
		if len(token) < 88 {
			return errNTLM
		}
		blank := append([]byte(nil), token...)
		clear(blank[72:88])
		if !hmac.Equal(hmacMD5(key, n.negotiate, n.challenge, blank), token[72:88]) {
			return errors.New("wrong message integrity code in NTLM")
		}
		n.micSeen = true
	}
	n.user = a.domain + `\` + a.user
	n.deriveKeys(key)
	return nil
}

// wantsMIC reads MsvAvFlags of the client's target information.
func wantsMIC(info []byte) bool {
	for len(info) >= 4 {
		id, size := le.Uint16(info), int(le.Uint16(info[2:]))
		if id == 0 || 4+size > len(info) {
			return false
		}
		if id == 6 && size == 4 {
			return le.Uint32(info[4:])&2 != 0
		}
		info = info[4+size:]
	}
	return false
}

// deriveKeys are SIGNKEY and SEALKEY with extended session security and 128
// bits ([MS-NLMP], section 3.4.5).
func (n *ntlmAcceptor) deriveKeys(key []byte) {
	derive := func(direction, purpose string) []byte {
		sum := md5.Sum(append(append([]byte(nil), key...),
			"session key to "+direction+" "+purpose+" key magic constant\x00"...))
		return sum[:]
	}
	n.clientSign, n.serverSign = derive("client-to-server", "signing"), derive("server-to-client", "signing")
	n.clientKey, n.serverKey = derive("client-to-server", "sealing"), derive("server-to-client", "sealing")
	n.restartCiphers()
}

func (n *ntlmAcceptor) restartCiphers() {
	n.fromClient, n.toClient = newRC4(n.clientKey), newRC4(n.serverKey)
}

func newRC4(key []byte) *rc4.Cipher {
	c, err := rc4.NewCipher(key)
	if err != nil {
		panic("RC4 refuses a key of 16 octets: " + err.Error())
	}
	return c
}

func hmacMD5(key []byte, parts ...[]byte) []byte {
	h := hmac.New(md5.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

// listMIC checks the peer's mechListMIC and makes ours (RFC 4178, section 5);
// afterwards the ciphers start anew while the sequence numbers go on.
func (n *ntlmAcceptor) listMIC(list, mic []byte) ([]byte, error) {
	if err := n.verify(rpcMessage{packet: list}, mic); err != nil {
		return nil, err
	}
	ours, err := n.sign(rpcMessage{packet: list})
	n.restartCiphers()
	return ours, err
}

// mac is NTLMSSP_MESSAGE_SIGNATURE ([MS-NLMP], section 3.4.4.2).
func (n *ntlmAcceptor) mac(key []byte, cipher *rc4.Cipher, seq *uint32, sum []byte) []byte {
	if n.keyExchange {
		cipher.XORKeyStream(sum, sum)
	}
	b := append([]byte{1, 0, 0, 0}, sum...)
	b = le.AppendUint32(b, *seq)
	*seq++
	return b
}

func checksum(key []byte, seq uint32, packet []byte) []byte {
	return hmacMD5(key, le.AppendUint32(nil, seq), packet)[:8]
}

func (n *ntlmAcceptor) seal(m rpcMessage) ([]byte, error) {
	sum := checksum(n.serverSign, n.ourSeq, m.packet) // over the plain text
	n.toClient.XORKeyStream(m.stub, m.stub)
	return n.mac(n.serverSign, n.toClient, &n.ourSeq, sum), nil
}

func (n *ntlmAcceptor) unseal(m rpcMessage, signature []byte) error {
	n.fromClient.XORKeyStream(m.stub, m.stub)
	return n.verify(m, signature)
}

func (n *ntlmAcceptor) sign(m rpcMessage) ([]byte, error) {
	return n.mac(n.serverSign, n.toClient, &n.ourSeq, checksum(n.serverSign, n.ourSeq, m.packet)), nil
}

func (n *ntlmAcceptor) verify(m rpcMessage, signature []byte) error {
	want := n.mac(n.clientSign, n.fromClient, &n.clientSeq, checksum(n.clientSign, n.clientSeq, m.packet))
	if !hmac.Equal(want, signature) {
		return errors.New("wrong NTLM signature")
	}
	return nil
}
