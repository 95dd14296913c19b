package certsrv

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/negotiate"
)

var _ ca.Diagnoser = (*CA)(nil)

const (
	codeAccessDenied = 0x80070005 // E_ACCESSDENIED
	codeEnrollDenied = 0x80094011 // CERTSRV_E_ENROLL_DENIED
	codeUnavailable  = 0x800706BA // RPC_S_SERVER_UNAVAILABLE
)

// Diagnose implements ca.Diagnoser. It opens the first page, the chain, the
// page for advanced requests, which lists templates, and asks for the
// certificate of a request that cannot be there.
func (c *CA) Diagnose(ctx context.Context, want ca.Wanted) []ca.Finding {
	list, in := c.diagnoseEntry(ctx)
	if !in {
		return list
	}
	for _, do := range []func(context.Context, ca.Wanted) []ca.Finding{c.diagnoseChain, c.diagnoseRights, c.diagnoseTemplates} {
		bounded, cancel := context.WithTimeout(ctx, ca.ProbeTimeout)
		list = append(list, do(bounded, want)...)
		cancel()
	}
	return append(list, ca.Found(ca.Note, ca.CheckRoadRevoke, "", "web enrollment cannot revoke"))
}

// diagnoseEntry opens the first page. in says that we were let in.
func (c *CA) diagnoseEntry(ctx context.Context) (list []ca.Finding, in bool) {
	ctx, cancel := context.WithTimeout(ctx, ca.ProbeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base.String(), nil)
	if err != nil {
		return []ca.Finding{ca.Found(ca.Failure, ca.CheckReach, "correct url", "%v", err)}, false
	}
	req.Header.Set("User-Agent", userAgent)
	resp, err := c.client.Do(req)
	if err != nil {
		return []ca.Finding{c.sendFinding(err)}, false
	}
	defer resp.Body.Close()
	page, _ := io.ReadAll(io.LimitReader(resp.Body, maxReply)) // what is cut off is no page of web enrollment
	switch {
	case resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden:
		return []ca.Finding{ca.Found(ca.Failure, ca.CheckSignIn, signInFix, "signing in with %s: %v", c.Mechanism(), c.status("opening the first page", resp))}, false
	case resp.StatusCode != http.StatusOK:
		return []ca.Finding{ca.Found(ca.Failure, ca.CheckReach, "correct url, or look into the web server's log", "%v", c.status("opening the first page", resp))}, false
	case !isEnrollmentPage(page):
		return []ca.Finding{ca.Found(ca.Failure, ca.CheckReach, "check the address, and that nothing between answers in the CA's place",
			"the first page is none of web enrollment, it begins with %q", excerpt(page))}, false
	}
	theirs, _ := http.ParseTime(resp.Header.Get("Date")) // zero where it is not told
	return []ca.Finding{
		ca.Found(ca.OK, ca.CheckReach, "", "web enrollment answers at %s", c.base),
		ca.Found(ca.OK, ca.CheckSignIn, "", "signed in with %s", c.Mechanism()),
		ca.CompareClocks(theirs, c.Now()),
	}, true
}

const signInFix = "check user and password or keytab, the service principal name HTTP/<host>, the clocks, that IIS offers this way to sign in for /certsrv, and Extended Protection"

// sendFinding is that of a request without an answer.
func (c *CA) sendFinding(err error) ca.Finding {
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case errors.Is(err, negotiate.ErrRefused):
		return ca.Found(ca.Failure, ca.CheckSignIn, signInFix, "signing in with %s: %v", c.Mechanism(), err)
	case untrusted:
		return ca.Found(ca.Failure, ca.CheckReach, "name the root of the web server's certificate in ca_file, and its name in url", "%v", err)
	}
	return ca.Found(ca.Failure, ca.CheckReach, "check url, name resolution, TCP 443 and the firewall, and that the web site runs", "%v", err)
}

// diagnoseChain reads the chain as the CA shows it, whatever is configured.
func (c *CA) diagnoseChain(ctx context.Context, want ca.Wanted) []ca.Finding {
	shown, err := c.shownChain(ctx)
	if err != nil {
		return []ca.Finding{ca.Found(ca.Failure, ca.CheckChain, "look at the page certcarc.asp with a browser", "%v", err)}
	}
	return ca.CompareChain(shown, want.Chain, c.Now())
}

