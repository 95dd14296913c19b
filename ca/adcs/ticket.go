package adcs

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/oiweiwei/go-msrpc/ssp/gssapi"
	"github.com/oiweiwei/go-msrpc/ssp/krb5"
	"github.com/oiweiwei/gokrb5.fork/v9/client"
	"github.com/oiweiwei/gokrb5.fork/v9/iana/flags"
	"github.com/oiweiwei/gokrb5.fork/v9/spnego"
)

// ticketMechanism makes Kerberos contexts from a ticket at hand, in the DCE
// style of three legs ([MS-KILE], section 3.4.5.1).
type ticketMechanism struct {
	krb5.Mechanism
	ticket serviceTicket
}

// DefaultConfig implements gssapi.MechanismFactory.
func (ticketMechanism) DefaultConfig(context.Context) (gssapi.MechanismConfig, error) {
	return &krb5.Config{DCEStyle: true, DisablePAFXFAST: true}, nil
}

// New implements gssapi.MechanismFactory.
func (f ticketMechanism) New(ctx context.Context) (gssapi.Mechanism, error) {
	m, err := krb5.Mechanism{}.New(ctx)
	if err != nil {
		return nil, err
	}
	inner, ok := m.(*krb5.Mechanism)
	if !ok {
		return nil, errors.New("kerberos: the library made another mechanism")
	}
	inner.Config.Flags = append(inner.Config.Flags, int(gssapi.MutualAuthn))
	inner.Config.APOptions = append(inner.Config.APOptions, flags.APOptionMutualRequired)
	return &ticketContext{Mechanism: inner, ticket: f.ticket}, nil
}

type ticketContext struct {
	*krb5.Mechanism
	ticket serviceTicket
}

var _ gssapi.MechanismEx = (*ticketContext)(nil)

// Init implements gssapi.Mechanism.
func (m *ticketContext) Init(ctx context.Context, in *gssapi.Token) (*gssapi.Token, error) {
	if m.APReq == nil {
		b, err := m.request()
		if err != nil {
			return nil, gssapi.ContextError(ctx, gssapi.Failure, fmt.Errorf("kerberos: %w", err))
		}
		return &gssapi.Token{Payload: b}, gssapi.ContextContinueNeeded(ctx)
	}
	if len(in.Payload) == 0 { // the library would go on without a proof
		return nil, gssapi.ContextError(ctx, gssapi.Failure, errors.New("kerberos: the CA did not prove who it is (no AP-REP)"))
	}
	out, err := m.Mechanism.Init(ctx, in)
	if err != nil {
		return nil, err
	}
	if err := m.checkReply(); err != nil {
		return nil, err
	}
	return out, nil
}

// request makes the AP-REQ, bare as DCE style wants it. The CA takes two
// authenticators of one microsecond for a replay (RFC 4120, section 3.2.3), and
// connections are made at the same time: each has a microsecond of its own.
func (m *ticketContext) request() ([]byte, error) {
	m.ticket.turn.Lock()
	defer m.ticket.turn.Unlock()
	defer func() {
		for made := time.Now().UnixMicro(); time.Now().UnixMicro() == made; {
			runtime.Gosched()
		}
	}()
	cl := &client.Client{Credentials: m.ticket.client}
	tok, err := spnego.NewKRB5TokenAPREQ(cl, m.ticket.ticket, m.ticket.key, m.Config.Flags, m.Config.APOptions)
	if err != nil {
		return nil, err
	}
	m.APReq, m.SessionKey = &tok.APReq, m.ticket.key
	if err := m.APReq.DecryptAuthenticator(m.SessionKey); err != nil {
		return nil, err
	}
	return tok.APReq.Marshal()
}

// checkReply checks that the AP-REP answers this AP-REQ (RFC 4120, section
// 3.2.5), which the library does not.
func (m *ticketContext) checkReply() error {
	if m.APRep == nil {
		return errors.New("kerberos: no AP-REP")
	}
	sent, got := m.APReq.Authenticator, m.APRep.DecryptedEncPart
	if !got.CTime.Equal(sent.CTime) || got.Cusec != sent.Cusec {
		return errors.New("kerberos: the CA answered another sign-in (replay?)")
	}
	if len(got.Subkey.KeyValue) == 0 {
		return errors.New("kerberos: the CA gave no key for this connection")
	}
	return nil
}
