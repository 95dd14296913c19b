package ndesimport

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// setupTemplate is what NDES' setup writes for all three templates.
const setupTemplate = "IPSECIntermediateOffline"

// ownProgID begins the ProgID of this program's own module for NDES.
const ownProgID = "certconnector."

// module decides who decides. NDES always uses a module that is registered.
func (im *importer) module() {
	s, progID, ok := im.text(`Modules\Policy`)
	if s == nil { // written as the default value of a key by some
		s, progID, ok = im.text(`Modules\Policy\(Default)`)
	}
	thumbprint := im.get(`Modules\NDESPolicy\NDESCertThumbprint`)
	switch {
	case ok && strings.HasPrefix(strings.ToLower(progID), ownProgID):
		im.ownModule(s)
	case thumbprint != nil:
		im.intune(s)
	case ok && progID != "":
		im.e.policy = policyNone
		im.say(Manual, s, "", "a module of somebody else decides on this server, and it cannot run here; choose a policy, or ask its maker")
	case ok:
		im.say(Dropped, s, "", "empty: NDES loads no module")
	}
	if thumbprint != nil {
		im.say(Dropped, thumbprint, "", "the module presented this certificate to the registration point of the same server; here no such call is made")
	}
}

// intune makes an endpoint for which Intune decides. Its module is known by
// the certificate in its settings; s is the ProgID that is registered, or nil.
func (im *importer) intune(s *setting) {
	im.e.policy = policyIntune
	if s == nil {
		s = &setting{path: `Modules\Policy`, value: Value{Type: String}}
	}
	became := "policy.intune.tenant: " + im.e.tenant
	switch {
	case s.value.String() == "":
		im.say(Manual, s, became, "the settings of Microsoft's module for Intune or Configuration Manager are there, but NDES loads no module: it may have been removed. If so, choose another policy")
	case im.o.Tenant == "":
		im.say(Manual, s, became, "Microsoft's module for Intune or Configuration Manager, by its certificate: Intune decides here too; fill in the tenant, and make an app registration for it")
	default:
		im.say(Changed, s, became, "Microsoft's module for Intune or Configuration Manager, by its certificate: Intune decides here too, and is asked without a module")
	}
}

// templates names a profile of an embedded CA for each template. This version
// has no CA that knows templates by their own names.
func (im *importer) templates() {
	for i, name := range []string{"SignatureTemplate", "EncryptionTemplate", "GeneralPurposeTemplate"} {
		s, template, ok := im.text(name)
		if !ok {
			continue
		}
		if template == "" {
			im.say(Dropped, s, "", "empty: the general template is used")
			continue
		}
		profile := im.e.profile(i, template)
		became := "templates." + templateKeys[i] + ": " + profile
		switch {
		case strings.ContainsAny(template, " \t\n\r"):
			im.say(Manual, s, became, "holds blanks, so it is a display name, and requests failed at the CA; find the template's name (its CN), and give the embedded CA a profile like it")
		case strings.EqualFold(template, setupTemplate):
			im.say(Manual, s, became, "what NDES' setup wrote, an example for routers; make a profile of what devices are meant to get")
		case template == profile:
			im.say(Kept, s, became, "the embedded CA needs a profile of this name")
		default:
			im.say(Changed, s, became, "the embedded CA needs a profile of this name: like the template, in the letters that names have here")
		}
	}
}

func (im *importer) authority() {
	if s, config, ok := im.text(`CAInfo\Configuration`); ok {
		im.e.microsoftCA = config
		if im.o.CA == "" {
			im.say(Manual, s, "ca: "+fillIn, "name a CA of cas: this one over DCOM, as the comment beside it has it, or an embedded one")
		} else {
			im.say(Changed, s, "ca: "+im.o.CA, "certificates come from the CA that was named; where it is another one, devices must trust its root")
		}
	} else if im.o.CA == "" {
		im.add(Finding{Kind: Manual, Value: `CAInfo\Configuration`, Became: "ca: " + fillIn, Why: "the export names no CA; name one of cas", NeedsPerson: true})
	}
	s, kind, ok := im.number(`CAType\CAType`)
	switch {
	case !ok:
	case kind == 1:
		im.say(Dropped, s, "", "an enterprise CA, which knows templates; follows from the CA here")
	case kind == 0:
		im.say(Manual, s, "", "a standalone CA: it ignores templates and decides by itself; check that the profiles here give what devices need")
	default:
		im.say(Manual, s, "", "unknown: documented are 0 and 1")
	}
}

