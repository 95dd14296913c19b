package agent

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/certconnector/certconnector/internal/configfile"
	"github.com/certconnector/certconnector/internal/keys"
)

// mistakes collects what is wrong, with key paths.
type mistakes = configfile.Mistakes

// Validate reports everything that is wrong with the configuration at once,
// as configfile.Mistakes. It looks at no file and asks no neighbour.
func (c *Config) Validate() error {
	var m mistakes
	if c.StateDir == "" {
		m.Add("state_dir", "is empty; name a folder that only the service's account can read")
	}
	if c.ShutdownGrace <= 0 {
		m.Add("shutdown_grace", "must be longer than 0s")
	}
	c.validateListeners(&m)
	c.validateTenants(&m)
	c.validateCAs(&m)
	c.validateEndpoints(&m)
	c.validatePrincipals(&m)
	c.validateRegistrationPoint(&m)
	c.validateJobs(&m)
	if c.Journal.SQLite == nil {
		m.Add("journal", "names no kind; use sqlite: {}")
	}
	if c.Journal.RestoreQuarantine <= 0 {
		m.Add("journal.restore_quarantine", "must be longer than 0s")
	}
	c.Keys.validate(&m)
	c.Limits.validate(&m)
	c.Log.validate(&m)
	return m.Err()
}

func (c *Config) validateListeners(m *mistakes) {
	if len(c.Listeners) == 0 {
		m.Add("listeners", "is empty; without a listener nothing can reach the service")
	}
	scep := false
	addresses := map[string]string{}
	for i, l := range c.Listeners {
		at := fmt.Sprintf("listeners[%d]", i)
		l.validate(at, m)
		c.validateIssuer(l.TLS, at+".tls", m)
		scep = scep || l.Shows(FaceSCEP)
		if other, taken := addresses[l.Address]; taken && l.Address != "" {
			m.Add(at+".address", "%q is the address of %s already", l.Address, other)
		}
		addresses[l.Address] = at
	}
	if len(c.Listeners) > 0 && !scep && len(c.Endpoints) > 0 {
		m.Add("listeners", "none shows the face scep, so no device could reach an endpoint")
	}
	own := slices.ContainsFunc(c.CAs, func(a CA) bool { return a.Embedded != nil })
	if !own && (c.shows(FaceCRL) || c.shows(FaceOCSP)) {
		m.Add("listeners", "the faces crl and ocsp are for embedded CAs, of which there is none; a Microsoft CA has its own")
	}
	uniqueNames(m, "listeners", c.Listeners, func(l Listener) string { return l.Name })
}

func (l Listener) validate(at string, m *mistakes) {
	if _, port, err := net.SplitHostPort(l.Address); err != nil || port == "" {
		m.Add(at+".address", "%q is not host:port, as \":443\" or \"127.0.0.1:9443\"", l.Address)
	}
	if len(l.Faces) == 0 {
		m.Add(at+".faces", "is empty; this version has scep, status, challenges, crp, crl and ocsp")
	}
	for j, f := range l.Faces {
		if !slices.Contains([]string{FaceSCEP, FaceStatus, FaceChallenges, FaceCRP, FaceCRL, FaceOCSP}, f) {
			m.Add(fmt.Sprintf("%s.faces[%d]", at, j), "%q is not part of this version, which has scep, status, challenges, crp, crl and ocsp", f)
		} else if slices.Index(l.Faces, f) != j {
			m.Add(fmt.Sprintf("%s.faces[%d]", at, j), "%q is listed twice", f)
		}
	}
	switch {
	case l.TLS.empty() && !l.PlainHTTP:
		m.Add(at+".tls", "is missing; name certificate and key, or set plain_http: true if a proxy ends TLS")
	case !l.TLS.empty() && l.PlainHTTP:
		m.Add(at+".plain_http", "contradicts tls; remove one of them")
	case !l.TLS.empty():
		l.TLS.validate(at+".tls", m)
	}
	l.validateClients(at, m)
	l.validateProxies(at, m)
}

