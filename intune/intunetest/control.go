package intunetest

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
)

// Info says where a cloud is and how to sign in to it.
type Info struct {
	Authority  string `json:"authority"`
	Graph      string `json:"graph"`
	Resource   string `json:"resource"`
	Service    string `json:"service"`
	Revocation string `json:"revocation"`
	Control    string `json:"control"`
	Tenant     string `json:"tenant"`
	ClientID   string `json:"client_id"`
	RootPEM    string `json:"root_pem"`
}

// Control is the control API: what the methods of Cloud do, for another
// process. It is for the loopback interface and asks for no password.
//
//	GET    /control/info           where the cloud is
//	POST   /control/challenges     Ask → Challenge
//	POST   /control/faults         {"endpoint", "times", "fault"}; times -1: always
//	DELETE /control/faults         no faults any more
//	PUT    /control/outage         {"on"}
//	POST   /control/targeting      {"tenant", "profile", "device", "targeted"}; device "": all
//	POST   /control/profiles       {"tenant", "profile": Profile}
//	POST   /control/devices        {"tenant", "device": Device}
//	PUT    /control/roles          {"tenant", "client_id", "roles"}
//	PUT    /control/certificates   {"tenant", "client_id", "pem"}; client_id "": the first application's
//	PUT    /control/services       [Service]; null: the right ones
//	POST   /control/move           the scale unit moves
//	GET    /control/notifications  [Notification]
//	GET    /control/transactions   [Transaction]
//	GET    /control/calls          [Call]
//	POST   /control/revocations    {"tenant", "serial", "issuer"} or {"tenant", "device"} → [Revocation]
//	POST   /control/injections     {"tenant", "requests": [Injection]} → [Revocation]
//	GET    /control/revocations    [Revocation]
//	GET    /control/contradictions [Contradiction]
//	PUT    /control/cooldown       {"seconds"}
//	GET    /control/keys           [Key]
//	GET    /control/pfx            [PFX]
func (c *Cloud) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /control/info", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, c.Info()) })
	mux.HandleFunc("GET /control/notifications", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, c.Notifications()) })
	mux.HandleFunc("GET /control/transactions", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, c.Transactions()) })
	mux.HandleFunc("GET /control/calls", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, c.Calls()) })
	mux.HandleFunc("POST /control/challenges", order(func(ask Ask) (any, error) { return c.Challenge(ask) }))
	mux.HandleFunc("POST /control/move", order(func(struct{}) (any, error) { c.MoveScaleUnit(); return done, nil }))
	mux.HandleFunc("DELETE /control/faults", func(w http.ResponseWriter, _ *http.Request) { c.Heal(); writeJSON(w, http.StatusOK, done) })
	mux.HandleFunc("POST /control/faults", order(func(o struct {
		Endpoint Endpoint `json:"endpoint"`
		Times    int      `json:"times"`
		Fault    Fault    `json:"fault"`
	}) (any, error) {
		c.Fail(o.Endpoint, o.Times, o.Fault)
		return done, nil
	}))
	mux.HandleFunc("PUT /control/outage", order(func(o struct {
		On bool `json:"on"`
	}) (any, error) {
		c.SetOutage(o.On)
		return done, nil
	}))
	mux.HandleFunc("PUT /control/services", order(func(o []Service) (any, error) { c.SetServices(o); return done, nil }))
	c.controlTenants(mux)
	c.controlRevocations(mux)
	return mux
}

// controlTenants adds what changes tenants.
func (c *Cloud) controlTenants(mux *http.ServeMux) {
	mux.HandleFunc("POST /control/targeting", order(func(o struct {
		Tenant   string `json:"tenant"`
		Profile  string `json:"profile"`
		Device   string `json:"device"`
		Targeted bool   `json:"targeted"`
	}) (any, error) {
		return done, c.Target(c.orFirst(o.Tenant), o.Profile, o.Device, o.Targeted)
	}))
	mux.HandleFunc("POST /control/profiles", order(func(o struct {
		Tenant  string  `json:"tenant"`
		Profile Profile `json:"profile"`
	}) (any, error) {
		return done, c.AddProfile(c.orFirst(o.Tenant), o.Profile)
	}))
	mux.HandleFunc("POST /control/devices", order(func(o struct {
		Tenant string `json:"tenant"`
		Device Device `json:"device"`
	}) (any, error) {
		return done, c.AddDevice(c.orFirst(o.Tenant), o.Device)
	}))
	mux.HandleFunc("PUT /control/roles", order(func(o struct {
		Tenant   string   `json:"tenant"`
		ClientID string   `json:"client_id"`
		Roles    []string `json:"roles"`
	}) (any, error) {
		return done, c.SetRoles(c.orFirst(o.Tenant), c.orFirstApp(o.Tenant, o.ClientID), o.Roles...)
	}))
	mux.HandleFunc("PUT /control/certificates", order(func(o struct {
		Tenant   string `json:"tenant"`
		ClientID string `json:"client_id"`
		PEM      string `json:"pem"`
	}) (any, error) {
		certs, err := parsePEM(o.PEM)
		if err != nil {
			return nil, err
		}
		return done, c.SetCertificates(c.orFirst(o.Tenant), c.orFirstApp(o.Tenant, o.ClientID), certs...)
	}))
}

// parsePEM reads all certificates of a PEM text; there must be one.
func parsePEM(text string) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for block, rest := pem.Decode([]byte(text)); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading the certificate: %w", err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("the PEM text has no certificate")
	}
	return certs, nil
}

// done answers an order that has nothing to say.
var done = map[string]bool{"done": true}

// order carries out an order whose body is JSON.
func order[T any](do func(T) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var o T
		if r.ContentLength != 0 {
			if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&o); err != nil {
				writeJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
				return
			}
		}
		answer, err := do(o)
		if err != nil {
			writeJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
			return
		}
		writeJSON(w, http.StatusOK, answer)
	}
}

// orFirst is the named tenant, or the first.
func (c *Cloud) orFirst(name string) string {
	if name != "" {
		return name
	}
	return c.tenants[0].ID
}

// orFirstApp is the named application, or the tenant's first.
func (c *Cloud) orFirstApp(tenantName, clientID string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tenants[0]
	if tenantName != "" {
		t = c.find(tenantName)
	}
	if clientID != "" || t == nil || len(t.apps) == 0 {
		return clientID
	}
	return t.apps[0].ClientID
}

// Info says where the cloud is and how its first tenant signs in.
func (c *Cloud) Info() Info {
	info := Info{
		Authority: c.AuthorityURL(), Graph: c.GraphURL(), Resource: c.ResourceURL(), Service: c.ServiceURL(), Revocation: c.RevocationURL(),
		Control: c.ControlURL(), RootPEM: string(c.RootPEM()),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	info.Tenant, info.ClientID = c.tenants[0].ID, c.tenants[0].apps[0].ClientID
	return info
}
