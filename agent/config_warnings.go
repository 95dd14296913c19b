package agent

import (
	"fmt"
	"net"
	"slices"
)

// Warnings names what the configuration permits although it is unsafe, one
// sentence each with its key path. The service logs them at every start.
func (c *Config) Warnings() []string {
	var w []string
	warn := func(format string, args ...any) { w = append(w, fmt.Sprintf(format, args...)) }
	for i, l := range c.Listeners {
		host, _, _ := net.SplitHostPort(l.Address)
		if l.PlainHTTP && !loopback(host) && (l.Shows(FaceSCEP) || l.Shows(FaceStatus)) {
			warn("listeners[%d].plain_http: %q serves without TLS beyond this host", i, l.Name)
		}
		if l.Shows(FaceStatus) && l.Shows(FaceSCEP) && (!loopback(host) || len(l.TrustedProxies) > 0) {
			warn("listeners[%d].faces: %q shows health to devices", i, l.Name)
		}
		if l.ClientCertificateHeader != "" && l.trustsThisMachine() {
			warn("listeners[%d].client_certificate_header: whoever has an account on this machine can pass for every client of %q", i, l.Name)
		}
	}
	for i, t := range c.Tenants {
		if t.Credential.Secret != nil {
			warn("tenants[%d].credential.secret: %q signs in with a client secret, which expires and can be copied; a certificate is safer", i, t.Name)
		}
		if t.Revocation != nil && t.Revocation.AnySerial {
			warn("tenants[%d].revocation.any_serial: whoever speaks for %q can have any certificate of the CAs revoked", i, t.Name)
		}
		if t.Cloud == "custom" {
			warn("tenants[%d].cloud: %q is asked at addresses of your own", i, t.Name)
		}
	}
	for i, e := range c.Endpoints {
		if e.Policy.Static != nil {
			warn("endpoints[%d].policy.static.allow_static_challenge: whoever knows the secret of %q gets a certificate with any name that allow permits", i, e.Name)
		}
		if !e.Policy.Vouched() && slices.Contains(e.Allow.Subject, "*") {
			warn("endpoints[%d].allow.subject: %q gives certificates with any subject, and nobody compares it with the device", i, e.Name)
		}
		if e.Algorithms.LegacySHA1 {
			warn("endpoints[%d].algorithms.legacy_sha1: %q accepts SHA-1", i, e.Name)
		}
		if e.Renewal.Grace > 0 {
			warn("endpoints[%d].renewal.grace: %q renews certificates that have expired", i, e.Name)
		}
	}
	for i, s := range c.Jobs.Sources {
		if slices.Contains(s.Allow.Subject, "*") {
			warn("jobs.sources[%d].allow.subject: %q gets certificates and keys with any subject", i, s.Name)
		}
	}
	for i, a := range c.CAs {
		if a.ADCS != nil && (a.ADCS.NTLM != nil || a.ADCS.SSPI.ntlm()) || a.Certsrv != nil && (a.Certsrv.NTLM != nil || a.Certsrv.SSPI.ntlm()) ||
			a.WSTEP != nil && a.WSTEP.SSPI.ntlm() {
			warn("cas[%d]: %q signs in by NTLM, which proves nothing of the server and can be relayed; Kerberos is safer", i, a.Name)
		}
	}
	for i, p := range c.Principals {
		for j, r := range p.Rights {
			if slices.Contains(r.Subject, "*") {
				warn("principals[%d].rights[%d].subject: challenges of %q are good for any subject", i, j, p.Name)
			}
		}
	}
	return w
}
