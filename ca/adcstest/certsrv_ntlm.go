package adcstest

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"strings"
	"time"

	//lint:ignore SA1019 NTLM is made of it
	"golang.org/x/crypto/md4"
)

// webNTLM accepts NTLM on one HTTP connection ([MS-NLMP], section 3.2.5): no
// signing, no sealing, no key exchange, which HTTP has no use for.
type webNTLM struct {
	domain, computer string
	nonce            []byte
}

var errWebLogon = errors.New("logon failure")

// flags that this acceptor goes along with: Unicode, request target, NTLM,
// always sign, extended session security, 128, 56.
const webNTLMFlags = 0x1 | 0x4 | 0x200 | 0x8000 | 0x80000 | 0x20000000 | 0x80000000

// challenge answers a NEGOTIATE message.
func (n *webNTLM) challenge(negotiate []byte) ([]byte, error) {
	if len(negotiate) < 16 || string(negotiate[:12]) != "NTLMSSP\x00\x01\x00\x00\x00" {
		return nil, errors.New("no NEGOTIATE message")
	}
	n.nonce = make([]byte, 8)
	rand.Read(n.nonce)
	flags := binary.LittleEndian.Uint32(negotiate[12:])&webNTLMFlags | 0x1 | 0x200 | 0x20000 | 0x800000
	var info []byte
	for _, pair := range []struct {
		id    uint16
		value []byte
	}{
		{2, encodeUTF16(n.domain)}, {1, encodeUTF16(n.computer)},
		{7, filetime(time.Now())}, {0, nil},
	} {
		info = binary.LittleEndian.AppendUint16(info, pair.id)
		info = binary.LittleEndian.AppendUint16(info, uint16(len(pair.value)))
		info = append(info, pair.value...)
	}
	target := encodeUTF16(n.domain)
	b := []byte("NTLMSSP\x00\x02\x00\x00\x00")
	field := func(size, offset int) {
		b = binary.LittleEndian.AppendUint16(b, uint16(size))
		b = binary.LittleEndian.AppendUint16(b, uint16(size))
		b = binary.LittleEndian.AppendUint32(b, uint32(offset))
	}
	field(len(target), 56)
	b = binary.LittleEndian.AppendUint32(b, flags)
	b = append(append(b, n.nonce...), make([]byte, 8)...)
	field(len(info), 56+len(target))
	b = append(b, 10, 0, 0x63, 0x45, 0, 0, 0, 15) // version
	return append(append(b, target...), info...), nil
}

// accept checks an AUTHENTICATE message and returns the user and the channel
// binding digest that the answer carries, zeros if there is none.
func (n *webNTLM) accept(b []byte, password func(user string) (string, bool)) (user string, binding [16]byte, err error) {
	if len(b) < 64 || string(b[:12]) != "NTLMSSP\x00\x03\x00\x00\x00" || n.nonce == nil {
		return "", binding, errors.New("no AUTHENTICATE message, or no challenge before it")
	}
	nonce := n.nonce
	n.nonce = nil // a challenge is answered once
	response, ok1 := ntlmField(b, 20)
	domain, ok2 := ntlmField(b, 28)
	name, ok3 := ntlmField(b, 36)
	if !ok1 || !ok2 || !ok3 || len(response) < 16+28 {
		return "", binding, errWebLogon // damaged, anonymous or NTLMv1
	}
	user = decodeUTF16(name, false)
	secret, ok := password(user)
	if !ok {
		return "", binding, errWebLogon
	}
	hash := md4.New()
	hash.Write(encodeUTF16(secret))
	key := webHMAC(hash.Sum(nil), encodeUTF16(strings.ToUpper(user)+decodeUTF16(domain, false)))
	if !hmac.Equal(webHMAC(key, nonce, response[16:]), response[:16]) {
		return "", binding, errWebLogon
	}
	for info := response[16+28:]; len(info) >= 4; {
		id, size := binary.LittleEndian.Uint16(info), int(binary.LittleEndian.Uint16(info[2:]))
		if id == 0 || size > len(info)-4 {
			break
		}
		if id == 10 && size == 16 {
			copy(binding[:], info[4:])
		}
		info = info[4+size:]
	}
	return user, binding, nil
}

// ntlmField reads what a field of a message points at.
func ntlmField(b []byte, at int) ([]byte, bool) {
	size, offset := int(binary.LittleEndian.Uint16(b[at:])), int(binary.LittleEndian.Uint32(b[at+4:]))
	if offset > len(b) || size > len(b)-offset {
		return nil, false
	}
	return b[offset : offset+size], true
}

func webHMAC(key []byte, parts ...[]byte) []byte {
	h := hmac.New(md5.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}
