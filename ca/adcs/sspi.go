package adcs

import (
	"context"
	"errors"

	"github.com/oiweiwei/go-msrpc/dcerpc"
	"github.com/oiweiwei/go-msrpc/ssp"
	"github.com/oiweiwei/go-msrpc/ssp/credential"
	"github.com/oiweiwei/go-msrpc/ssp/gssapi"

	"github.com/certconnector/certconnector/internal/negotiate"
	"github.com/certconnector/certconnector/internal/sspi"
)

// sspiSignIn signs in as the account that runs the program.
type sspiSignIn struct {
	who negotiate.SSPI
	// open starts a sign-in; tests have another than Windows.
	open func(sspi.Request) (sealer, error)
}

// sealer is what a sign-in by SSPI can do; see sspi.Context.
type sealer interface {
	Step(ctx context.Context, in []byte) (out []byte, done bool, err error)
	SignatureSize() int
	Seal([]sspi.Part) (signature []byte, err error)
	Open(parts []sspi.Part, signature []byte) error
}

func openSSPI(r sspi.Request) (sealer, error) { return sspi.New(r) }

// Name implements Mechanism.
func (m sspiSignIn) Name() string { return m.who.Name() }

// Refused implements Mechanism: Windows keeps the tickets.
func (sspiSignIn) Refused() {}

// Options implements Mechanism.
func (m sspiSignIn) Options(_ context.Context, target string) ([]dcerpc.Option, error) {
	if m.who.SPN != "" {
		target = m.who.SPN
	}
	// The library insists on a credential; Windows has the real one.
	none := credential.NewFromPassword("", "", credential.AllowEmptyPassword())
	return []dcerpc.Option{dcerpc.WithCredentials(none), dcerpc.WithMechanism(sspiFactory{m, target})}, nil
}

// sspiFactory makes contexts of one target for the library.
type sspiFactory struct {
	signIn sspiSignIn
	target string
}

// Type implements gssapi.MechanismFactory.
func (f sspiFactory) Type() gssapi.OID {
	if f.signIn.who.Package() == sspi.NTLM {
		return ssp.MechanismTypeNTLM
	}
	return ssp.MechanismTypeKRB5
}

// sspiConfig is nothing that the library has to know.
type sspiConfig struct{ oid gssapi.OID }

func (c sspiConfig) Type() gssapi.OID             { return c.oid }
func (c sspiConfig) Copy() gssapi.MechanismConfig { return c }

// DefaultConfig implements gssapi.MechanismFactory.
func (f sspiFactory) DefaultConfig(context.Context) (gssapi.MechanismConfig, error) {
	return sspiConfig{f.Type()}, nil
}

// New implements gssapi.MechanismFactory.
func (f sspiFactory) New(ctx context.Context) (gssapi.Mechanism, error) {
	c, err := f.signIn.open(sspi.Request{Package: f.signIn.who.Package(), Target: f.target, DCE: true, TestingAs: f.signIn.who.TestingAs})
	if err != nil {
		return nil, gssapi.ContextError(ctx, gssapi.Failure, err)
	}
	return &sspiContext{oid: f.Type(), sealer: c}, nil
}

// sspiContext is one sign-in. The bridge knows packet privacy only, so of all
// that a mechanism may do it seals and opens messages, and nothing else.
type sspiContext struct {
	oid gssapi.OID
	sealer
}

var (
	_ gssapi.Mechanism   = (*sspiContext)(nil)
	_ gssapi.MechanismEx = (*sspiContext)(nil)
)

// Type implements gssapi.Mechanism.
func (m *sspiContext) Type() gssapi.OID { return m.oid }

// Init implements gssapi.Mechanism.
func (m *sspiContext) Init(ctx context.Context, in *gssapi.Token) (*gssapi.Token, error) {
	out, done, err := m.Step(ctx, in.Payload)
	if err != nil {
		return nil, gssapi.ContextError(ctx, gssapi.Failure, err)
	}
	if !done {
		return &gssapi.Token{Payload: out}, gssapi.ContextContinueNeeded(ctx)
	}
	return &gssapi.Token{Payload: out}, gssapi.ContextComplete(ctx)
}

// WrapSizeLimit implements gssapi.Mechanism.
func (m *sspiContext) WrapSizeLimit(_ context.Context, size int, _ bool) int {
	return size - m.SignatureSize()
}

// partsOf is a message as SSPI takes it.
func partsOf(payloads []*gssapi.PayloadEx) []sspi.Part {
	parts := make([]sspi.Part, len(payloads))
	for i, p := range payloads {
		parts[i] = sspi.Part{Data: p.Payload, Secret: p.Capabilities.IsSet(gssapi.Confidentiality), Covered: p.Capabilities.IsSet(gssapi.Integrity)}
	}
	return parts
}

// WrapEx implements gssapi.MechanismEx.
func (m *sspiContext) WrapEx(ctx context.Context, in *gssapi.MessageTokenEx) (*gssapi.MessageTokenEx, error) {
	signature, err := m.Seal(partsOf(in.Payloads))
	if err != nil {
		return nil, gssapi.ContextError(ctx, gssapi.Failure, err)
	}
	in.Signature = signature
	return in, nil
}

// UnwrapEx implements gssapi.MechanismEx.
func (m *sspiContext) UnwrapEx(ctx context.Context, in *gssapi.MessageTokenEx) (*gssapi.MessageTokenEx, error) {
	if err := m.sealer.Open(partsOf(in.Payloads), in.Signature); err != nil {
		return nil, gssapi.ContextError(ctx, gssapi.BadMIC, err)
	}
	return in, nil
}

var errPrivacyOnly = errors.New("sspi: messages to a CA are sealed, never signed only")

// Accept implements gssapi.Mechanism: this is a client.
func (*sspiContext) Accept(ctx context.Context, _ *gssapi.Token) (*gssapi.Token, error) {
	return nil, gssapi.ContextError(ctx, gssapi.Unavailable, gssapi.ErrUnavailable)
}

// Wrap implements gssapi.Mechanism.
func (*sspiContext) Wrap(context.Context, *gssapi.MessageToken) (*gssapi.MessageToken, error) {
	return nil, errPrivacyOnly
}

// Unwrap implements gssapi.Mechanism.
func (*sspiContext) Unwrap(context.Context, *gssapi.MessageToken) (*gssapi.MessageToken, error) {
	return nil, errPrivacyOnly
}

// MakeSignature implements gssapi.Mechanism.
func (*sspiContext) MakeSignature(context.Context, *gssapi.MessageToken) (*gssapi.MessageToken, error) {
	return nil, errPrivacyOnly
}

// VerifySignature implements gssapi.Mechanism.
func (*sspiContext) VerifySignature(context.Context, *gssapi.MessageToken) error {
	return errPrivacyOnly
}

// MakeSignatureEx implements gssapi.MechanismEx.
func (*sspiContext) MakeSignatureEx(context.Context, *gssapi.MessageTokenEx) (*gssapi.MessageTokenEx, error) {
	return nil, errPrivacyOnly
}

// VerifySignatureEx implements gssapi.MechanismEx.
func (*sspiContext) VerifySignatureEx(context.Context, *gssapi.MessageTokenEx) error {
	return errPrivacyOnly
}
