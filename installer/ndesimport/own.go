package ndesimport

import (
	"net/url"
	"strings"
)

// ownModule takes over the settings of our own module for NDES
// (policymodule/ndesdll): the endpoint asks the registration point that the
// module asked.
func (im *importer) ownModule(progID *setting) {
	const key = `Modules\CertConnectorPolicy\`
	im.e.policy = policyPoint
	im.say(Changed, progID, "policy.registration_point", "our module for NDES: the endpoint asks the same registration point itself")
	if s, address, ok := im.text(key + "Url"); ok && isHTTPS(address) {
		im.e.pointURL = address
		im.say(Kept, s, "policy.registration_point.url: "+address, "the registration point")
	} else if ok {
		im.say(Manual, s, "policy.registration_point.url: "+fillIn, "is no address as https://crp.corp.example:8443")
	}
	if s, tenant, ok := im.text(key + "Tenant"); ok {
		im.e.pointTenant = tenant
		im.say(Kept, s, "policy.registration_point.tenant: "+tenant, "a name that the registration point knows")
	}
	if s := im.get(key + "ClientCertThumbprint"); s != nil {
		im.say(Manual, s, "policy.registration_point.certificate, .key", "the private key is in that server's certificate store; make a new certificate, and let the registration point know it")
	}
	if s := im.get(key + "ServerPins"); s != nil {
		im.say(Manual, s, "policy.registration_point.ca_file", "there are no pins here; name the roots that the registration point's certificate may chain to")
	}
	for _, d := range []struct{ name, why string }{
		{"Endpoint", "the name of that server at the registration point; this endpoint is known by its client certificate"},
		{"IssuingCA", "follows from the CA here"},
		{"TimeoutMs", "the default of policy.registration_point.timeout, 40s, is used"},
		{"NotifyTimeoutMs", "the default of policy.registration_point.timeout, 40s, is used"},
		{"CheckRevocation", "a setting of Windows' HTTP client"},
		{"UseMachineProxy", "a setting of Windows' HTTP client; here HTTPS_PROXY says so"},
		{"LogFile", "the module's own log; here: log.file"},
		{"LogLevel", "the module's own log; here: log.level"},
	} {
		if s := im.get(key + d.name); s != nil {
			im.say(Dropped, s, "", d.why)
		}
	}
}

func isHTTPS(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil && u.RawQuery == "" && !strings.Contains(s, "#")
}
