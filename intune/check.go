package intune

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Wanted is what a configuration expects of a tenant.
type Wanted struct {
	// Challenge is a request, DER, whose challenge was made up. Empty: no
	// verdict is asked for.
	Challenge []byte

	Revocation bool     // revocations are asked for
	Graph      []string // further application permissions of Microsoft Graph
	Rotation   bool     // certificates of the app registration are replaced
}

// Diagnose asks the cloud, step by step, whether a tenant can do what is
// wanted, and says of the first step that fails why. It changes nothing: the
// one request that it has validated cannot be granted, and no revocations are
// downloaded, since Intune would give none for an hour after that. It keeps
// nothing, so that a consent given meanwhile is seen by the next call.
func Diagnose(ctx context.Context, config Config, want Wanted) []Finding {
	c, err := New(config)
	if err != nil {
		return []Finding{fail(CheckConfig, "correct the tenant in the configuration, or the file that it names", "%v", err)}
	}
	defer c.Close()
	d := &diagnosis{client: c, want: want, dates: &dates{base: c.http.Transport, clock: c.config.Clock}}
	c.http.Transport = d.dates
	d.checkCredential()
	if d.worst() < Failure {
		d.checkCloud(ctx)
	}
	d.checkClock()
	for _, i := range c.Inspections() {
		d.add(Finding{
			ID: CheckReach, Level: Warning, Text: fmt.Sprintf("TLS to %s is opened on the way, by %q", i.Host, i.Issuer),
			Fix: "exempt the host from TLS inspection, as Microsoft asks: whoever opens it sees tokens and challenges",
		})
	}
	return d.found
}

// diagnosis is one run of Diagnose.
type diagnosis struct {
	client *Client
	want   Wanted
	dates  *dates
	found  []Finding
}

func (d *diagnosis) add(f ...Finding) { d.found = append(d.found, f...) }

func (d *diagnosis) worst() Level {
	worst := OK
	for _, f := range d.found {
		worst = max(worst, f.Level)
	}
	return worst
}

func (d *diagnosis) has(id string) bool {
	return slices.ContainsFunc(d.found, func(f Finding) bool { return f.ID == id })
}

func fail(id, fix, format string, args ...any) Finding {
	return Finding{ID: id, Level: Failure, Fix: fix, Text: fmt.Sprintf(format, args...)}
}

func fine(id, format string, args ...any) Finding {
	return Finding{ID: id, Text: fmt.Sprintf(format, args...)}
}

// checkCloud goes the way of a request: sign-in, permission, service, verdict.
func (d *diagnosis) checkCloud(ctx context.Context) {
	cfg := d.client.config
	graph, err := d.client.graphTokens.get(ctx)
	if err != nil {
		d.add(d.cause(err))
		return
	}
	d.add(fine(CheckSignIn, "Entra ID gives tokens to the application %s in the tenant %s", cfg.ClientID, cfg.TenantID))
	intune, err := d.client.intuneTokens.get(ctx)
	if err != nil {
		d.add(d.cause(err))
	} else {
		d.add(permission(CheckIntune, "Intune", roleIntune, intune))
	}
	found := d.checkServices(ctx, graph, intune)
	if found && len(d.want.Challenge) > 0 && intune != nil {
		d.checkVerdict(ctx, intune)
	}
	if found && d.want.Revocation {
		d.checkRevocation(ctx)
	}
	for _, p := range d.want.Graph {
		d.add(permission(CheckFeature, "Microsoft Graph", p, graph))
	}
	switch {
	case d.want.Rotation && graph.has(roleGraph):
		d.checkRegistration(ctx)
	case d.want.Rotation:
		f := permission(CheckRegistration, "Microsoft Graph", roleGraph, graph)
		f.Level, f.Waits, f.Text = Warning, false, "the certificates of the app registration were not looked at: "+f.Text
		d.add(f)
	}
}

// permission looks for an application role in a token. It is not verified:
// the service does that.
func permission(id, api, role string, tok *token) Finding {
	if tok.has(role) {
		return fine(id, "the token for %s has the permission %s", api, role)
	}
	have := "no permission at all"
	if len(tok.roles) > 0 {
		have = "only " + strings.Join(tok.roles, ", ")
	}
	f := fail(id, "in the app registration: API permissions, Add a permission, "+api+", Application permissions, "+role+
		"; then Grant admin consent, which takes a few minutes to count", "the token for %s lacks the permission %s; it has %s", api, role, have)
	f.Waits = true
	return f
}

