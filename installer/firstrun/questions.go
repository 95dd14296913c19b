package firstrun

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/certconnector/certconnector/internal/secret"
)

func askHost(o *Options) []question {
	name, _ := os.Hostname() // without a name there is no default
	return []question{{
		flag: "hostname", text: "Host name that devices use (several: with commas)", def: name,
		hint: "Devices reach this connector by a name that their network knows. It will be in certificates.",
		check: func(s string) error {
			for _, h := range split(s) {
				if strings.ContainsAny(h, "/: ") && net.ParseIP(h) == nil {
					return fmt.Errorf("%q is no host name or IP address", h)
				}
			}
			return nil
		},
		set: func(s string) { o.Hostnames = split(s) },
	}}
}

func split(s string) []string {
	var list []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

func askCA(o *Options) []question {
	return []question{{
		flag: "ca", text: "Certificate authority", def: CAEmbedded,
		hint: "Who issues?",
		choices: []string{
			CAEmbedded + " (a CA of its own, in this program)",
			CAADCS + " (a Microsoft CA, over DCOM and RPC; can also revoke)",
			CACertsrv + " (a Microsoft CA, over its web enrolment pages)",
		},
		set: func(s string) { o.CA = s },
	}}
}

// askMicrosoft asks for the CA and the account.
func askMicrosoft(o *Options) []question {
	if o.CA != CAADCS && o.CA != CACertsrv {
		return nil
	}
	m := &o.Microsoft
	list := []question{{
		flag: "ca-config", text: "CA", hint: `The CA as certutil prints it, host\name: ca01.corp.example\Corp Issuing CA`, check: checkCAConfig,
		set: func(s string) { m.Config = s },
	}}
	if o.CA == CACertsrv {
		list = []question{{
			flag: "ca-url", text: "Address", hint: "Web enrolment, as https://ca01.corp.example/certsrv/", check: checkCAURL,
			set: func(s string) { m.URL = s },
		}}
	}
	return append(list, question{
		flag: "ca-chain", text: "File of CA certificates",
		hint:  "The CA's certificate and those above it, as \"certutil -ca.chain FILE.p7b\" writes them at the CA (PEM, DER or PKCS #7).",
		check: func(s string) error { _, err := loadChain(s, m.commonName()); return err },
		set:   func(s string) { m.Chain = s },
	}, question{
		flag: "template", text: "Template for devices", hint: "Names of templates, as \"certutil -CATemplates\" shows them (not display names).",
		set: func(s string) { m.Template = s },
	}, question{
		flag: "ra-signing-template", text: "Template for signing (RA)", def: "EnrollmentAgentOffline",
		set: func(s string) { m.SigningTemplate = s },
	}, question{
		flag: "ra-encryption-template", text: "Template for encryption (RA)", def: "CEPEncryption",
		set: func(s string) { m.EncryptionTemplate = s },
	})
}

// askOwnAccount asks on Windows, where the service has an account in the
// domain.
func askOwnAccount(o *Options) []question {
	m := &o.Microsoft
	if o.CA != CAADCS && o.CA != CACertsrv || cmp.Or(o.System, runtime.GOOS) != "windows" || m.Principal != "" || m.User != "" {
		return nil
	}
	return []question{{
		flag: "ca-sspi", text: "Sign in to the CA as the account of the service (yes or no)", def: "yes", choices: []string{"yes", "no"},
		hint: "No password or keytab is stored then; the account needs Request Certificates at the CA, and Read and Enroll on the templates.",
		set:  func(s string) { m.SSPI = s == "yes" },
	}}
}

// askAccount asks for a Kerberos principal; NTLM is for those who name it by
// flags.
func askAccount(o *Options) []question {
	m := &o.Microsoft
	if o.CA != CAADCS && o.CA != CACertsrv || m.User != "" || m.SSPI {
		return nil
	}
	if m.PasswordFile != "" {
		return []question{principal(m)}
	}
	return []question{principal(m), {
		flag: "ca-keytab", text: "Keytab file", hint: "Its keys, in a file that only the service's account can read (for a password in a file use --ca-password-file).",
		check: secret.CheckPrivate, set: func(s string) { m.Keytab = s },
	}}
}

func principal(m *MicrosoftCA) question {
	return question{
		flag: "ca-principal", text: "Account (user@REALM)", hint: "The account that asks for certificates, by Kerberos: svc-connector@CORP.EXAMPLE",
		check: func(s string) error {
			if user, realm, ok := strings.Cut(s, "@"); !ok || user == "" || realm == "" {
				return fmt.Errorf("%q is not user@REALM", s)
			}
			return nil
		},
		set: func(s string) { m.Principal = s },
	}
}

func askPolicy(o *Options) []question {
	return []question{{
		flag: "policy", text: "Policy", def: PolicyIntune,
		hint: "Who decides which device may have a certificate?",
		choices: []string{
			PolicyIntune + " (Microsoft Intune vouches for each request)",
			PolicyStatic + " (one shared challenge, for a laboratory)",
		},
		set: func(s string) { o.Policy = s },
	}}
}

func askIntune(o *Options) []question {
	if o.Policy != PolicyIntune {
		return nil
	}
	return []question{{
		flag: "tenant", text: "Tenant",
		hint: "In https://entra.microsoft.com, App registrations, New registration: a single-tenant registration for\nthis connector. Its overview has both IDs.",
		check: func(s string) error {
			if strings.ContainsAny(s, "/ :@") {
				return errors.New("want the directory (tenant) ID, or its *.onmicrosoft.com name")
			}
			return nil
		},
		set: func(s string) { o.Tenant = s },
	}, {
		flag: "client-id", text: "Application (client) ID",
		check: func(s string) error {
			if strings.ContainsAny(s, "/ :@") {
				return errors.New("want the application (client) ID, a GUID")
			}
			return nil
		},
		set: func(s string) { o.ClientID = s },
	}}
}

func askPlaces(o *Options) []question {
	standard := ":443"
	if o.PlainHTTP {
		standard = ":80"
	}
	list := []question{{
		flag: "listen", text: "Address for devices", def: standard, check: checkListen,
		set: func(s string) { o.Listen = s },
	}}
	if o.Dir == "" && o.StateDir == "" {
		here, _ := filepath.Abs("certconnector") // without a present folder there is no default
		list = append(list, question{
			flag: "dir", text: "Folder for keys, journal and configuration", def: here,
			set: func(s string) { o.Dir = s },
		})
	}
	return list
}
