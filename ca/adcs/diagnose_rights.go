package adcs

import (
	"context"
	"errors"

	admin2 "github.com/oiweiwei/go-msrpc/msrpc/dcom/csra/icertadmind2/v0"

	"github.com/certconnector/certconnector/ca"
)

// What GetMyRoles tells ([MS-CSRA], section 3.1.4.2.17).
const (
	roleAdministrator = 0x1
	roleOfficer       = 0x2
)

// diagnoseAdmin asks for the account's roles. reached says that the
// administration interface answered.
func (c *CA) diagnoseAdmin(ctx context.Context) (list []ca.Finding, reached bool) {
	ctx, cancel := context.WithTimeout(ctx, ca.ProbeTimeout)
	defer cancel()
	if !c.revoke && !c.find {
		return []ca.Finding{c.notDeclared(ca.CheckRoadRevoke, "revoke"), c.notDeclared(ca.CheckRoadFind, "find")}, false
	}
	var readable bool
	err := c.administer(ctx, "asking for the right to read", func(ctx context.Context, a *admin) (err error) {
		var ret int32
		if readable, ret, err = a.serverState(ctx); err != nil {
			return err
		}
		return c.codeOf("asking for the right to read", ret)
	})
	if code, ok := answered(err); ok && code == codeInvalid {
		return []ca.Finding{c.otherName()}, false
	}
	if errors.Is(err, ca.ErrForbidden) {
		return []ca.Finding{ca.Found(ca.Failure, ca.CheckRoadFind, "put the account into Certificate Service DCOM Access, and take IF_NOREMOTEICERTADMIN from InterfaceFlags at the CA",
			"the administration interface refuses the account: %s", briefly(err))}, false
	}
	if err != nil {
		return c.diagnoseError("road csra", err), false
	}
	var roles uint32
	if readable {
		if roles, err = c.roles(ctx); err != nil {
			list = append(list, ca.Found(ca.Warning, ca.CheckOfficer, "", "the account's roles could not be read: %s", briefly(err)))
		}
	}
	return append(list, c.judgeRoles(readable, roles)...), true
}

// roles is GetMyRoles, which the right to read is needed for.
func (c *CA) roles(ctx context.Context) (roles uint32, err error) {
	const step = "asking for the account's roles"
	err = c.administer(ctx, step, func(ctx context.Context, a *admin) error {
		out, err := a.two.GetMyRoles(ctx, &admin2.GetMyRolesRequest{This: a.this(), Authority: a.authority})
		if out == nil {
			return err
		}
		roles = uint32(out.Roles)
		return c.codeOf(step, out.Return)
	})
	return roles, err
}

func (c *CA) judgeRoles(readable bool, roles uint32) []ca.Finding {
	const toRead = "grant the account Read on the Security tab of the CA"
	list := []ca.Finding{ca.Found(ca.OK, ca.CheckRead, "", "the account may read the CA's database")}
	if !readable {
		level := ca.Warning
		if c.find {
			level = ca.Failure
		}
		list[0] = ca.Found(level, ca.CheckRead, toRead, "the account may not read the CA's database: an issue whose answer was lost cannot be looked up")
	}
	switch {
	case !c.find:
		list = append(list, c.notDeclared(ca.CheckRoadFind, "find"))
	case readable:
		list = append(list, ca.Found(ca.OK, ca.CheckRoadFind, "", "road csra answers"))
	}
	switch {
	case !c.revoke:
		list = append(list, c.notDeclared(ca.CheckRoadRevoke, "revoke"))
	case roles&roleOfficer == 0:
		list = append(list, ca.Found(ca.Failure, ca.CheckOfficer, "grant the account Issue and Manage Certificates on the Security tab of the CA, or take revoke (and approve) from the configuration",
			"the account is no officer of the CA: it cannot revoke"))
	default:
		list = append(list, ca.Found(ca.OK, ca.CheckOfficer, "", "the account has Issue and Manage Certificates"),
			ca.Found(ca.OK, ca.CheckRoadRevoke, "", "road csra answers"))
	}
	if roles&roleAdministrator != 0 {
		list = append(list, ca.Found(ca.Warning, ca.CheckExcess, "take Manage CA from the account: the connector does not need it, and with role separation the CA refuses an account with two roles",
			"the account has Manage CA"))
	}
	if !c.revoke && roles&roleOfficer != 0 {
		list = append(list, ca.Found(ca.Warning, ca.CheckExcess, "take Issue and Manage Certificates from the account, or configure revoke: csra", "the account may revoke, which the configuration does not use"))
	}
	return list
}

func (c *CA) notDeclared(id, what string) ca.Finding {
	return ca.Found(ca.Note, id, "", "%s is not configured on this road", what)
}
