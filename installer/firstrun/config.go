package firstrun

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/certconnector/certconnector/internal/durable"
)

// writeConfig leaves the file that the service is started with: what differs
// from the defaults, and why.
func (p *Plan) writeConfig(context.Context) error {
	text := strings.Join([]string{
		p.o.headText(), p.o.listenerText(), p.o.tenantText(), p.o.caText(), p.o.endpointText(), p.o.footText(),
	}, "\n")
	return durable.Create(p.path(ConfigFile), []byte(text), 0o600)
}

func (o *Options) headText() string {
	state := "."
	if o.StateDir != o.Dir {
		state = quote(o.StateDir)
	}
	return fmt.Sprintf(`# Made by "certconnector init". Paths are relative to this folder.
# All keys and their defaults: configs/certconnector.full.yaml, or "certconnector schema".
# Check changes with "certconnector validate".

state_dir: %s
`, state)
}

func (o *Options) listenerText() string {
	tls := "tls: " + o.pair(tlsCertFile, tlsKeyFile)
	if o.PlainHTTP {
		tls = "plain_http: true # a proxy on this host ends TLS, or this is a laboratory"
	}
	return fmt.Sprintf(`listeners:
  - name: devices
    address: %s
    faces: [scep]
    %s
  # Health, for operators:
  # - {name: admin, address: "127.0.0.1:9443", faces: [status], plain_http: true}
`, quote(o.Listen), tls)
}

func (o *Options) tenantText() string {
	if o.Policy != PolicyIntune {
		return ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, `tenants:
  - name: intune
    tenant_id: %s
    client_id: %s
    cloud: %s
    credential: %s
`, quote(o.Tenant), quote(o.ClientID), o.Cloud, o.pair(entraCertFile, entraKeyFile))
	urls := []struct{ key, value string }{{"authority", o.AuthorityURL}, {"graph", o.GraphURL}, {"resource", o.ResourceURL}}
	section := "    urls:\n"
	for _, u := range urls {
		if u.value != "" {
			fmt.Fprintf(&b, "%s      %s: %s\n", section, u.key, quote(u.value))
			section = ""
		}
	}
	if o.CloudCAFile != "" {
		fmt.Fprintf(&b, "    ca_file: %s\n", quote(o.CloudCAFile))
	}
	return b.String()
}

// pair names a certificate and its key.
func (o *Options) pair(cert, key string) string {
	return "{certificate: " + o.named(cert) + ", key: " + o.named(key) + "}"
}

func (o *Options) caText() string {
	if o.CA != CAEmbedded {
		return o.microsoftText()
	}
	return fmt.Sprintf(`cas:
  - name: %s # do not change: the CA's register is kept under it
    embedded:
      certificate: %s
      key: %s
      profiles:
        - {name: device, validity: 8760h, eku: [clientAuth]}
`, CAName, o.named(caCertFile), o.named(caKeyFile))
}

func (o *Options) endpointText() string {
	policy := "policy: {intune: {tenant: intune}}"
	if o.Policy == PolicyStatic {
		challenge := o.named(ChallengeFile)
		if o.ChallengeFile != "" {
			challenge = quote(o.ChallengeFile)
		}
		policy = fmt.Sprintf(`policy:
      static:
        challenge: {file: %s}
        # Whoever knows the challenge gets a certificate: for a laboratory, not
        # for a fleet.
        allow_static_challenge: true
    # Any name may be asked for. Narrow it, as {subject: ["CN=*.corp.example"], san: ["dns:*.corp.example"]}.
    allow: {subject: ["*"], san: ["*"]}`, challenge)
	}
	ca, template, renewal := CAName, "device", ""
	if o.CA != CAEmbedded {
		ca, template, renewal = MicrosoftName, quote(o.Microsoft.Template), o.renewalText()
	}
	return fmt.Sprintf(`endpoints:
  - name: %s
    path: %s
    ca: %s
    templates: {general: %s}
    %s
    ra:
      signing: %s
      encryption: %s
%s`, EndpointName, SCEPPath, ca, template, policy,
		o.pair(raFile("signing", "crt"), raFile("signing", "key")), o.pair(raFile("encryption", "crt"), raFile("encryption", "key")), renewal)
}

// renewalText says by which templates the RA's certificates are renewed.
func (o *Options) renewalText() string {
	m := o.Microsoft
	switch {
	case m.SigningTemplate == "":
		return "      # templates: {signing: …, encryption: …} # with them the service renews both itself\n"
	case m.EncryptionTemplate == "":
		return fmt.Sprintf("      templates: {signing: %s}\n", quote(m.SigningTemplate))
	}
	return fmt.Sprintf("      templates: {signing: %s, encryption: %s}\n", quote(m.SigningTemplate), quote(m.EncryptionTemplate))
}

func (o *Options) footText() string {
	return fmt.Sprintf(`journal: {sqlite: {path: %s}}
secrets: {local_key: %s}
`, o.named(JournalFile), o.named(LocalKeyFile))
}

// quote writes a text as YAML reads it back, whatever is in it: JSON strings
// are YAML strings.
func quote(s string) string {
	b, err := json.Marshal(s)
	if err != nil { // a string can always be encoded
		return `""`
	}
	return string(b)
}
