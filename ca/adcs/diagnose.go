package adcs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	admin2 "github.com/oiweiwei/go-msrpc/msrpc/dcom/csra/icertadmind2/v0"

	"github.com/certconnector/certconnector/ca"
)

const (
	propertyCAType = 10
	kindLong       = 1

	// Types of CAs (ENUM_CATYPES, [MS-WCCE], section 2.2.2.4).
	typeEnterpriseRoot = 0
	typeEnterpriseSub  = 1

	// What GetMyRoles tells ([MS-CSRA], section 3.1.4.2.17).
	roleAdministrator = 0x1
	roleOfficer       = 0x2
)

var _ ca.Diagnoser = (*CA)(nil)

// Diagnose implements ca.Diagnoser. Over each road that issues it asks for the
// outcome of a request that cannot be there, which takes the same rights as a
// request; over DCOM it reads properties; of the administration interface it
// asks for the account's roles.
func (c *CA) Diagnose(ctx context.Context, want ca.Wanted) []ca.Finding {
	var list []ca.Finding
	may := map[Road]bool{}
	for _, road := range c.roads {
		found, ok := c.diagnoseRoad(ctx, road)
		list, may[road] = append(list, found...), ok
		if slices.ContainsFunc(found, isRefusal) {
			return list // further attempts would lock the account
		}
	}
	if !slices.ContainsFunc(list, func(f ca.Finding) bool { return f.ID == ca.CheckSignIn }) {
		return list // nobody answers
	}
	admin, reached := c.diagnoseAdmin(ctx)
	_, issues := c.requests[DCOM]
	switch {
	case may[DCOM], !issues && reached:
		list = append(list, c.diagnoseProperties(ctx, want)...)
	case c.hasDCOM():
		list = append(list, ca.Note.Is(ca.CheckTemplatePublished, "", "what the CA tells of itself and its templates can be read only with the right to enrol"))
	default:
		list = append(list, ca.Note.Is(ca.CheckTemplatePublished, "add a road over DCOM", "plain RPC shows neither the CA's certificate nor its templates"))
	}
	return append(append(list, admin...), c.diagnoseClock())
}

// isRefusal tells refused credentials, and a CA that is not there: nothing
// further can be found out.
func isRefusal(f ca.Finding) bool {
	return f.Level == ca.Failure && (f.ID == ca.CheckSignIn || f.ID == ca.CheckName)
}

// diagnoseClock says what signing in proves of the clocks.
func (c *CA) diagnoseClock() ca.Finding {
	if strings.Contains(strings.ToLower(c.Mechanism()), "kerberos") {
		return ca.Note.Is(ca.CheckClock, "", "not compared: Kerberos signs in only while the clocks differ by less than five minutes")
	}
	return ca.Note.Is(ca.CheckClock, "", "the CA does not tell its time over this road; compare with w32tm /stripchart")
}

// diagnoseRoad tries a road that issues. ok says that requests are answered.
func (c *CA) diagnoseRoad(ctx context.Context, road Road) (list []ca.Finding, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, ca.ProbeTimeout)
	defer cancel()
	code, err := c.askUnknown(ctx, road)
	if err != nil {
		return c.diagnoseError(fmt.Sprintf("road %s", road), err), false
	}
	list = append(list, c.signedIn(road))
	switch {
	case code == codePropertyEmpty || code == uint32(dispositionPending) || code == uint32(dispositionIssued) || code == 0:
		return append(list,
			ca.OK.Is(ca.CheckName, "", "the CA is called %q", c.authority),
			ca.OK.Is(ca.CheckEnroll, "", "the account may ask for certificates over %s", road),
			ca.OK.Is(ca.CheckRoadIssue, "", "road %s answers", road)), true
	case code == codeInvalid:
		return append(list, c.otherName()), false
	case denied(code):
		return append(list, ca.Failure.Is(ca.CheckEnroll, ca.Remedy(codeEnrollDenied), "the account may not ask for certificates over %s: %s", road, ca.CodeName(code))), false
	}
	return append(list, ca.Failure.Is(ca.CheckRoadIssue, ca.Remedy(code), "road %s answers %s", road, ca.CodeName(code))), false
}

func (c *CA) signedIn(road Road) ca.Finding {
	return ca.OK.Is(ca.CheckSignIn, "", "signed in over %s with %s", road, c.Mechanism())
}

func (c *CA) otherName() ca.Finding {
	return ca.Failure.Is(ca.CheckName, `correct config: it is host\name with the common name of the CA, as certutil prints it; not its display name and not that of the host`,
		"the host has no CA called %q", c.authority)
}