func (c *CA) shownChain(ctx context.Context) ([]*x509.Certificate, error) {
	const step = "reading the chain"
	page, err := c.get(ctx, step, "certcarc.asp")
	if err != nil {
		return nil, err
	}
	renewal, ok := readRenewals(page)
	if !ok {
		return nil, c.unknown(step, "certcarc.asp does not tell how often the CA's certificate was renewed", page)
	}
	got, err := c.get(ctx, step, fmt.Sprintf("certnew.p7b?ReqID=CACert&Renewal=%d&Enc=bin", renewal))
	if err != nil {
		return nil, err
	}
	return parseChain(got, nil)
}

// diagnoseRights asks for a certificate that is not there. The web server asks
// the CA as the account, for which it needs the right to enrol.
func (c *CA) diagnoseRights(ctx context.Context, _ ca.Wanted) []ca.Finding {
	got, err := c.get(ctx, "asking for a request", fmt.Sprintf("certnew.cer?ReqID=%d&Enc=bin", ca.UnknownRequest))
	if err != nil {
		return []ca.Finding{ca.Found(ca.Failure, ca.CheckRoadIssue, "look into the web server's log", "%v", err)}
	}
	code, failed := failingCode(got)
	switch uint32(code) {
	case propertyEmpty, invalidArgument:
		return []ca.Finding{
			ca.Found(ca.OK, ca.CheckEnroll, "", "the account may ask the CA"),
			ca.Found(ca.OK, ca.CheckRoadIssue, "", "the CA answers behind the web server"),
		}
	case codeAccessDenied, codeEnrollDenied:
		return []ca.Finding{ca.Found(ca.Failure, ca.CheckEnroll, ca.Remedy(codeEnrollDenied), "the account may not ask for certificates: %s", ca.CodeName(uint32(code)))}
	case codeUnavailable:
		return []ca.Finding{ca.Found(ca.Failure, ca.CheckRoadIssue, ca.Remedy(codeUnavailable)+"; where the pages are on another host than the CA, check its delegation",
			"the web server does not reach the CA: %s", ca.CodeName(uint32(code)))}
	}
	if failed {
		return []ca.Finding{ca.Found(ca.Failure, ca.CheckRoadIssue, ca.Remedy(uint32(code)), "the CA answers %s", ca.CodeName(uint32(code)))}
	}
	return []ca.Finding{ca.Found(ca.Warning, ca.CheckRoadIssue, "", "the question for a request that is not there was answered with no code")}
}

// optionPattern finds the choices of the page for advanced requests: a letter,
// the template's common name, and more, with semicolons between them.
var optionPattern = regexp.MustCompile(`(?i)<option\b[^>]{0,200}?\bvalue\s*=\s*["']?[A-Z];([^;"'<>]{1,256});`)

// diagnoseTemplates reads the templates that the page for advanced requests
// offers. It leaves out those of newer versions, which can be requested
// nevertheless, so that a missing one proves little.
func (c *CA) diagnoseTemplates(ctx context.Context, want ca.Wanted) []ca.Finding {
	page, err := c.get(ctx, "reading the templates", "certrqxt.asp")
	if err != nil {
		return []ca.Finding{ca.Found(ca.Note, ca.CheckTemplatePublished, "", "the page that lists templates could not be read: %v", err)}
	}
	offered := readOptions(page)
	var list []ca.Finding
	if len(offered) == 0 && isEnrollmentPage(page) {
		list = append(list, ca.Found(ca.Warning, ca.CheckType, "look at the page certrqxt.asp with a browser: a standalone CA is not for this purpose, it knows no templates",
			"web enrollment offers no template: the CA is a standalone one, or the account may enrol for none"))
	}
	for _, w := range want.Templates {
		switch {
		case w.Name == "":
			list = append(list, w.Named())
		case slices.ContainsFunc(offered, func(name string) bool { return strings.EqualFold(name, w.Name) }):
			list = append(list, w.Published(true),
				ca.Found(ca.Note, ca.CheckTemplateEnroll, "", "web enrollment offers template %q to the account; it does not tell key usages and names: compare with certutil -template -v", w.Name))
		default:
			list = append(list, ca.Found(ca.Warning, ca.CheckTemplatePublished,
				"publish the template on this CA, use its name and not its display name, and grant the account Read and Enroll; templates of compatibility 2008 and later are never offered here, and can work nevertheless",
				"web enrollment does not offer template %q of endpoint %q", w.Name, w.Endpoint))
		}
	}
	return list
}

const maxOptions = 4096

func readOptions(page []byte) []string {
	var names []string
	for _, m := range optionPattern.FindAllSubmatch(page, maxOptions) {
		names = append(names, strings.TrimSpace(string(m[1])))
	}
	return names
}
