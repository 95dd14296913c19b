package intunetest

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	graphResource  = "https://graph.microsoft.com/"
	intuneResource = "https://api.manage.microsoft.com/"
	assertionType  = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// Login is Entra ID: metadata and tokens.
func (c *Cloud) Login() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /common/discovery/instance", c.at(Metadata, c.instance))
	mux.HandleFunc("GET /{tenant}/v2.0/.well-known/openid-configuration", c.at(Metadata, c.configuration))
	mux.HandleFunc("GET /{tenant}/discovery/v2.0/keys", c.at(Metadata, func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{"keys": []any{}})
	}))
	mux.HandleFunc("POST /{tenant}/oauth2/v2.0/token", c.at(Token, c.token))
	return mux
}

func (c *Cloud) instance(w http.ResponseWriter, r *http.Request) {
	host := r.Host
	tenantName := "common"
	if u, err := url.Parse(r.URL.Query().Get("authorization_endpoint")); err == nil {
		if t, _, ok := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/"); ok {
			tenantName = t
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"tenant_discovery_endpoint": "https://" + host + "/" + tenantName + "/v2.0/.well-known/openid-configuration",
		"api-version":               "1.1",
		"metadata":                  []any{map[string]any{"preferred_network": host, "preferred_cache": host, "aliases": []string{host}}},
	})
}

func (c *Cloud) configuration(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	t := c.find(r.PathValue("tenant"))
	c.mu.Unlock()
	if t == nil {
		c.refuseToken(w, &refusal{400, 90002, "invalid_tenant", "Tenant '" + r.PathValue("tenant") + "' not found."})
		return
	}
	base := "https://" + r.Host + "/" + r.PathValue("tenant")
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer":                                "https://" + r.Host + "/" + t.ID + "/v2.0",
		"authorization_endpoint":                base + "/oauth2/v2.0/authorize",
		"token_endpoint":                        base + "/oauth2/v2.0/token",
		"jwks_uri":                              base + "/discovery/v2.0/keys",
		"token_endpoint_auth_methods_supported": []string{"client_secret_post", "private_key_jwt"},
		"response_types_supported":              []string{"code"},
		"subject_types_supported":               []string{"pairwise"},
		"id_token_signing_alg_values_supported": []string{"RS256"},
	})
}

func (c *Cloud) token(w http.ResponseWriter, r *http.Request) {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/x-www-form-urlencoded" {
		c.refuseToken(w, &refusal{400, 900144, "invalid_request", "The request body must be a form."})
		return
	}
	if err := r.ParseForm(); err != nil {
		c.refuseToken(w, &refusal{400, 900144, "invalid_request", "The request body is malformed."})
		return
	}
	claims, refused := c.grant(r)
	if refused != nil {
		c.refuseToken(w, refused)
		return
	}
	text, err := c.mint(claims)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	c.note(r, "token for "+claims.Audience)
	life := claims.Expires - claims.IssuedAt
	writeJSON(w, http.StatusOK, map[string]any{
		"token_type": "Bearer", "expires_in": life, "ext_expires_in": life, "access_token": text,
	})
}

// grant decides about a token request.
func (c *Cloud) grant(r *http.Request) (jwtClaims, *refusal) {
	form := r.PostForm
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.find(r.PathValue("tenant"))
	if t == nil {
		return jwtClaims{}, &refusal{400, 90002, "invalid_request", "Tenant '" + r.PathValue("tenant") + "' not found."}
	}
	if form.Get("grant_type") != "client_credentials" {
		return jwtClaims{}, &refusal{400, 70003, "unsupported_grant_type", "The grant type is not supported."}
	}
	app := t.app(form.Get("client_id"))
	if app == nil {
		return jwtClaims{}, &refusal{400, 700016, "unauthorized_client", "Application with identifier '" + form.Get("client_id") + "' was not found in the directory."}
	}
	if refused := c.authenticate(r, t, app); refused != nil {
		return jwtClaims{}, refused
	}
	audience, role, refused := audienceOf(form.Get("scope"))
	if refused != nil {
		return jwtClaims{}, refused
	}
	now := c.clock()
	claims := jwtClaims{
		Audience: audience, Issuer: "https://sts.cloud.test/" + t.ID + "/", Subject: app.ClientID, AppID: app.ClientID,
		TenantID: t.ID, IssuedAt: now.Unix(), NotBefore: now.Unix(), Expires: now.Add(c.life).Unix(),
	}
	for _, have := range app.Roles {
		if slices.Contains(role, have) {
			claims.Roles = append(claims.Roles, have)
		}
	}
	return claims, nil
}

// authenticate checks a client secret or an assertion. The caller holds c.mu.
func (c *Cloud) authenticate(r *http.Request, t *tenant, app *App) *refusal {
	form := r.PostForm
	if form.Get("client_assertion") != "" {
		if form.Get("client_assertion_type") != assertionType {
			return &refusal{400, 900144, "invalid_request", "client_assertion_type is missing or unknown."}
		}
		base := "https://" + r.Host + "/"
		return c.checkAssertion(form.Get("client_assertion"), app, []string{
			base + t.ID + "/oauth2/v2.0/token", base + t.Domain + "/oauth2/v2.0/token", base + t.ID + "/v2.0",
		})
	}
	given := form.Get("client_secret")
	if given == "" {
		return &refusal{401, 7000218, "invalid_client", "The request body must contain client_assertion or client_secret."}
	}
	for _, s := range app.Secrets {
		if subtle.ConstantTimeCompare([]byte(given), []byte(s.Reveal())) == 1 {
			return nil
		}
	}
	return &refusal{401, 7000215, "invalid_client", "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID."}
}

// audienceOf takes the scope of a request to the audience of its token, as
// Entra ID does: one slash and .default go. The scopes that MSAL adds are
// passed over.
func audienceOf(scope string) (audience string, roles []string, refused *refusal) {
	var asked []string
	for _, s := range strings.Fields(scope) {
		if s != "openid" && s != "offline_access" && s != "profile" {
			asked = append(asked, s)
		}
	}
	if len(asked) != 1 || !strings.HasSuffix(asked[0], "/.default") {
		return "", nil, &refusal{400, 1002012, "invalid_scope", "The provided value for scope is not valid."}
	}
	audience = strings.TrimSuffix(asked[0], "/.default")
	switch strings.TrimSuffix(audience, "/") + "/" {
	case intuneResource:
		return audience, []string{RoleIntune}, nil
	case graphResource:
		return audience, graphRoles, nil
	}
	// A cloud elsewhere has its Graph elsewhere.
	if u, err := url.Parse(audience); err == nil && u.Port() != "" && u.Scheme == "https" {
		return audience, graphRoles, nil
	}
	return "", nil, &refusal{400, 500011, "invalid_resource", "The resource principal was not found in the tenant."}
}

// refuseToken writes Entra ID's error.
func (c *Cloud) refuseToken(w http.ResponseWriter, e *refusal) {
	now := c.clock().UTC()
	trace, correlation := guid(), guid()
	writeJSON(w, e.status, map[string]any{
		"error": e.oauth,
		"error_description": fmt.Sprintf("AADSTS%d: %s Trace ID: %s Correlation ID: %s Timestamp: %s",
			e.aadsts, e.words, trace, correlation, now.Format("2006-01-02 15:04:05Z")),
		"error_codes":    []int{e.aadsts},
		"timestamp":      now.Format("2006-01-02 15:04:05Z"),
		"trace_id":       trace,
		"correlation_id": correlation,
	})
}

// SetTokenLife sets how long new tokens live.
func (c *Cloud) SetTokenLife(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.life = d
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
