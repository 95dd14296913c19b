package intunetest

import (
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// graphApplications adds what Graph does with applications. One is addressed
// by its object ID, or by its client ID in parentheses.
func (c *Cloud) graphApplications(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1.0/{key}", c.at(Applications, c.application))
	mux.HandleFunc("POST /v1.0/applications/{key}/addKey", c.at(AddKey, c.addKey))
	mux.HandleFunc("POST /v1.0/{key}/addKey", c.at(AddKey, c.addKey))
	mux.HandleFunc("POST /v1.0/applications/{key}/removeKey", c.at(RemoveKey, c.removeKey))
	mux.HandleFunc("POST /v1.0/{key}/removeKey", c.at(RemoveKey, c.removeKey))
}

var byClient = regexp.MustCompile(`^applications\(appId='([^']*)'\)$`)

// addressed finds the application of a call. The caller holds c.mu.
func (c *Cloud) addressed(tenantID, key string) *App {
	t := c.find(tenantID)
	if t == nil {
		return nil
	}
	if m := byClient.FindStringSubmatch(key); m != nil {
		return t.app(m[1])
	}
	i := slices.IndexFunc(t.apps, func(a *App) bool { return strings.EqualFold(a.ObjectID, key) })
	if i < 0 {
		return nil
	}
	return t.apps[i]
}

func (c *Cloud) application(w http.ResponseWriter, r *http.Request) {
	claims, ok := c.graphCaller(w, r, RoleGraph, RoleOwnKeys, RoleAllKeys)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	app := c.addressed(claims.TenantID, r.PathValue("key"))
	if app == nil {
		graphError(w, http.StatusNotFound, "Request_ResourceNotFound", "Resource '"+r.PathValue("key")+"' does not exist or one of its queried reference-property objects are not present.")
		return
	}
	keys := []any{}
	for _, k := range app.keys {
		// The certificate itself is told only where it is asked for.
		keys = append(keys, k.wire(strings.Contains(r.URL.Query().Get("$select"), "keyCredentials")))
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"@odata.context": "https://" + r.Host + "/v1.0/$metadata#applications/$entity",
		"id":             app.ObjectID, "appId": app.ClientID, "displayName": app.Name, "keyCredentials": keys,
	})
}

// wire is a key as Graph writes it.
func (k *appKey) wire(whole bool) map[string]any {
	sum := sha1.Sum(k.cert.Raw)
	m := map[string]any{
		"keyId": k.id, "displayName": k.name, "type": "AsymmetricX509Cert", "usage": "Verify", "key": nil,
		"customKeyIdentifier": sum[:],
		"startDateTime":       k.cert.NotBefore.UTC().Format(time.RFC3339), "endDateTime": k.cert.NotAfter.UTC().Format(time.RFC3339),
	}
	if whole {
		m["key"] = k.cert.Raw
	}
	return m
}

// rolling checks a call that changes keys: an application rolls its own ones,
// with a proof. It answers itself when it returns nil, and then does not hold
// c.mu; else it does.
func (c *Cloud) rolling(w http.ResponseWriter, r *http.Request, body any, proof *string) *App {
	var roles []string
	if c.options.KeyRole {
		roles = []string{RoleOwnKeys, RoleAllKeys}
	}
	claims, ok := c.graphCaller(w, r, roles...)
	if !ok {
		return nil
	}
	if err := json.NewDecoder(r.Body).Decode(body); err != nil {
		graphError(w, http.StatusBadRequest, "Request_BadRequest", "The body is not what is expected.")
		return nil
	}
	c.mu.Lock()
	app := c.addressed(claims.TenantID, r.PathValue("key"))
	status, code, words := 0, "", ""
	switch {
	case app == nil:
		status, code, words = http.StatusNotFound, "Request_ResourceNotFound", "The application does not exist."
	case !strings.EqualFold(app.ClientID, claims.AppID):
		status, code, words = http.StatusForbidden, "Authorization_RequestDenied", "Insufficient privileges to complete the operation."
	default:
		if err := c.checkProof(*proof, app); err != nil {
			status, code, words = http.StatusUnauthorized, "Authentication_MissingOrMalformed", "Access Token missing or malformed."
			defer c.note(r, err.Error())
		}
	}
	if status != 0 {
		c.mu.Unlock()
		graphError(w, status, code, words)
		return nil
	}
	return app
}

func (c *Cloud) addKey(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Key struct {
			Type        string `json:"type"`
			Usage       string `json:"usage"`
			Key         []byte `json:"key"`
			DisplayName string `json:"displayName"`
		} `json:"keyCredential"`
		Proof string `json:"proof"`
	}
	app := c.rolling(w, r, &body, &body.Proof)
	if app == nil {
		return
	}
	cert, err := x509.ParseCertificate(body.Key.Key)
	if err == nil {
		err = c.checkNewKey(body.Key.Type, body.Key.Usage, cert)
	}
	if err != nil {
		c.mu.Unlock()
		graphError(w, http.StatusBadRequest, "Request_BadRequest", err.Error())
		return
	}
	now := c.clock()
	k := &appKey{id: guid(), name: body.Key.DisplayName, cert: cert, added: now, usable: now.Add(c.options.KeyDelay)}
	app.keys = append(app.keys, k)
	answer := k.wire(false)
	c.mu.Unlock()
	c.note(r, "key added")
	writeJSON(w, http.StatusOK, answer)
}

// checkNewKey wants a certificate that one can sign in with.
func (c *Cloud) checkNewKey(kind, usage string, cert *x509.Certificate) error {
	pub, ok := cert.PublicKey.(*rsa.PublicKey)
	switch {
	case kind != "AsymmetricX509Cert" || usage != "Verify":
		return fmt.Errorf("a key of type AsymmetricX509Cert has the usage Verify")
	case !ok || pub.N.BitLen() < 2048:
		return fmt.Errorf("the certificate has no RSA key of 2048 bits or more")
	case c.clock().After(cert.NotAfter):
		return fmt.Errorf("the certificate has expired")
	}
	return nil
}

// removeKey removes a key: also the one that signed the proof, also the last,
// for Graph documents no exception.
func (c *Cloud) removeKey(w http.ResponseWriter, r *http.Request) {
	var body struct {
		KeyID string `json:"keyId"`
		Proof string `json:"proof"`
	}
	app := c.rolling(w, r, &body, &body.Proof)
	if app == nil {
		return
	}
	i := slices.IndexFunc(app.keys, func(k *appKey) bool { return strings.EqualFold(k.id, body.KeyID) })
	if i >= 0 {
		app.keys = slices.Delete(app.keys, i, i+1)
	}
	c.mu.Unlock()
	if i < 0 {
		graphError(w, http.StatusNotFound, "Request_ResourceNotFound", "No credentials found to be removed.")
		return
	}
	c.note(r, "key removed")
	w.WriteHeader(http.StatusNoContent)
}
