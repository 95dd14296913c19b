package negotiate

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf16"

	"github.com/Azure/go-ntlmssp"
)

// AV pairs of [MS-NLMP] 2.2.2.1.
const (
	avEnd             = 0
	avTargetName      = 9
	avChannelBindings = 10
)

// dialogue makes the two messages of a client that signs in with NTLM. Each
// call of negotiate begins anew.
type dialogue interface {
	negotiate(ctx context.Context, spn string, server *x509.Certificate) ([]byte, error)
	authenticate(ctx context.Context, challenge []byte, spn string, server *x509.Certificate) ([]byte, error)
}

func (t *Transport) newDialogue() dialogue {
	if t.config.SSPI != nil {
		return &sspiDialogue{as: *t.config.SSPI}
	}
	return t.config.NTLM
}

// authorization is the value of the header.
func authorization(scheme string, message []byte) string {
	return scheme + " " + base64.StdEncoding.EncodeToString(message)
}

func (*NTLM) negotiate(context.Context, string, *x509.Certificate) ([]byte, error) {
	return ntlmssp.NewNegotiateMessage("", "")
}

// authenticate answers the server's challenge. The library copies the server's
// target information into its answer as it stands; so the channel binding and
// the target's name, which belong there, are put into the challenge before.
func (n *NTLM) authenticate(_ context.Context, challenge []byte, spn string, server *x509.Certificate) ([]byte, error) {
	bound, err := bindChallenge(challenge, spn, bindingOf(server))
	if err != nil {
		return nil, err
	}
	b, err := ntlmssp.NewAuthenticateMessage(bound, n.User, n.Password.Reveal(), nil)
	if err != nil {
		return nil, fmt.Errorf("ntlm: %w", err)
	}
	return b, nil
}

// bindChallenge adds MsvAvChannelBindings and MsvAvTargetName to the target
// information of a CHALLENGE message ([MS-NLMP] 2.2.1.2), which moves to its
// end. Whatever the server sent of these two is dropped.
func bindChallenge(challenge []byte, spn string, binding [16]byte) ([]byte, error) {
	const header = 48
	if len(challenge) < header || string(challenge[:8]) != "NTLMSSP\x00" || binary.LittleEndian.Uint32(challenge[8:]) != 2 {
		return nil, errors.New("ntlm: the server's challenge is no CHALLENGE message")
	}
	size, offset := int(binary.LittleEndian.Uint16(challenge[40:])), int(binary.LittleEndian.Uint32(challenge[44:]))
	if size == 0 {
		return nil, errors.New("ntlm: the server offers no NTLMv2")
	}
	if offset < header || offset > len(challenge) || size > len(challenge)-offset {
		return nil, errors.New("ntlm: the server's challenge is cut off")
	}
	var info []byte
	for rest := challenge[offset : offset+size]; ; {
		if len(rest) < 4 {
			return nil, errors.New("ntlm: the server's target information is cut off")
		}
		id, n := binary.LittleEndian.Uint16(rest), int(binary.LittleEndian.Uint16(rest[2:]))
		if id == avEnd {
			break
		}
		if n > len(rest)-4 {
			return nil, errors.New("ntlm: the server's target information is cut off")
		}
		if id != avChannelBindings && id != avTargetName {
			info = append(info, rest[:4+n]...)
		}
		rest = rest[4+n:]
	}
	info = appendPair(info, avTargetName, utf16le(spn))
	info = appendPair(info, avChannelBindings, binding[:])
	info = appendPair(info, avEnd, nil)
	if len(info) > 0xffff {
		return nil, errors.New("ntlm: the server's target information is too long")
	}
	bound := append([]byte(nil), challenge...)
	binary.LittleEndian.PutUint16(bound[40:], uint16(len(info)))
	binary.LittleEndian.PutUint16(bound[42:], uint16(len(info)))
	binary.LittleEndian.PutUint32(bound[44:], uint32(len(bound)))
	return append(bound, info...), nil
}

func appendPair(b []byte, id uint16, value []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, id)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}

func utf16le(s string) []byte {
	var b []byte
	for _, c := range utf16.Encode([]rune(s)) {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	return b
}

// offered returns the token that the server sent with a scheme.
func offered(h http.Header, scheme string) []byte {
	for _, v := range h.Values("WWW-Authenticate") {
		name, rest, _ := strings.Cut(strings.TrimSpace(v), " ")
		if !strings.EqualFold(name, scheme) {
			continue
		}
		if token, err := base64.StdEncoding.DecodeString(strings.TrimSpace(rest)); err == nil {
			return token
		}
	}
	return nil
}
