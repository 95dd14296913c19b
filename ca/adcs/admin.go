package adcs

import (
	"context"
	"errors"

	"github.com/oiweiwei/go-msrpc/dcerpc"
	admin1 "github.com/oiweiwei/go-msrpc/msrpc/dcom/csra/icertadmind/v0"
	admin2 "github.com/oiweiwei/go-msrpc/msrpc/dcom/csra/icertadmind2/v0"
)

// admin is an object of the administration interface ([MS-CSRA]). It can have
// one view of the database open, so it serves one user at a time.
type admin struct {
	*object
	authority string
	one       admin1.CertAdminDClient
	two       admin2.CertAdminD2Client
}

func (a *admin) wire() *wire { return a.object.wire }

func (c *CA) dialAdmin(ctx context.Context) (*admin, error) {
	a := &admin{authority: c.authority}
	o, err := c.activate(ctx, classAdmin, admin2.CertAdminD2IID,
		func(ctx context.Context, cc dcerpc.Conn, _ *object, opts []dcerpc.Option) (err error) {
			if a.two, err = admin2.NewCertAdminD2Client(ctx, cc, opts...); err != nil {
				return err
			}
			a.one = a.two.CertAdminD()
			return nil
		})
	if err != nil {
		return nil, err
	}
	a.object = o
	return a, nil
}

// administer runs calls on one object. The object is kept after answers, of
// whatever kind; without one, or when the CA has lost its state, it is dropped.
// A kept connection that was closed meanwhile is replaced once.
func (c *CA) administer(ctx context.Context, step string, do func(ctx context.Context, a *admin) error) error {
	for attempt := 0; ; attempt++ {
		k, reused, err := c.admins.get(ctx)
		if err != nil {
			return c.unreachable(step, err, 0)
		}
		err = do(ctx, k.conn)
		code, isAnswer := answered(err)
		if err == nil || isAnswer && code != codeHandle && code != codeUnexpected {
			c.admins.give(k)
			return err
		}
		sent, fault := k.conn.wire().outcome()
		c.admins.drop(k)
		_, told := errors.AsType[*problem](err)
		switch {
		case isAnswer, told:
			return err
		case fault == codeAccessFault:
			return c.codeOf(step, accessDenied)
		case !sent && reused && attempt == 0 && ctx.Err() == nil:
			continue
		case !sent:
			return c.unreachable(step, err, fault)
		}
		return c.unknown(step, err, fault)
	}
}

// serverState asks whether the account may read the database; nothing is
// needed to ask ([MS-CSRA], section 3.1.4.1.17).
func (a *admin) serverState(ctx context.Context) (readable bool, ret int32, err error) {
	out, err := a.one.GetServerState(ctx, &admin1.GetServerStateRequest{This: a.this(), Authority: a.authority})
	if out == nil {
		return false, 0, err
	}
	return out.State == 1, out.Return, nil
}

// property is GetCAProperty of the administration interface.
func (a *admin) property(ctx context.Context, id, index, kind int32) (value []byte, ret int32, err error) {
	out, err := a.two.GetCAProperty(ctx, &admin2.GetCAPropertyRequest{
		This: a.this(), Authority: a.authority, PropertyID: id, PropertyIndex: index, PropertyType: kind,
	})
	if out == nil {
		return nil, 0, err
	}
	if out.PropertyValue == nil {
		return nil, out.Return, nil
	}
	return out.PropertyValue.Buffer, out.Return, nil
}
