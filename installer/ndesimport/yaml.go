package ndesimport

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/certconnector/certconnector/internal/logging"
)

// policy is who decides at the endpoint.
type policy int

const (
	policyOnetime policy = iota // NDES' own passwords
	policyStatic                // one for all
	policyIntune
	policyPoint // our module for NDES asked a registration point
	policyNone  // somebody else's module did
)

var templateKeys = [3]string{"signature", "encryption", "general"}

// endpoint is what will be written.
type endpoint struct {
	name, ca, tenant string
	policy           policy
	open             bool // NDES asked for no challenge
	microsoftCA      string
	templates        [3]string // of NDES
	profiles         [3]string // in their place

	lifetime           time.Duration
	bytes, outstanding int
	adminPath          string
	replay             time.Duration // 0: the default

	pointURL, pointTenant string // of the registration point
}

func newEndpoint(o Options) *endpoint {
	e := &endpoint{name: o.Endpoint, ca: o.CA, tenant: o.Tenant,
		lifetime: time.Hour, bytes: 16, outstanding: 1000, adminPath: "/certsrv/mscep_admin"}
	if e.ca == "" {
		e.ca = fillIn
	}
	if e.tenant == "" {
		e.tenant = fillIn
	}
	return e
}

// vouched reports whether somebody compares names with what it expects.
func (e *endpoint) vouched() bool { return e.policy == policyIntune || e.policy == policyPoint }

// text collects lines.
type text struct{ strings.Builder }

func (t *text) line(indent int, format string, args ...any) {
	t.WriteString(strings.Repeat(" ", indent))
	fmt.Fprintf(t, format, args...)
	t.WriteByte('\n')
}

// comment writes a comment. Foreign text in it cannot end the line.
func (t *text) comment(indent int, format string, args ...any) {
	t.line(indent, "# %s", logging.Printable(fmt.Sprintf(format, args...)))
}

// quote writes foreign text as a double-quoted YAML scalar, whose escapes are
// those of Go.
func quote(s string) string { return strconv.Quote(s) }

// yaml writes the endpoint, and below it as comments what else it needs.
func (e *endpoint) yaml() string {
	t := &text{}
	t.comment(0, "Made from a registry export of NDES by \"certconnector import-ndes\".")
	t.comment(0, "What is missing or says %s is for a person; \"certconnector validate\" finds it.", fillIn)
	t.line(0, "endpoints:")
	t.line(2, "- name: %s", e.name)
	t.comment(4, "The path of NDES, so that devices keep their URL.")
	t.line(4, "path: /certsrv/mscep/mscep.dll")
	e.writePolicy(t)
	if e.microsoftCA != "" {
		t.comment(4, "NDES asked the Microsoft CA %s", e.microsoftCA)
		t.comment(4, "To go on with it, add to cas, and name templates as that CA does (docs/ca-adcs.md):")
		t.comment(4, "  - {name: issuing, chain: ca/chain.pem, adcs: {config: %s, revoke: csra,", quote(e.microsoftCA))
		t.comment(4, "     kerberos: {principal: %s, keytab: %s}}}", fillIn, fillIn)
		t.comment(4, "Then its RA certificates come by \"certconnector ra enroll\".")
	}
	t.line(4, "ca: %s", e.ca)
	e.writeTemplates(t)
	if e.replay > 0 {
		t.line(4, "replay_window: %s", minutes(e.replay))
	}
	t.line(4, "algorithms:")
	t.comment(6, "Unsafe, and so never taken over; for devices that know nothing else.")
	t.line(6, "legacy_sha1: false")
	t.line(6, "legacy_3des: true")
	e.writeAllow(t)
	t.comment(4, "New keys: those of NDES stay where they are. \"certconnector init\" makes these files.")
	t.line(4, "ra:")
	t.line(6, "signing: {certificate: ra/signing.crt.pem, key: ra/signing.key.pem}")
	t.line(6, "encryption: {certificate: ra/encryption.crt.pem, key: ra/encryption.key.pem}")
	e.writeElse(t)
	return t.String()
}