// askUnknown asks for the outcome of a request that is not there. An error
// means that there was no answer.
func (c *CA) askUnknown(ctx context.Context, road Road) (code uint32, err error) {
	k, _, err := c.requests[road].get(ctx)
	if err != nil {
		return 0, c.unreachable("connecting", err, 0)
	}
	r, err := k.conn.request(ctx, submission{id: ca.UnknownRequest})
	if err != nil {
		_, fault := k.conn.wire().outcome()
		c.requests[road].drop(k)
		if denied(fault) {
			return fault, nil
		}
		return 0, c.unreachable("asking for a request", err, fault)
	}
	c.requests[road].give(k)
	if r.ret != 0 {
		return uint32(r.ret), nil
	}
	return r.disposition, nil
}

// diagnoseError sorts a failure to get an answer: was it the way, or we?
func (c *CA) diagnoseError(what string, err error) []ca.Finding {
	p, ok := errors.AsType[*problem](err)
	if !ok {
		return []ca.Finding{ca.Failure.Is(ca.CheckReach, ca.Remedy(uint32(0x800706BA)), "%s: %v", what, err)}
	}
	cause := p.brief()
	if isSignIn(p) {
		fix := ca.Remedy(0x8009030C)
		if denied(p.code) {
			fix += "; where the credentials are right, put the account into the group Certificate Service DCOM Access of the CA's host"
		}
		return []ca.Finding{ca.Failure.Is(ca.CheckSignIn, fix, "%s: signing in with %s: %s", what, c.Mechanism(), cause)}
	}
	code := p.code
	if code == 0 {
		code = 0x800706BA
	}
	return []ca.Finding{ca.Failure.Is(ca.CheckReach, ca.Remedy(code), "%s: %s", what, cause)}
}

// brief is a problem without what to do about it, which findings have apart.
func (p *problem) brief() string {
	text := p.step
	if p.cause != nil {
		text += ": " + clean(p.cause.Error())
	}
	if p.code != 0 {
		text += ": " + ca.CodeName(p.code)
	}
	return text
}

func briefly(err error) string {
	if p, ok := errors.AsType[*problem](err); ok {
		return p.brief()
	}
	return clean(err.Error())
}

// isSignIn tells a refused sign-in from a dead road. Windows refuses at the
// first sealed bind, and with few words.
func isSignIn(p *problem) bool {
	switch p.code {
	case codeAccessDenied, codeAccessFault, codeAccessICPR, 0x800706D3, 0x8009030C, 0x80090322, 0x80090311:
		return true
	}
	if p.step == "signing in" {
		return !errors.Is(p.cause, context.DeadlineExceeded)
	}
	return p.code == 0 && (p.step == "activation" || strings.HasPrefix(p.step, "binding")) && !isNetwork(p.cause)
}

// diagnoseProperties reads what the CA tells of itself.
func (c *CA) diagnoseProperties(ctx context.Context, want ca.Wanted) []ca.Finding {
	var list []ca.Finding
	for _, do := range []func(context.Context, ca.Wanted) ([]ca.Finding, error){c.diagnoseChain, c.diagnoseHost, c.diagnoseType, c.diagnoseTemplates} {
		bounded, cancel := context.WithTimeout(ctx, ca.ProbeTimeout)
		found, err := do(bounded, want)
		cancel()
		if errors.Is(err, ca.ErrUnavailable) {
			return append(list, c.diagnoseError("reading properties", err)...)
		}
		if err != nil {
			found = []ca.Finding{ca.Warning.Is(ca.CheckReach, "", "%s", briefly(err))}
			if p, ok := errors.AsType[*problem](err); ok && p.code != 0 {
				found[0].Fix = ca.Remedy(p.code)
			}
		}
		list = append(list, found...)
	}
	return list
}

func (c *CA) diagnoseChain(ctx context.Context, want ca.Wanted) ([]ca.Finding, error) {
	shown, err := c.readChain(ctx)
	if p, ok := errors.AsType[*problem](err); ok && p.kind == nil && p.code == 0 {
		return []ca.Finding{ca.Failure.Is(ca.CheckChain, "check the chain file", "%s", briefly(err))}, nil
	}
	if err != nil {
		return nil, err
	}
	return ca.CompareChain(shown, want.Chain, c.now()), nil
}

// diagnoseHost compares the host's name with the one that we sign in to.
func (c *CA) diagnoseHost(ctx context.Context, _ ca.Wanted) ([]ca.Finding, error) {
	value, err := c.property(ctx, "reading the host's name", propertyDNSName, 0, kindString)
	if err != nil {
		return nil, err
	}
	configured := strings.TrimPrefix(c.target, "host/")
	if host := utf16Text(value); !strings.EqualFold(host, configured) {
		return []ca.Finding{ca.Warning.Is(ca.CheckName, "use the host's own name in config, unless it is an alias with a service principal name",
			"the CA's host calls itself %q; configured is %q", clean(host), configured)}, nil
	}
	return nil, nil
}

