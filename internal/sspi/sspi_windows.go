package sspi

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/windows"
)

var (
	secur32         = windows.NewLazySystemDLL("secur32.dll")
	acquire         = secur32.NewProc("AcquireCredentialsHandleW")
	initialize      = secur32.NewProc("InitializeSecurityContextW")
	complete        = secur32.NewProc("CompleteAuthToken")
	queryAttributes = secur32.NewProc("QueryContextAttributesW")
	deleteContext   = secur32.NewProc("DeleteSecurityContext")
	freeCredentials = secur32.NewProc("FreeCredentialsHandle")
)

// Available says whether this system has SSPI.
func Available() bool { return true }

// handle is CredHandle and CtxtHandle.
type handle struct{ lower, upper uintptr }

// handles are what Windows has to take back.
type handles struct {
	lease
	credentials handle
	context     handle
	opened      bool // there is a context
}

func (h *handles) free() {
	if h.opened {
		_, _, _ = deleteContext.Call(uintptr(unsafe.Pointer(&h.context)))
	}
	_, _, _ = freeCredentials.Call(uintptr(unsafe.Pointer(&h.credentials)))
}

// Context is a sign-in to one service. It is used by one goroutine at a time.
type Context struct {
	h       *handles
	request Request
	target  *uint16
	flags   uintptr
	size    int // of a signature
	done    bool
}

// Flags of InitializeSecurityContext, asked for and returned.
const (
	mutual          = 0x00002
	replayDetect    = 0x00004
	sequenceDetect  = 0x00008
	confidentiality = 0x00010
	dceStyle        = 0x00200
	integrity       = 0x10000
)

// New prepares a sign-in. Nothing is sent; the account's credentials are the
// ones that Windows has.
func New(r Request) (*Context, error) {
	const outbound = 2 // SECPKG_CRED_OUTBOUND
	name, err := windows.UTF16PtrFromString(string(r.Package))
	if err != nil {
		return nil, err
	}
	target, err := windows.UTF16PtrFromString(r.Target)
	if err != nil {
		return nil, fmt.Errorf("service principal name: %w", err)
	}
	as, err := r.TestingAs.encode()
	if err != nil {
		return nil, err
	}
	c := &Context{h: &handles{}, request: r, target: target}
	if r.DCE { // a web server asks for nothing: TLS protects the messages
		c.flags = integrity | replayDetect | sequenceDetect | confidentiality
	}
	if r.DCE && r.Package == Kerberos { // NTLM has three legs as it is, and proves no server
		c.flags |= dceStyle | mutual
	}
	var expires int64
	status, _, _ := acquire.Call(0, uintptr(unsafe.Pointer(name)), outbound, 0, uintptr(unsafe.Pointer(as)), 0, 0,
		uintptr(unsafe.Pointer(&c.h.credentials)), uintptr(unsafe.Pointer(&expires)))
	if err := failure(status); err != nil {
		return nil, fmt.Errorf("taking this account's credentials for %s: %w", r.Package, err)
	}
	c.h.giveBack = c.h.free
	runtime.AddCleanup(c, (*handles).close, c.h)
	return c, nil
}

// Close gives what Windows holds back: at once, or when a Step that outlived its
// caller returns. A context that is forgotten does so too, later.
func (c *Context) Close() { c.h.close() }

// Step takes what the other side sent, nil at first, and returns what is to be
// sent next. done says that this side is ready; what is returned with it, if
// anything, is to be sent all the same. Windows may ask a domain controller and
// cannot be told to stop: when ctx ends first, the context is closed.
func (c *Context) Step(ctx context.Context, in []byte) (out []byte, done bool, err error) {
	type answer struct {
		out  []byte
		done bool
		err  error
	}
	if !c.h.begin() {
		return nil, false, errors.New("the sign-in was given up already")
	}
	over := make(chan answer, 1)
	go func() {
		out, done, err := c.step(in)
		c.h.end() // before the caller goes on to the next one
		over <- answer{out, done, err}
	}()
	select {
	case a := <-over:
		return a.out, a.done, a.err
	case <-ctx.Done():
		c.h.close()
		return nil, false, fmt.Errorf("signing in to %s with %s: %w", c.request.Target, c.request.Package, ctx.Err())
	}
}

