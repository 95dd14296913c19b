package adcs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/certconnector/certconnector/ca"
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
		list = append(list, ca.Found(ca.Note, ca.CheckTemplatePublished, "", "what the CA tells of itself and its templates can be read only with the right to enrol"))
	default:
		list = append(list, ca.Found(ca.Note, ca.CheckTemplatePublished, "add a road over DCOM", "plain RPC shows neither the CA's certificate nor its templates"))
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
		return ca.Found(ca.Note, ca.CheckClock, "", "not compared: Kerberos signs in only while the clocks differ by less than five minutes")
	}
	return ca.Found(ca.Note, ca.CheckClock, "", "the CA does not tell its time over this road; compare with w32tm /stripchart")
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
			ca.Found(ca.OK, ca.CheckName, "", "the CA is called %q", c.authority),
			ca.Found(ca.OK, ca.CheckEnroll, "", "the account may ask for certificates over %s", road),
			ca.Found(ca.OK, ca.CheckRoadIssue, "", "road %s answers", road)), true
	case code == codeInvalid:
		return append(list, c.otherName()), false
	case denied(code):
		return append(list, ca.Found(ca.Failure, ca.CheckEnroll, ca.Remedy(codeEnrollDenied), "the account may not ask for certificates over %s: %s", road, ca.CodeName(code))), false
	}
	return append(list, ca.Found(ca.Failure, ca.CheckRoadIssue, ca.Remedy(code), "road %s answers %s", road, ca.CodeName(code))), false
}

func (c *CA) signedIn(road Road) ca.Finding {
	return ca.Found(ca.OK, ca.CheckSignIn, "", "signed in over %s with %s", road, c.Mechanism())
}

func (c *CA) otherName() ca.Finding {
	return ca.Found(ca.Failure, ca.CheckName, `correct config: it is host\name with the common name of the CA, as certutil prints it; not its display name and not that of the host`,
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
		return []ca.Finding{ca.Found(ca.Failure, ca.CheckReach, ca.Remedy(uint32(0x800706BA)), "%s: %v", what, err)}
	}
	cause := p.brief()
	if isSignIn(p) {
		fix := ca.Remedy(0x8009030C)
		if denied(p.code) {
			fix += "; where the credentials are right, put the account into the group Certificate Service DCOM Access of the CA's host"
		}
		return []ca.Finding{ca.Found(ca.Failure, ca.CheckSignIn, fix, "%s: signing in with %s: %s", what, c.Mechanism(), cause)}
	}
	code := p.code
	if code == 0 {
		code = 0x800706BA
	}
	return []ca.Finding{ca.Found(ca.Failure, ca.CheckReach, ca.Remedy(code), "%s: %s", what, cause)}
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
