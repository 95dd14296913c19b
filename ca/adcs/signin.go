package adcs

import (
	"context"
	"crypto/fips140"
	"crypto/subtle"
	"errors"

	"github.com/oiweiwei/go-msrpc/dcerpc"
	"github.com/oiweiwei/go-msrpc/ssp/credential"
	"github.com/oiweiwei/go-msrpc/ssp/gssapi"
	"github.com/oiweiwei/go-msrpc/ssp/ntlm"
	"github.com/oiweiwei/go-msrpc/ssp/spnego"

	"github.com/certconnector/certconnector/internal/negotiate"
)

// Mechanism signs in to the CA. Kerberos and NTLM are built in; another one,
// as Windows' SSPI with the identity of the process, is given by Config.
type Mechanism interface {
	// Name is what the log and the self-test call it: kerberos, ntlm, sspi.
	Name() string
	// Options are the mechanism and the credential of one bind to a target,
	// host/<fqdn>. They must not rest in the library's global stores.
	Options(ctx context.Context, target string) ([]dcerpc.Option, error)
	// Refused is called after a bind was refused: what is cached may be stale.
	Refused()
}

// ErrFIPS says why New refuses to sign in by itself.
var ErrFIPS = errors.New("FIPS-only mode (GODEBUG=fips140=only) is on: NTLM needs MD4, MD5 and RC4, and Kerberos derives keys that are too short for it; " +
	"use web enrolment or CES with a client certificate, or the Windows identity")

// checkFIPS refuses what would end in a panic later.
func checkFIPS(enforced func() bool) error {
	if enforced() {
		return ErrFIPS
	}
	return nil
}

var fipsEnforced = fips140.Enforced

// protect are the options of every bind that is not the endpoint mapper's:
// packet privacy, always.
func protect(target string, opts []dcerpc.Option) []dcerpc.Option {
	return append(opts, dcerpc.WithTargetName(target), dcerpc.WithSeal())
}

// inSPNEGO wraps a mechanism into SPNEGO (RFC 4178), RPC authentication type 9.
type inSPNEGO struct{ Mechanism }

// Options implements Mechanism.
func (m inSPNEGO) Options(ctx context.Context, target string) ([]dcerpc.Option, error) {
	opts, err := m.Mechanism.Options(ctx, target)
	// The first mechanism of a bind is the one that is spoken; the others are
	// what it negotiates.
	return append([]dcerpc.Option{dcerpc.WithMechanism(spnego.Mechanism{})}, opts...), err
}

// ntlmSignIn signs in with a password and NTLM version 2.
type ntlmSignIn struct{ account negotiate.NTLM }

// Name implements Mechanism.
func (ntlmSignIn) Name() string { return "ntlm" }

// Refused implements Mechanism.
func (ntlmSignIn) Refused() {}

// Options implements Mechanism.
func (m ntlmSignIn) Options(context.Context, string) ([]dcerpc.Option, error) {
	cred := credential.NewFromPassword(m.account.User, m.account.Password.Reveal())
	return []dcerpc.Option{dcerpc.WithCredentials(cred), dcerpc.WithMechanism(verifiedNTLM{})}, nil
}

// verifiedNTLM makes NTLM contexts that compare the signature of sealed
// messages. The library computes it, returns it and compares nothing; with RC4
// an attacker on the way could change any bit of a reply.
type verifiedNTLM struct{ ntlm.Mechanism }

// New implements gssapi.MechanismFactory.
func (verifiedNTLM) New(ctx context.Context) (gssapi.Mechanism, error) {
	m, err := ntlm.Mechanism{}.New(ctx)
	if err != nil {
		return nil, err
	}
	inner, ok := m.(*ntlm.Mechanism)
	if !ok {
		return nil, errors.New("NTLM: the library made another mechanism")
	}
	return &verifiedNTLMContext{inner}, nil
}

type verifiedNTLMContext struct{ *ntlm.Mechanism }

var _ gssapi.MechanismEx = (*verifiedNTLMContext)(nil)

// UnwrapEx implements gssapi.MechanismEx.
func (m *verifiedNTLMContext) UnwrapEx(ctx context.Context, in *gssapi.MessageTokenEx) (*gssapi.MessageTokenEx, error) {
	out, err := m.Mechanism.UnwrapEx(ctx, in)
	if err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(in.Signature, out.Signature) != 1 {
		return nil, gssapi.ContextError(ctx, gssapi.BadMIC, gssapi.ErrBadMIC)
	}
	return out, nil
}