// validate wants both files.
func (p *KeyPair) validate(at string, m *mistakes) {
	if p == nil || p.Certificate == "" {
		m.Add(at+".certificate", "is missing; name a PEM file")
	}
	if p == nil || p.Key == "" {
		m.Add(at+".key", "is missing; name a PEM file")
		return
	}
	if err := keys.CheckRef(p.Key); err != nil {
		m.Add(at+".key", "%v", err)
	}
}

func (l Limits) validate(m *mistakes) {
	if l.HeaderBytes < 66<<10 {
		m.Add("limits.header_bytes", "%d is too small for a PKIOperation by GET, want 67584 or more", l.HeaderBytes)
	}
	if l.BodyBytes < 64<<10 {
		m.Add("limits.body_bytes", "%d is too small for a PKIOperation, want 65536 or more", l.BodyBytes)
	}
	for _, n := range []struct {
		key   string
		value int
	}{
		{"held", l.Held}, {"connections", l.Connections}, {"failures_per_minute", l.FailuresPerMinute},
	} {
		if n.value < 1 {
			m.Add("limits."+n.key, "must be 1 or more")
		}
	}
	if l.Concurrent < 0 {
		m.Add("limits.concurrent", "must not be negative; 0 is twice the number of processors")
	}
	positive(m, "limits.wait", l.Wait)
	positive(m, "limits.challenge_life", l.ChallengeLife)
	if l.Queue < 0 {
		m.Add("limits.queue", "must not be negative; 0 is three quarters of held")
	}
	if l.PerSource < -1 {
		m.Add("limits.per_source", "%d makes no sense; -1 is no limit, 0 half of held", l.PerSource)
	}
	positive(m, "limits.read_header_timeout", l.ReadHeaderTimeout)
	positive(m, "limits.read_timeout", l.ReadTimeout)
	positive(m, "limits.write_timeout", l.WriteTimeout)
	positive(m, "limits.idle_timeout", l.IdleTimeout)
}

func (l Log) validate(m *mistakes) {
	oneOf(m, "log.level", l.Level, "debug", "info", "warn", "error")
	oneOf(m, "log.format", l.Format, "json", "console")
}

// uniqueNames wants a usable name in every element of a list, and no two equal.
func uniqueNames[T any](m *mistakes, list string, items []T, name func(T) string) {
	seen := map[string]int{}
	for i, item := range items {
		n := name(item)
		at := fmt.Sprintf("%s[%d].name", list, i)
		if !plainName(n) {
			m.Add(at, "%q is no name; use 1 to 64 of a-z, 0-9, '-' and '_'", n)
			continue
		}
		if first, taken := seen[n]; taken {
			m.Add(at, "%q is the name of %s[%d] already", n, list, first)
			continue
		}
		seen[n] = i
	}
}

// plainName keeps names fit for a metric's label, a file name and a command line.
func plainName(s string) bool {
	return len(s) >= 1 && len(s) <= 64 && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

func oneOf(m *mistakes, at, got string, want ...string) {
	if !slices.Contains(want, got) {
		m.Add(at, "%q is unknown, want one of %s", got, strings.Join(want, ", "))
	}
}

func positive(m *mistakes, at string, d time.Duration) {
	if d <= 0 {
		m.Add(at, "must be longer than 0s")
	}
}

// httpsURL wants an absolute https address: tokens and challenges go there. Only
// one that can hold no password is quoted.
func httpsURL(m *mistakes, at, s string) {
	u, err := url.Parse(s)
	switch {
	case err == nil && u.User != nil:
		m.Add(at, "holds a user; write the address alone, as https://host/")
	case err != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "":
		m.Add(at, "is no address, want one as https://host/, without query and fragment")
	case u.Scheme != "https":
		m.Add(at, "%q does not begin with https://", s)
	}
}

// loopback reports whether a host never leaves this machine.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
