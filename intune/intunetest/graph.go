package intunetest

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// discoveryApp is the application whose endpoints Graph lists.
const discoveryApp = "0000000a-0000-0000-c000-000000000000"

// Service is an entry of the list of services.
type Service struct {
	Provider string `json:"provider"` // providerName
	Legacy   string `json:"legacy"`   // serviceName, as the retired Azure AD Graph called it
	URI      string `json:"uri"`
}

const scepService = "ScepRequestValidationFEService"

// SetServices replaces the list of services for all tenants; nil: the list
// that fits the scale unit.
func (c *Cloud) SetServices(services []Service) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.services = slices.Clone(services)
}

// MoveScaleUnit moves the services to another address; the old one answers
// with 404 from now on.
func (c *Cloud) MoveScaleUnit() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unit++
}

// Services is the list that Graph gives now.
func (c *Cloud) Services() []Service {
	c.mu.Lock()
	set := slices.Clone(c.services)
	c.mu.Unlock()
	if set != nil {
		return set
	}
	return []Service{
		{Provider: "SomeOtherFEService", URI: "https://" + c.address(unitAt) + "/other"},
		{Provider: scepService, URI: c.ServiceURL()},
		{Provider: c.options.Revocation.Service, URI: c.RevocationURL()},
	}
}

// Graph is Microsoft Graph, as far as a connector uses it.
func (c *Cloud) Graph() http.Handler {
	mux := http.NewServeMux()
	// appId=<guid> is what Microsoft's library sends, the form with
	// parentheses what Graph documents.
	mux.HandleFunc("GET /v1.0/servicePrincipals/{key}/endpoints", c.at(Discovery, c.discover))
	discover, application := c.at(Discovery, c.discover), c.at(Applications, c.application)
	mux.HandleFunc("GET /v1.0/{kind}/{key}", func(w http.ResponseWriter, r *http.Request) {
		switch kind, key := r.PathValue("kind"), r.PathValue("key"); {
		case key == "endpoints":
			r.SetPathValue("key", kind)
			discover(w, r)
		case kind == "applications":
			application(w, r)
		default:
			http.NotFound(w, r)
		}
	})
	mux.HandleFunc("/", c.at("unknown", func(w http.ResponseWriter, r *http.Request) {
		graphError(w, http.StatusNotFound, "ResourceNotFound", "Resource not found for the segment.")
	}))
	c.graphApplications(mux)
	c.graphPFX(mux)
	return mux
}

func (c *Cloud) discover(w http.ResponseWriter, r *http.Request) {
	if _, ok := c.graphCaller(w, r, RoleGraph); !ok {
		return
	}
	key := strings.TrimSuffix(strings.TrimPrefix(r.PathValue("key"), "servicePrincipals("), ")")
	if id := strings.Trim(strings.TrimPrefix(key, "appId="), "'"); id != discoveryApp {
		graphError(w, http.StatusNotFound, "Request_ResourceNotFound", "Resource '"+id+"' does not exist.")
		return
	}
	services := c.Services()
	c.note(r, fmt.Sprintf("%d services", len(services)))
	skip, _ := strconv.Atoi(r.URL.Query().Get("$skip"))
	services = services[min(max(skip, 0), len(services)):]
	page := map[string]any{"@odata.context": "https://" + r.Host + "/v1.0/$metadata#servicePrincipals('0')/endpoints"}
	if n := c.options.PageSize; n > 0 && len(services) > n {
		services = services[:n]
		page["@odata.nextLink"] = fmt.Sprintf("https://%s%s?$skip=%d", r.Host, r.URL.Path, skip+n)
	}
	value := []any{}
	for i, s := range services {
		entry := map[string]any{
			"id": fmt.Sprintf("00000000-0000-4000-8000-%012d", skip+i), "providerId": discoveryApp, "uri": s.URI,
		}
		if s.Provider != "" {
			entry["providerName"], entry["capability"], entry["providerResourceId"] = s.Provider, s.Provider, s.Provider
		}
		if s.Legacy != "" {
			entry["serviceName"] = s.Legacy
		}
		value = append(value, entry)
	}
	page["value"] = value
	writeJSON(w, http.StatusOK, page)
}

// graphCaller checks the token of a call of Graph; one of the roles must be in
// it, if there are any. It has answered when it reports false.
func (c *Cloud) graphCaller(w http.ResponseWriter, r *http.Request, roles ...string) (jwtClaims, bool) {
	claims, err := c.checkToken(bearer(r))
	audience := strings.TrimSuffix(claims.Audience, "/") + "/"
	if err != nil || audience != graphResource && audience != "https://"+r.Host+"/" {
		graphError(w, http.StatusUnauthorized, "InvalidAuthenticationToken", "Access token validation failure. Invalid audience.")
		return claims, false
	}
	if len(roles) > 0 && !slices.ContainsFunc(roles, func(role string) bool { return slices.Contains(claims.Roles, role) }) {
		graphError(w, http.StatusForbidden, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")
		return claims, false
	}
	return claims, true
}

func graphError(w http.ResponseWriter, status int, code, message string) {
	writeJSON(w, status, map[string]any{"error": map[string]any{
		"code": code, "message": message, "innerError": map[string]any{"request-id": guid()},
	}})
}

func bearer(r *http.Request) string {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	return token
}
