package intunetest

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// PFX is an imported PFX certificate of a user.
type PFX struct {
	Tenant            string    `json:"tenant"`
	ID                string    `json:"id"` // user ID without dashes, dash, thumbprint
	UserPrincipalName string    `json:"user_principal_name"`
	Thumbprint        string    `json:"thumbprint"`
	IntendedPurpose   string    `json:"intended_purpose"`
	Start             time.Time `json:"start"`
	Expires           time.Time `json:"expires"`
	ProviderName      string    `json:"provider_name"`
	KeyName           string    `json:"key_name"`
	PaddingScheme     string    `json:"padding_scheme"`
	Blob              []byte    `json:"blob"`     // the PFX as it came
	Password          []byte    `json:"password"` // encrypted, as it came
	Created           time.Time `json:"created"`
	LastModified      time.Time `json:"last_modified"`
}

// graphPFX adds users, and their PFX certificates, which are in beta only.
func (c *Cloud) graphPFX(mux *http.ServeMux) {
	mux.HandleFunc("GET /v1.0/users", c.at(Users, c.users))
	const path = "/beta/deviceManagement/"
	mux.HandleFunc("POST "+path+"userPfxCertificates", c.at(PFXes, c.createPFX))
	mux.HandleFunc("GET "+path+"userPfxCertificates", c.at(PFXes, c.listPFX))
	// Microsoft's import module writes keys in three ways.
	for _, key := range []string{"userPfxCertificates/{key}", "{key}"} {
		mux.HandleFunc("GET "+path+key, c.at(PFXes, c.onePFX(func(p *PFX) (int, error) { return http.StatusOK, nil })))
		mux.HandleFunc("DELETE "+path+key, c.at(PFXes, c.onePFX(func(p *PFX) (int, error) {
			if err := c.records.save(stateLine{Kind: kindNoPFX, PFX: p}); err != nil {
				return 0, err
			}
			c.records.pfx = slices.DeleteFunc(c.records.pfx, func(o *PFX) bool { return o == p })
			return http.StatusNoContent, nil
		})))
	}
}

var upnFilter = regexp.MustCompile(`^userPrincipalName eq '((?:[^']|'')*)'$`)

// users finds a user by name.
func (c *Cloud) users(w http.ResponseWriter, r *http.Request) {
	claims, ok := c.graphCaller(w, r, RoleUsers)
	if !ok {
		return
	}
	m := upnFilter.FindStringSubmatch(r.URL.Query().Get("$filter"))
	if m == nil {
		graphError(w, http.StatusBadRequest, "Request_UnsupportedQuery", "Only a filter by userPrincipalName is supported by the simulator.")
		return
	}
	c.mu.Lock()
	id := c.find(claims.TenantID).userID(strings.ReplaceAll(m[1], "''", "'"))
	c.mu.Unlock()
	value := []any{}
	if id != "" {
		value = append(value, map[string]string{"id": id})
	}
	writeJSON(w, http.StatusOK, map[string]any{"@odata.context": "https://" + r.Host + "/v1.0/$metadata#users(id)", "value": value})
}

// userID finds a user among the tenant's, and those of its devices.
func (t *tenant) userID(name string) string {
	for _, u := range t.Users {
		if strings.EqualFold(u.Name, name) {
			return u.ID
		}
	}
	for _, d := range t.Devices {
		if strings.EqualFold(d.User, name) {
			return d.UserID
		}
	}
	return ""
}

func (c *Cloud) createPFX(w http.ResponseWriter, r *http.Request) {
	claims, ok := c.graphCaller(w, r, RolePFX)
	if !ok {
		return
	}
	p, err := readPFX(r)
	if err != nil {
		graphError(w, http.StatusBadRequest, "BadRequest", err.Error())
		return
	}
	c.mu.Lock()
	status, err := c.keepPFX(c.find(claims.TenantID), p)
	c.mu.Unlock()
	if err != nil {
		graphError(w, status, http.StatusText(status), err.Error())
		return
	}
	c.note(r, "PFX created")
	writeJSON(w, http.StatusCreated, p.wire())
}

// keepPFX records a certificate. The caller holds c.mu.
func (c *Cloud) keepPFX(t *tenant, p *PFX) (int, error) {
	user := t.userID(p.UserPrincipalName)
	if user == "" {
		return http.StatusBadRequest, errors.New("the user does not exist")
	}
	p.Tenant, p.ID = t.ID, strings.ToLower(strings.ReplaceAll(user, "-", ""))+"-"+p.Thumbprint
	p.Created = c.clock()
	p.LastModified = p.Created
	if slices.ContainsFunc(c.records.pfx, func(o *PFX) bool { return o.Tenant == p.Tenant && o.ID == p.ID }) {
		return http.StatusConflict, errors.New("the user has this certificate already")
	}
	if err := c.records.save(stateLine{Kind: kindPFX, PFX: p}); err != nil {
		return http.StatusInternalServerError, err
	}
	c.records.pfx = append(c.records.pfx, p)
	return 0, nil
}

// The values of enumerations, which Graph takes in any case.
var (
	pfxPurposes = []string{"unassigned", "smimeEncryption", "smimeSigning", "vpn", "wifi"}
	pfxPaddings = []string{"none", "pkcs1", "oaepSha1", "oaepSha256", "oaepSha384", "oaepSha512"}
)

