package intune

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Finding is one thing that Check looked at.
type Finding struct {
	Name   string // graph-token, graph-role, discovery, intune-token, intune-role or revocation
	Detail string // what was found
	Err    error  // nil: in order
}

// Check signs in for both resources, looks at the roles in the tokens and asks
// where the tenant's services are. It validates nothing and changes nothing;
// what depends on a failed step is left out. New tokens are asked for when a
// role is missing, so that a consent given meanwhile is seen.
func (c *Client) Check(ctx context.Context) []Finding {
	graph, findings := c.checkToken(ctx, "graph", c.graphTokens, nil)
	if graph {
		findings = append(findings, c.checkDiscovery(ctx))
	}
	_, findings = c.checkToken(ctx, "intune", c.intuneTokens, findings)
	return findings
}

// checkToken reports whether there is a token, and appends what it found.
func (c *Client) checkToken(ctx context.Context, name string, t *tokens, findings []Finding) (bool, []Finding) {
	tok, err := t.get(ctx)
	if err == nil && !tok.has(t.role) && t.drop(tok) {
		tok, err = t.get(ctx)
	}
	if err != nil {
		return false, append(findings, Finding{Name: name + "-token", Err: err})
	}
	findings = append(findings, Finding{Name: name + "-token", Detail: "audience " + tok.audience})
	role := Finding{Name: name + "-role", Detail: "roles " + strings.Join(tok.roles, ", ")}
	if !tok.has(t.role) {
		role.Err = fmt.Errorf("the token for %s lacks the role %s: grant this application permission with admin consent", strings.TrimSuffix(t.scope, ".default"), t.role)
	}
	return true, append(findings, role)
}

func (c *Client) checkDiscovery(ctx context.Context) Finding {
	uris, _, err := c.locator.lookup(ctx, serviceSCEP)
	if err != nil {
		return Finding{Name: "discovery", Err: err}
	}
	return Finding{Name: "discovery", Detail: strings.Join(uris, ", ")}
}

// SignIn asks for a token for Intune unless a good one is held. A Client that
// was made for the purpose tells whether Entra ID takes a credential.
func (c *Client) SignIn(ctx context.Context) error {
	_, err := c.intuneTokens.get(ctx)
	return err
}

// CheckRevocation asks where the revocation service is. It asks for no
// requests: Intune would give none for an hour after that.
func (c *Client) CheckRevocation(ctx context.Context) Finding {
	uris, _, err := c.locator.lookup(ctx, c.config.Endpoints.RevocationService)
	if err != nil {
		return Finding{Name: "revocation", Err: err}
	}
	return Finding{Name: "revocation", Detail: strings.Join(uris, ", ")}
}

// CheckGraphRoles looks for further permissions in the token for Graph, such as
// those of PFX certificates. A new token is asked for when one is missing.
func (c *Client) CheckGraphRoles(ctx context.Context, permissions ...string) []Finding {
	tok, err := c.graphTokens.get(ctx)
	lacks := func() bool {
		return slices.ContainsFunc(permissions, func(p string) bool { return !tok.has(p) })
	}
	if err == nil && lacks() && c.graphTokens.drop(tok) {
		tok, err = c.graphTokens.get(ctx)
	}
	if err != nil {
		return []Finding{{Name: "graph-token", Err: err}}
	}
	var findings []Finding
	for _, p := range permissions {
		f := Finding{Name: "graph-role", Detail: p}
		if !tok.has(p) {
			f.Err = fmt.Errorf("the token for Microsoft Graph lacks the role %s: grant this application permission with admin consent", p)
		}
		findings = append(findings, f)
	}
	return findings
}
