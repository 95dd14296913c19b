package intunetest

import (
	"net/http"
	"time"
)

// controlRevocations adds revocations, keys and PFX certificates.
func (c *Cloud) controlRevocations(mux *http.ServeMux) {
	list := func(path string, of func() any) {
		mux.HandleFunc("GET /control/"+path, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, of()) })
	}
	list("revocations", func() any { return c.Revocations() })
	list("contradictions", func() any { return c.Contradictions() })
	list("keys", func() any { return c.Keys() })
	list("pfx", func() any { return c.PFX() })
	mux.HandleFunc("POST /control/revocations", order(func(o struct {
		Tenant string `json:"tenant"`
		Serial string `json:"serial"`
		Issuer string `json:"issuer"`
		Device string `json:"device"`
	}) (any, error) {
		if o.Device != "" {
			return c.RevokeDevice(c.orFirst(o.Tenant), o.Device)
		}
		r, err := c.Revoke(c.orFirst(o.Tenant), o.Serial, o.Issuer)
		return []Revocation{r}, err
	}))
	mux.HandleFunc("POST /control/injections", order(func(o struct {
		Tenant   string      `json:"tenant"`
		Requests []Injection `json:"requests"`
	}) (any, error) {
		return c.Inject(c.orFirst(o.Tenant), o.Requests...)
	}))
	mux.HandleFunc("PUT /control/cooldown", order(func(o struct {
		Seconds int `json:"seconds"`
	}) (any, error) {
		c.SetCoolDown(time.Duration(o.Seconds) * time.Second)
		return done, nil
	}))
}