func readPFX(r *http.Request) (*PFX, error) {
	var b struct {
		ID                string `json:"id"`
		Thumbprint        string `json:"thumbprint"`
		IntendedPurpose   string `json:"intendedPurpose"`
		UserPrincipalName string `json:"userPrincipalName"`
		Start             string `json:"startDateTime"`
		Expires           string `json:"expirationDateTime"`
		ProviderName      string `json:"providerName"`
		KeyName           string `json:"keyName"`
		PaddingScheme     string `json:"paddingScheme"`
		Blob              []byte `json:"encryptedPfxBlob"`
		Password          []byte `json:"encryptedPfxPassword"`
	}
	if err := json.NewDecoder(r.Body).Decode(&b); err != nil {
		return nil, errors.New("the body is not what is expected")
	}
	p := &PFX{
		UserPrincipalName: b.UserPrincipalName, Thumbprint: b.Thumbprint, ProviderName: b.ProviderName, KeyName: b.KeyName,
		Blob: b.Blob, Password: b.Password,
	}
	sum, err := hex.DecodeString(b.Thumbprint)
	if err != nil || len(sum) != 20 || strings.ToLower(b.Thumbprint) != b.Thumbprint {
		return nil, errors.New("thumbprint is not 40 lower-case hexadecimal digits")
	}
	for _, e := range []struct {
		name, given string
		known       []string
		to          *string
	}{{"intendedPurpose", b.IntendedPurpose, pfxPurposes, &p.IntendedPurpose}, {"paddingScheme", b.PaddingScheme, pfxPaddings, &p.PaddingScheme}} {
		i := slices.IndexFunc(e.known, func(s string) bool { return strings.EqualFold(s, e.given) })
		if i < 0 {
			return nil, fmt.Errorf("%s is unknown", e.name)
		}
		*e.to = e.known[i]
	}
	p.Start, err = time.Parse(time.RFC3339, b.Start)
	var err2 error
	p.Expires, err2 = time.Parse(time.RFC3339, b.Expires)
	switch {
	case err != nil || err2 != nil:
		return nil, errors.New("a date is malformed")
	case b.ID != "":
		return nil, errors.New("id is made by the service")
	case p.UserPrincipalName == "" || p.ProviderName == "" || p.KeyName == "" || len(p.Blob) == 0:
		return nil, errors.New("a property is missing")
	case len(p.Password) < 256:
		return nil, errors.New("encryptedPfxPassword is not encrypted with an RSA key of 2048 bits or more")
	}
	return p, nil
}

// wire is a certificate as Graph gives it: without its contents.
func (p *PFX) wire() map[string]any {
	date := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	return map[string]any{
		"id": p.ID, "thumbprint": p.Thumbprint, "intendedPurpose": p.IntendedPurpose, "userPrincipalName": p.UserPrincipalName,
		"startDateTime": date(p.Start), "expirationDateTime": date(p.Expires), "providerName": p.ProviderName, "keyName": p.KeyName,
		"paddingScheme": p.PaddingScheme, "encryptedPfxBlob": []byte{0}, "encryptedPfxPassword": "",
		"createdDateTime": date(p.Created), "lastModifiedDateTime": date(p.LastModified),
	}
}

var (
	pfxKey    = regexp.MustCompile(`^(?:userPfxCertificates\('?)?([0-9a-f]{32}-[0-9a-fA-F]{40})(?:'?\))?$`)
	pfxFilter = regexp.MustCompile(`^tolower\(userPrincipalName\) eq '([^']*)'(?: and tolower\(thumbprint\) eq '([^']*)')?$`)
)

// onePFX finds the certificate of a call and does something with it under the
// lock.
func (c *Cloud) onePFX(do func(*PFX) (int, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		claims, ok := c.graphCaller(w, r, RolePFX)
		if !ok {
			return
		}
		id := ""
		if m := pfxKey.FindStringSubmatch(r.PathValue("key")); m != nil {
			id = strings.ToLower(m[1])
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		i := slices.IndexFunc(c.records.pfx, func(p *PFX) bool { return strings.EqualFold(p.Tenant, claims.TenantID) && p.ID == id })
		if i < 0 {
			graphError(w, http.StatusNotFound, "ResourceNotFound", "The certificate does not exist.")
			return
		}
		p := c.records.pfx[i]
		switch status, err := do(p); {
		case err != nil:
			graphError(w, http.StatusInternalServerError, "InternalServerError", err.Error())
		case status == http.StatusNoContent:
			w.WriteHeader(status)
		default:
			writeJSON(w, status, p.wire())
		}
	}
}

func (c *Cloud) listPFX(w http.ResponseWriter, r *http.Request) {
	claims, ok := c.graphCaller(w, r, RolePFX)
	if !ok {
		return
	}
	user, thumbprint := "", ""
	if filter := r.URL.Query().Get("$filter"); filter != "" {
		m := pfxFilter.FindStringSubmatch(filter)
		if m == nil {
			graphError(w, http.StatusBadRequest, "BadRequest", "The filter is not supported by the simulator.")
			return
		}
		user, thumbprint = m[1], m[2]
	}
	value := []any{}
	for _, p := range c.PFX() {
		if p.Tenant == claims.TenantID && (user == "" || strings.ToLower(p.UserPrincipalName) == user) && (thumbprint == "" || p.Thumbprint == thumbprint) {
			value = append(value, p.wire())
		}
	}
	writeJSON(w, http.StatusOK, map[string]any{"value": value})
}

// PFX returns the imported certificates, oldest first.
func (c *Cloud) PFX() []PFX {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]PFX, len(c.records.pfx))
	for i, p := range c.records.pfx {
		out[i] = *p
	}
	return out
}