func (c *Context) step(in []byte) (out []byte, done bool, err error) {
	const (
		nativeData     = 0x10
		continueNeeded = 0x90312
		completeNeeded = 0x90313
		completeMore   = 0x90314
	)
	if c.done {
		return nil, true, errors.New("the sign-in is over already")
	}
	var buffers []buffer
	if len(in) > 0 {
		buffers = append(buffers, bufferOf(typeToken, in))
	}
	// Kerberos binds with its first message, NTLM with its second.
	if bound := channelBindings(c.request.Binding); bound != nil && (c.request.Package == Kerberos || len(in) > 0) {
		buffers = append(buffers, bufferOf(typeBindings, bound))
	}
	out = make([]byte, maxToken)
	answer := []buffer{bufferOf(typeToken, out)}
	given, taken := describe(buffers), describe(answer)
	var before uintptr
	if c.h.opened {
		before = uintptr(unsafe.Pointer(&c.h.context))
	}
	var attributes uint32
	var expires int64
	status, _, _ := initialize.Call(uintptr(unsafe.Pointer(&c.h.credentials)), before, uintptr(unsafe.Pointer(c.target)), c.flags,
		0, nativeData, uintptr(unsafe.Pointer(given)), 0, uintptr(unsafe.Pointer(&c.h.context)),
		uintptr(unsafe.Pointer(taken)), uintptr(unsafe.Pointer(&attributes)), uintptr(unsafe.Pointer(&expires)))
	runtime.KeepAlive(buffers)
	runtime.KeepAlive(in)
	if err := failure(status); err != nil {
		return nil, false, fmt.Errorf("signing in to %s with %s: %w", c.request.Target, c.request.Package, err)
	}
	c.h.opened = true
	if status == completeNeeded || status == completeMore {
		s, _, _ := complete.Call(uintptr(unsafe.Pointer(&c.h.context)), uintptr(unsafe.Pointer(taken)))
		if err := failure(s); err != nil {
			return nil, false, fmt.Errorf("signing in to %s with %s: %w", c.request.Target, c.request.Package, err)
		}
	}
	c.done = status != continueNeeded && status != completeMore
	if int64(answer[0].size) > int64(len(out)) {
		return nil, false, errors.New("sspi: a token is longer than its room")
	}
	if c.done {
		if err := c.ready(attributes); err != nil {
			return nil, false, err
		}
	}
	return out[:answer[0].size], c.done, nil
}

// ready checks what was negotiated for the finished context.
func (c *Context) ready(negotiated uint32) error {
	if !c.request.DCE {
		return nil
	}
	if negotiated == 0 { // as always under Wine with NTLM
		const flags = 14 // SECPKG_ATTR_FLAGS
		status, _, _ := queryAttributes.Call(uintptr(unsafe.Pointer(&c.h.context)), flags, uintptr(unsafe.Pointer(&negotiated)))
		if err := failure(status); err != nil {
			return fmt.Errorf("asking what was negotiated: %w", err)
		}
	}
	for flag, what := range map[uintptr]string{
		confidentiality: "messages would not be encrypted", integrity: "messages would not be signed",
		mutual: "the server did not prove who it is",
	} {
		if c.flags&flag != 0 && uintptr(negotiated)&flag == 0 {
			return fmt.Errorf("%w: %s with %s: %s", ErrRefused, c.request.Target, c.request.Package, what)
		}
	}
	const sizes = 0 // SECPKG_ATTR_SIZES
	var s struct{ token, signature, block, trailer uint32 }
	status, _, _ := queryAttributes.Call(uintptr(unsafe.Pointer(&c.h.context)), sizes, uintptr(unsafe.Pointer(&s)))
	if err := failure(status); err != nil {
		return fmt.Errorf("asking for the size of signatures: %w", err)
	}
	c.size = int(s.trailer)
	if c.size == 0 || c.size > maxToken {
		return fmt.Errorf("signatures of %d octets make no sense", c.size)
	}
	return nil
}