// diagnoseType tells enterprise CAs from standalone ones. The property is a
// CAINFO structure, whose second number is the type; the COM interface and
// some servers give the type alone.
func (c *CA) diagnoseType(ctx context.Context, _ ca.Wanted) ([]ca.Finding, error) {
	value, err := c.property(ctx, "reading the CA's type", propertyCAType, 0, kindLong)
	if err != nil {
		return nil, err
	}
	var kind uint32
	switch {
	case len(value) >= 8:
		kind = binary.LittleEndian.Uint32(value[4:])
	case len(value) >= 4:
		kind = binary.LittleEndian.Uint32(value)
	default:
		return []ca.Finding{ca.Warning.Is(ca.CheckType, "", "the CA's type does not read: %d bytes", len(value))}, nil
	}
	if kind != typeEnterpriseRoot && kind != typeEnterpriseSub {
		return []ca.Finding{ca.Warning.Is(ca.CheckType, "use an enterprise CA: a standalone one knows no templates, gives certificates the purposes that requests ask for, and parks each request by default",
			"this is a standalone CA (type %d)", kind)}, nil
	}
	return []ca.Finding{ca.OK.Is(ca.CheckType, "", "this is an enterprise CA")}, nil
}

func (c *CA) diagnoseTemplates(ctx context.Context, want ca.Wanted) ([]ca.Finding, error) {
	value, err := c.property(ctx, "reading the templates", propertyTemplates, 0, kindString)
	if p, ok := errors.AsType[*problem](err); ok && p.code == codePropertyEmpty {
		value, err = nil, nil // none is published, or the CA is a standalone one
	}
	if err != nil {
		return nil, err
	}
	published := strings.Split(strings.ReplaceAll(utf16Text(value), "\r", ""), "\n") // name, OID, name, OID, …
	var list []ca.Finding
	for _, w := range want.Templates {
		if w.Name == "" {
			list = append(list, w.Named())
			continue
		}
		is := slices.ContainsFunc(published, func(name string) bool { return strings.EqualFold(name, w.Name) })
		list = append(list, w.Published(is))
		if is {
			list = append(list, ca.Note.Is(ca.CheckTemplateEnroll, "", "rights, purposes and names of template %q are in the directory, not at the CA: compare with certutil -template -v, "+
				"or use a policy service (wstep), which tells them", w.Name))
		}
	}
	return list, nil
}

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
		return []ca.Finding{ca.Failure.Is(ca.CheckRoadFind, "put the account into Certificate Service DCOM Access, and take IF_NOREMOTEICERTADMIN from InterfaceFlags at the CA",
			"the administration interface refuses the account: %s", briefly(err))}, false
	}
	if err != nil {
		return c.diagnoseError("road csra", err), false
	}
	var roles uint32
	if readable {
		if roles, err = c.roles(ctx); err != nil {
			list = append(list, ca.Warning.Is(ca.CheckOfficer, "", "the account's roles could not be read: %s", briefly(err)))
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
	list := []ca.Finding{ca.OK.Is(ca.CheckRead, "", "the account may read the CA's database")}
	if !readable {
		level := ca.Warning
		if c.find {
			level = ca.Failure
		}
		list[0] = level.Is(ca.CheckRead, toRead, "the account may not read the CA's database: an issue whose answer was lost cannot be looked up")
	}
	switch {
	case !c.find:
		list = append(list, c.notDeclared(ca.CheckRoadFind, "find"))
	case readable:
		list = append(list, ca.OK.Is(ca.CheckRoadFind, "", "road csra answers"))
	}
	switch {
	case !c.revoke:
		list = append(list, c.notDeclared(ca.CheckRoadRevoke, "revoke"))
	case roles&roleOfficer == 0:
		list = append(list, ca.Failure.Is(ca.CheckOfficer, "grant the account Issue and Manage Certificates on the Security tab of the CA, or take revoke (and approve) from the configuration",
			"the account is no officer of the CA: it cannot revoke"))
	default:
		list = append(list, ca.OK.Is(ca.CheckOfficer, "", "the account has Issue and Manage Certificates"),
			ca.OK.Is(ca.CheckRoadRevoke, "", "road csra answers"))
	}
	if roles&roleAdministrator != 0 {
		list = append(list, ca.Warning.Is(ca.CheckExcess, "take Manage CA from the account: the connector does not need it, and with role separation the CA refuses an account with two roles",
			"the account has Manage CA"))
	}
	if !c.revoke && roles&roleOfficer != 0 {
		list = append(list, ca.Warning.Is(ca.CheckExcess, "take Issue and Manage Certificates from the account, or configure revoke: csra", "the account may revoke, which the configuration does not use"))
	}
	return list
}

func (c *CA) notDeclared(id, what string) ca.Finding {
	return ca.Note.Is(id, "", "%s is not configured on this road", what)
}
