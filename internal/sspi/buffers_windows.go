package sspi

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/windows"
)

// maxToken is what Windows allows for Kerberos (MaxTokenSize, 48000) and more.
const maxToken = 64 << 10

// Types and attributes of buffers.
const (
	typeData     = 1
	typeToken    = 2
	typeBindings = 14
	readOnly     = 0x80000000 // plain, and not covered by the signature
	checked      = 0x10000000 // plain, and covered
)

// buffer is SecBuffer.
type buffer struct {
	size uint32
	kind uint32
	data *byte
}

// description is SecBufferDesc.
type description struct {
	version uint32
	count   uint32
	buffers *buffer
}

func bufferOf(kind uint32, b []byte) buffer {
	return buffer{size: uint32(len(b)), kind: kind, data: unsafe.SliceData(b)}
}

func describe(b []buffer) *description {
	if len(b) == 0 {
		return nil
	}
	return &description{count: uint32(len(b)), buffers: unsafe.SliceData(b)}
}

// channelBindings is SEC_CHANNEL_BINDINGS: no addresses, and the application's
// data after the head of 32 octets.
func channelBindings(application []byte) []byte {
	if len(application) == 0 {
		return nil
	}
	const head = 32
	b := make([]byte, head, head+len(application))
	binary.LittleEndian.PutUint32(b[24:], uint32(len(application)))
	binary.LittleEndian.PutUint32(b[28:], head)
	return append(b, application...)
}

// authIdentity is SEC_WINNT_AUTH_IDENTITY_W.
type authIdentity struct {
	user           *uint16
	userLength     uint32
	domain         *uint16
	domainLength   uint32
	password       *uint16
	passwordLength uint32
	flags          uint32
}

// encode returns nil for the account that runs the program.
func (i *Identity) encode() (*authIdentity, error) {
	if i == nil {
		return nil, nil
	}
	a := &authIdentity{flags: 2} // Unicode
	for _, f := range []struct {
		text   string
		to     **uint16
		length *uint32
	}{{i.User, &a.user, &a.userLength}, {i.Domain, &a.domain, &a.domainLength}, {i.Password.Reveal(), &a.password, &a.passwordLength}} {
		u, err := windows.UTF16FromString(f.text)
		if err != nil {
			return nil, err
		}
		*f.to, *f.length = &u[0], uint32(len(u)-1)
	}
	return a, nil
}