func (e *endpoint) writePolicy(t *text) {
	if e.open {
		t.comment(4, "NDES gave certificates without any challenge (EnforcePassword 0). That is not taken over.")
	}
	switch e.policy {
	case policyIntune:
		t.line(4, "policy:")
		t.line(6, "intune: {tenant: %s}", e.tenant)
	case policyPoint:
		t.line(4, "policy:")
		t.comment(6, "The registration point that the module for NDES asked.")
		t.line(6, "registration_point:")
		if e.pointURL != "" {
			t.line(8, "url: %s", quote(e.pointURL))
		} else {
			t.line(8, "url: %s", fillIn)
		}
		if e.pointTenant != "" {
			t.line(8, "tenant: %s", quote(e.pointTenant))
		}
		t.line(8, "certificate: %s", fillIn)
		t.line(8, "key: %s", fillIn)
		t.comment(8, "ca_file: roots of its certificate, where the system's will not do")
	case policyNone:
		t.comment(4, "A module of somebody else decided. Choose one of:")
		t.comment(4, "policy: {intune: {tenant: %s}}", e.tenant)
		t.comment(4, "policy: {onetime: {lifetime: %s, bytes: %d, max_outstanding: %d}}", minutes(e.lifetime), e.bytes, e.outstanding)
	case policyStatic:
		t.comment(4, "One password for all devices: unsafe, whoever knows it gets any name below \"allow\".")
		t.comment(4, "Better: policy: {onetime: {lifetime: 60m}}")
		t.line(4, "policy:")
		t.line(6, "static:")
		t.comment(8, "A new secret of 128 bits or more. The old one cannot be read from the export.")
		t.line(8, "challenge: {file: challenge}")
		t.comment(8, "allow_static_challenge: true")
	default:
		t.line(4, "policy:")
		t.line(6, "onetime:")
		t.line(8, "lifetime: %s", minutes(e.lifetime))
		t.line(8, "bytes: %d", e.bytes)
		t.line(8, "max_outstanding: %d", e.outstanding)
		t.line(8, "admin_path: %s", quote(e.adminPath))
	}
}

func (e *endpoint) writeTemplates(t *text) {
	if e.templates == [3]string{} {
		return
	}
	t.comment(4, "By the key usage that a request asks for.")
	t.line(4, "templates:")
	for i, key := range templateKeys {
		if e.profiles[i] != "" {
			t.comment(6, "NDES: %s", e.templates[i])
			t.line(6, "%s: %s", key, e.profiles[i])
		}
	}
}

// profile returns the name of a profile for the template with index i: its
// name in the letters that names have, and another one for each template.
func (e *endpoint) profile(i int, template string) string {
	name := strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, template), "-")
	if len(name) > 50 {
		name = name[:50]
	}
	if name == "" {
		name = templateKeys[i]
	}
	for j := range i {
		if e.profiles[j] == name && !strings.EqualFold(e.templates[j], template) {
			name += "-" + templateKeys[i]
		}
	}
	e.templates[i], e.profiles[i] = template, name
	return name
}

func (e *endpoint) writeAllow(t *text) {
	t.line(4, "allow:")
	t.line(6, "eku: [clientAuth]")
	if !e.vouched() {
		t.comment(6, "NDES allowed every name. Say which this endpoint may give, as narrow as you can:")
		t.comment(6, "subject: [\"CN=*.corp.example\", \"O=Corp\"]")
		t.comment(6, "san: [\"dns:*.corp.example\"]")
	}
}

// writeElse writes other sections that the endpoint refers to, as comments:
// they may be there already.
func (e *endpoint) writeElse(t *text) {
	t.line(0, "")
	t.comment(0, "Needed elsewhere in the file, where it is not there yet:")
	t.comment(0, "cas:")
	t.comment(0, "  - name: %s", e.ca)
	t.comment(0, "    embedded:")
	t.comment(0, "      certificate: ca/ca.crt.pem")
	t.comment(0, "      key: ca/ca.key.pem")
	if e.templates != [3]string{} {
		t.comment(0, "      profiles:")
	}
	for i, name := range e.profiles {
		if name != "" && !slices.Contains(e.profiles[:i], name) {
			t.comment(0, "        - {name: %s, validity: 8760h, eku: [clientAuth]}", name)
		}
	}
	switch e.policy {
	case policyIntune:
		t.comment(0, "tenants:")
		t.comment(0, "  - name: %s", e.tenant)
		t.comment(0, "    tenant_id: contoso.onmicrosoft.com")
		t.comment(0, "    client_id: 11111111-2222-3333-4444-555555555555")
		t.comment(0, "    credential: {certificate: entra/entra.crt.pem, key: entra/entra.key.pem}")
	case policyOnetime:
		t.comment(0, "principals: # who may fetch passwords, on a listener with the face challenges")
		t.comment(0, "  - name: mdm")
		t.comment(0, "    password: {file: secrets/mdm}")
		t.comment(0, "    rights: [{endpoint: %s, subject: [\"CN=*.corp.example\"], san: [\"dns:*.corp.example\"]}]", e.name)
	}
}