// challenges reads the settings of NDES' own passwords. They mean nothing
// where a module makes the challenges.
func (im *importer) challenges() {
	im.enforce()
	if im.e.policy == policyOnetime {
		im.singlePassword()
	} else if s := im.get(`UseSinglePassword\UseSinglePassword`); s != nil {
		im.say(Dropped, s, "", moduleDecides)
	}
	if s := im.get(`EncryptedPassword\EncryptedPassword`); s != nil {
		im.say(Dropped, s, "", "the password is encrypted for that server and cannot be read; devices need a new one")
	}
	if im.e.policy != policyOnetime {
		for _, name := range []string{"PasswordLength", "PasswordMax", "PasswordValidity", "PasswordVDir"} {
			if s := im.get(name + `\` + name); s != nil {
				im.say(Dropped, s, "", moduleDecides)
			}
		}
		if !im.e.vouched() {
			im.names()
		}
		return
	}
	im.passwordLength()
	im.passwordMax()
	im.passwordValidity()
	im.passwordVDir()
	im.names()
}

const moduleDecides = "of NDES' own one-time passwords, which this endpoint does not use"

// names reports what no value of NDES limits.
func (im *importer) names() {
	im.add(Finding{Kind: Manual, Value: "(names)", Was: "any", Became: "allow.subject, allow.san, allow.eku",
		Why: "NDES lets whoever has a password ask for any name; say which names and usages this endpoint may give", NeedsPerson: true})
}

func (im *importer) enforce() {
	s, n, ok := im.number(`EnforcePassword\EnforcePassword`)
	switch {
	case !ok:
	case n == 0 && im.e.vouched():
		im.say(Changed, s, "", "the module decided beside that; here every request needs a challenge, and nothing turns that off")
	case n == 0:
		im.e.open = true
		im.say(Manual, s, "", "DANGER: this server gives a certificate with any name to anybody who can reach it. That is not taken over: here every request needs a challenge. "+
			"Devices without one will be refused; also look at what was issued so far")
	default:
		im.say(Kept, s, "", "every request needs a challenge; nothing turns that off")
	}
}

func (im *importer) singlePassword() {
	s, n, ok := im.number(`UseSinglePassword\UseSinglePassword`)
	switch {
	case !ok:
	case n == 0:
		im.say(Kept, s, "policy.onetime", "each password is for one request")
	default:
		im.e.policy = policyStatic
		im.say(Manual, s, "policy.static", "one password for all devices is unsafe, and the old one cannot be read: better use onetime; else put a new secret into the file and set allow_static_challenge yourself")
	}
}

func (im *importer) passwordLength() {
	s, n, ok := im.number(`PasswordLength\PasswordLength`)
	switch {
	case !ok:
	case n < 16:
		im.say(Changed, s, "policy.onetime.bytes: 16", "128 bits, as every challenge here; passwords have 32 characters then, which some MDM servers want to be told")
	case n > maxBytes:
		im.e.bytes = maxBytes
		im.say(Changed, s, "policy.onetime.bytes: "+strconv.Itoa(maxBytes), "more gains nothing, and devices cut long passwords")
	default:
		im.e.bytes = int(n)
		im.say(Kept, s, fmt.Sprintf("policy.onetime.bytes: %d", n), "octets; shown as twice as many characters")
	}
}

// Bounds of what is taken over; outside them a value is a mistake or a trap,
// or the configuration does not take it.
const (
	maxBytes       = 32
	ndesDefaultMax = 5
	maxOutstanding = 1_000_000
	maxLifetime    = 24 * 60     // minutes
	maxReplay      = 7 * 24 * 60 // minutes
)

func (im *importer) passwordMax() {
	s, n, ok := im.number(`PasswordMax\PasswordMax`)
	switch {
	case !ok:
	case n <= ndesDefaultMax:
		im.say(Changed, s, fmt.Sprintf("policy.onetime.max_outstanding: %d", im.e.outstanding), "five unused passwords, NDES' default, already keep everybody else out for an hour; each principal has limits of its own here")
	case n > maxOutstanding:
		im.e.outstanding = maxOutstanding
		im.say(Changed, s, fmt.Sprintf("policy.onetime.max_outstanding: %d", maxOutstanding), "more are not kept")
	default:
		im.e.outstanding = int(n)
		im.say(Kept, s, fmt.Sprintf("policy.onetime.max_outstanding: %d", n), "for all principals together")
	}
}

func (im *importer) passwordValidity() {
	s, n, ok := im.number(`PasswordValidity\PasswordValidity`)
	switch {
	case !ok:
	case n == 0 || n > maxLifetime:
		im.say(Changed, s, "policy.onetime.lifetime: 60m", fmt.Sprintf("%d minutes make no sense or leave passwords lying about; NDES' default instead", n))
	default:
		im.e.lifetime = time.Duration(n) * time.Minute
		im.say(Kept, s, "policy.onetime.lifetime: "+minutes(im.e.lifetime), "minutes")
	}
}

func (im *importer) passwordVDir() {
	s, dir, ok := im.text(`PasswordVDir\PasswordVDir`)
	if !ok {
		return
	}
	path := "/" + strings.Trim(strings.ReplaceAll(dir, `\`, "/"), "/")
	switch {
	case strings.EqualFold(path, im.e.adminPath):
		im.say(Kept, s, "policy.onetime.admin_path: "+im.e.adminPath, "the page is shown on a listener with the face challenges only")
	case len(path) < 2 || strings.ContainsAny(path, "?#{}%\\ \t\r\n\"") || strings.Contains(path, "//") || strings.Contains(path, "/."):
		im.say(Changed, s, "policy.onetime.admin_path: "+im.e.adminPath, "is no path of a URL; NDES' default instead")
	default:
		im.e.adminPath = path
		im.say(Kept, s, "policy.onetime.admin_path: "+path, "the page is shown on a listener with the face challenges only")
	}
}
