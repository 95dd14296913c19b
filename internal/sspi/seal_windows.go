package sspi

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"
)

var (
	encryptMessage = secur32.NewProc("EncryptMessage")
	decryptMessage = secur32.NewProc("DecryptMessage")
)

// SignatureSize is the length of the signatures that Seal returns.
func (c *Context) SignatureSize() int { return c.size }

// Seal encrypts the secret parts in place and returns the signature. Messages
// are numbered in the order of the calls.
func (c *Context) Seal(parts []Part) (signature []byte, err error) {
	if c.size == 0 {
		return nil, errors.New("sspi: sealing before the sign-in is done")
	}
	signature = make([]byte, c.size)
	buffers := buffersOf(parts, signature)
	status, _, _ := encryptMessage.Call(uintptr(unsafe.Pointer(&c.h.context)), 0, uintptr(unsafe.Pointer(describe(buffers))), 0)
	runtime.KeepAlive(parts)
	if err := failure(status); err != nil {
		return nil, fmt.Errorf("sealing a message: %w", err)
	}
	if n := int64(buffers[len(buffers)-1].size); n != int64(len(signature)) {
		return nil, fmt.Errorf("sealing a message: the signature has %d octets, not the %d that were announced", n, len(signature))
	}
	return signature, nil
}

// Open decrypts the secret parts in place. An error says that somebody changed
// the message, or left one out.
func (c *Context) Open(parts []Part, signature []byte) error {
	if c.size == 0 {
		return errors.New("sspi: opening before the sign-in is done")
	}
	if len(signature) == 0 {
		return errors.New("the message has no signature")
	}
	buffers := buffersOf(parts, signature)
	var quality uint32
	status, _, _ := decryptMessage.Call(uintptr(unsafe.Pointer(&c.h.context)), uintptr(unsafe.Pointer(describe(buffers))), 0,
		uintptr(unsafe.Pointer(&quality)))
	runtime.KeepAlive(parts)
	runtime.KeepAlive(signature)
	if err := failure(status); err != nil {
		return fmt.Errorf("opening a message: %w", err)
	}
	const notEncrypted = 0x80000001 // SECQOP_WRAP_NO_ENCRYPT
	if quality == notEncrypted {
		return errors.New("opening a message: it was signed, but not encrypted")
	}
	return nil
}

// buffersOf describes a message as DCE/RPC has it: each part by itself, the
// signature last.
func buffersOf(parts []Part, signature []byte) []buffer {
	buffers := make([]buffer, 0, len(parts)+1)
	for _, p := range parts {
		kind := uint32(typeData)
		switch {
		case p.Secret:
		case p.Covered:
			kind |= checked
		default:
			kind |= readOnly
		}
		buffers = append(buffers, bufferOf(kind, p.Data))
	}
	return append(buffers, bufferOf(typeToken, signature))
}
