package intune

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"unicode"

	"go.uber.org/zap"
)

// InspectionError says that a host showed a certificate whose issuer nobody
// here vouches for. For Microsoft's hosts this is a proxy or firewall that opens
// TLS on the way.
type InspectionError struct {
	Host   string
	Issuer string // who issued what was shown, as far up as it was shown
	Err    error
}

// Error says who issued the certificate and what an operator can do about it.
func (e *InspectionError) Error() string {
	if isMicrosoft(e.Host) {
		return fmt.Sprintf("TLS is opened on the way to %s: its certificate was issued by %q, which nobody here vouches for; "+
			"exempt the host from TLS inspection, as Microsoft asks, or name the inspecting proxy's root in the tenant's ca_file", e.Host, e.Issuer)
	}
	return fmt.Sprintf("the certificate of %s was issued by %q, which nobody here vouches for; "+
		"name its root in the tenant's ca_file, and if this is not the issuer that the host should have, something on the way opens TLS", e.Host, e.Issuer)
}

// Unwrap returns what verified the certificate.
func (e *InspectionError) Unwrap() error { return e.Err }

// inspectionError finds a certificate of an unknown issuer in an error; nil:
// that is not what went wrong.
func inspectionError(host string, err error) error {
	failed, ok := errors.AsType[*tls.CertificateVerificationError](err)
	if !ok || len(failed.UnverifiedCertificates) == 0 {
		return nil
	}
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](failed.Err); !unknown {
		return nil
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	top := failed.UnverifiedCertificates[len(failed.UnverifiedCertificates)-1]
	return &InspectionError{Host: host, Issuer: issuerName(top.Issuer), Err: failed}
}

// issuerName is a certificate's name as a text for people. Whole, unlike other
// foreign text: a name has long words, and no secret of ours is in it.
func issuerName(n pkix.Name) string {
	printable := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == '"' {
			return ' '
		}
		return r
	}, n.String())
	return cmp.Or(truncate(strings.TrimSpace(printable), maxWords), "nobody: the name is empty")
}

// Inspection is a host of Microsoft's whose certificate a configured root
// vouches for, and no public one: TLS is opened on the way, and whoever does so
// sees tokens and challenges.
type Inspection struct {
	Host   string
	Issuer string // the root's name
}

// inspections are what was seen on the newest connection to each host.
type inspections struct {
	mu   sync.Mutex
	seen map[string]string // issuer by host: Microsoft's, and hence few
}

// Inspections names the hosts of Microsoft's on the way to which TLS was
// opened the last time.
func (c *Client) Inspections() []Inspection {
	c.inspections.mu.Lock()
	defer c.inspections.mu.Unlock()
	var list []Inspection
	for host, issuer := range c.inspections.seen {
		list = append(list, Inspection{host, issuer})
	}
	slices.SortFunc(list, func(a, b Inspection) int { return strings.Compare(a.Host, b.Host) })
	return list
}

// inspect looks at a connection that was verified. It refuses none: whoever put
// the root there has decided.
func (c *Client) inspect(state tls.ConnectionState) error {
	host := strings.ToLower(state.ServerName)
	if !isMicrosoft(host) || len(state.VerifiedChains) == 0 {
		return nil
	}
	chain := state.VerifiedChains[0]
	root := chain[len(chain)-1].Subject
	c.inspections.mu.Lock()
	defer c.inspections.mu.Unlock()
	if slices.ContainsFunc(root.Organization, isPublic) {
		delete(c.inspections.seen, host)
		return nil
	}
	issuer := issuerName(root)
	if c.inspections.seen[host] == issuer {
		return nil
	}
	if c.inspections.seen == nil {
		c.inspections.seen = map[string]string{}
	}
	c.inspections.seen[host] = issuer
	c.log.Warn("TLS to the cloud is opened on the way; exempt the host from inspection, as Microsoft asks",
		zap.String("host", host), zap.String("issuer", issuer))
	return nil
}

// microsoft are the domains of the hosts that a tenant is asked at.
var microsoft = []string{
	"microsoftonline.com", "microsoftonline.us", "microsoft.com", "microsoft.us", "azure.net", "windows.net",
	"chinacloudapi.cn", "partner.microsoftonline.cn", "microsoftonline.cn",
}

func isMicrosoft(host string) bool {
	return slices.ContainsFunc(microsoft, func(domain string) bool {
		return host == domain || strings.HasSuffix(host, "."+domain)
	})
}

// publicRoots are the beginnings of organization names of the roots that
// Microsoft's services have, and of those that they could move to. It decides a
// warning and nothing else.
var publicRoots = []string{
	"digicert", "microsoft corporation", "baltimore", "d-trust", "entrust", "globalsign", "sectigo", "the usertrust network",
	"comodo", "amazon", "google trust services", "internet security research group", "identrust", "ssl corp", "quovadis",
}

func isPublic(organization string) bool {
	return slices.ContainsFunc(publicRoots, func(p string) bool { return strings.HasPrefix(strings.ToLower(organization), p) })
}