// checkServices asks where the tenant's services are, and reports whether the
// one for SCEP is known.
func (d *diagnosis) checkServices(ctx context.Context, graph, intune *token) bool {
	uris, _, err := d.client.locator.lookup(ctx, serviceSCEP)
	role := permission(CheckGraph, "Microsoft Graph", roleGraph, graph)
	e, absent := errors.AsType[*ServiceNotFoundError](err)
	switch {
	case err == nil && role.Level == Failure:
		d.add(Finding{ID: CheckGraph, Level: Note, Text: role.Text + "; the services are told all the same"})
	case err == nil || absent || role.Level == OK:
		d.add(role)
	default:
		d.add(role) // which is why, if anybody answered
		if e, answered := errors.AsType[*HTTPError](err); !answered || e.Status != http.StatusUnauthorized && e.Status != http.StatusForbidden {
			d.add(d.cause(err))
		}
		return false
	}
	switch {
	case err == nil:
		d.add(fine(CheckServices, "requests are validated at %s", strings.Join(uris, ", ")))
	case absent && len(e.Refused) > 0:
		d.add(fail(CheckServices, "if that host is Microsoft's, add it to urls.service_hosts of the tenant", "%v", err))
	case absent && (intune == nil || !intune.has(roleIntune)):
		d.add(Finding{ID: CheckServices, Level: Failure, Waits: true, Fix: "see first to what is said above of Intune's token",
			Text: "the tenant's list of services has no " + e.Service})
	case absent:
		f := fail(CheckLicence, "see to it that the tenant has an Intune licence, and that its MDM authority is set (Intune admin centre, Tenant administration)",
			"the tenant's list of services has no %s, although the application may use it", e.Service)
		f.Waits = true
		d.add(f)
	default:
		d.add(d.cause(err))
	}
	return err == nil
}

// checkVerdict has Intune refuse a request.
func (d *diagnosis) checkVerdict(ctx context.Context, tok *token) {
	err := d.client.Validate(ctx, ValidateRequest{TransactionID: newGUID(), CSR: d.want.Challenge})
	verdict, refused := errors.AsType[*ScepError](err)
	e, answered := errors.AsType[*HTTPError](err)
	switch {
	case err == nil:
		d.add(fail(CheckVerdict, "do not serve devices; find out who answers in Intune's place",
			"a request with a made-up challenge was granted: whoever answered does not validate"))
	case refused && slices.Contains([]Code{CertificateRequestDecodingFailed, ChallengePasswordMissing}, verdict.Code):
		d.add(Finding{ID: CheckVerdict, Level: Warning, Text: verdict.Error() + ": it did not read the request",
			Fix: "look whether requests of devices fare better, and report this"})
	case refused:
		d.add(fine(CheckVerdict, "Intune refused a made-up challenge, as it should: %s", verdict.RawCode))
	case answered && tok.has(roleIntune) && (e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden):
		f := fail(CheckLicence, "wait some minutes after a consent; then see to Intune licence and MDM authority of the tenant, and that sign-in and Intune belong to one cloud",
			"Intune refuses a token that has the permission: %v", err)
		f.Waits = true
		d.add(f)
	case answered && d.has(CheckIntune) && (e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden):
		// the missing permission has been said
	default:
		d.add(d.cause(err))
	}
}

// checkRevocation asks where the revocation service is.
func (d *diagnosis) checkRevocation(ctx context.Context) {
	service := d.client.config.Endpoints.RevocationService
	uris, _, err := d.client.locator.lookup(ctx, service)
	if err != nil {
		d.add(fail(CheckRevocation, "see to licence and MDM authority; or Microsoft has given the service another name: api.revocation_service", "%v", err))
		return
	}
	d.add(fine(CheckRevocation, "revocations are asked for at %s; that they are handed out is not tried, for Intune would give none for an hour after that", strings.Join(uris, ", ")))
}

// checkRegistration reads the keys that a rotation replaces.
func (d *diagnosis) checkRegistration(ctx context.Context) {
	app, err := d.client.Application(ctx)
	if err != nil {
		d.add(d.cause(err))
		return
	}
	var ends []string
	for _, k := range app.Keys {
		ends = append(ends, fmt.Sprintf("%s until %s", k.Thumbprint, k.NotAfter.UTC().Format(time.DateOnly)))
	}
	if len(ends) == 0 {
		ends = []string{"none"}
	}
	d.add(fine(CheckRegistration, "certificates of the app registration: %s; that they may be replaced is seen at the first replacement", strings.Join(ends, ", ")))
}
