package firstrun

import (
	"context"
	"crypto/x509"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/certconnector/certconnector/internal/certfiles"
	"github.com/certconnector/certconnector/internal/durable"
	"github.com/certconnector/certconnector/internal/secret"
)

// Certificate authorities that a first run can set up.
const (
	CAEmbedded = "embedded" // in the process
	CAADCS     = "adcs"     // a Microsoft CA, over DCOM and RPC
	CACertsrv  = "certsrv"  // a Microsoft CA, over its web enrolment pages
)

// MicrosoftName is the configured name of a Microsoft CA.
const MicrosoftName = "issuing"

var chainFile = filepath.Join(CAFolder, "chain.pem")

// MicrosoftCA is a Microsoft CA that issues, and how to sign in to it: as a
// Kerberos principal with keytab or password, by NTLM as a user with a
// password, or on Windows as the service's own account.
type MicrosoftCA struct {
	Config   string // for CAADCS: host\name, as certutil prints it
	URL      string // for CACertsrv: as https://ca01.corp.example/certsrv/
	Chain    string // file with the CA's certificate and those above it: PEM, DER or PKCS #7
	Template string // common name of the devices' template

	SigningTemplate    string // of the RA's certificates, "": a person replaces them
	EncryptionTemplate string // "": as SigningTemplate

	Principal    string // Kerberos: user@REALM
	Keytab       string // file
	User         string // NTLM: DOMAIN\user
	PasswordFile string // of principal or user
	SSPI         bool   // Windows: the account of the service, without a secret here
}

func (m *MicrosoftCA) empty() bool { return *m == MicrosoftCA{} }

// completeMicrosoft checks what a bridge needs.
func (o *Options) completeMicrosoft(wrong func(string, ...any)) {
	m := &o.Microsoft
	check := func(flag string, err error) {
		if err != nil {
			wrong("%s: %v", flag, err)
		}
	}
	if o.CA == CAADCS {
		check("--ca-config", checkCAConfig(m.Config))
		if m.URL != "" {
			wrong("--ca-url belongs to --ca certsrv")
		}
	} else {
		check("--ca-url", checkCAURL(m.URL))
		if m.Config != "" {
			wrong("--ca-config belongs to --ca adcs")
		}
	}
	if m.Template == "" {
		wrong("--template is missing: the common name of the certificate template for devices, as certutil -CATemplates shows it")
	}
	if m.SigningTemplate == "" && m.EncryptionTemplate != "" {
		wrong("--ra-encryption-template needs --ra-signing-template")
	}
	o.chain = nil
	if m.Chain == "" {
		wrong("--ca-chain is missing: a file with the CA's certificate and those above it; certutil -ca.chain FILE.p7b writes one at the CA")
	} else if chain, err := loadChain(m.Chain, m.commonName()); err != nil {
		wrong("--ca-chain: %v", err)
	} else {
		o.chain = chain
	}
	o.completeSignIn(wrong)
}

// completeSignIn wants exactly one account, and its files.
func (o *Options) completeSignIn(wrong func(string, ...any)) {
	m := &o.Microsoft
	switch {
	case m.SSPI && (m.Principal != "" || m.User != "" || m.Keytab != "" || m.PasswordFile != ""):
		wrong("--ca-sspi signs in as the account of the service: leave --ca-principal, --ca-user and their files away")
	case m.SSPI && o.System != "windows":
		wrong("--ca-sspi is for Windows; here, give the account a keytab: --ca-principal and --ca-keytab")
	case m.SSPI:
	case m.Principal == "" && m.User == "":
		wrong(`--ca-principal is missing: the account that asks for certificates, as svc-connector@CORP.EXAMPLE (or --ca-user CORP\svc-connector for NTLM)`)
	case m.Principal != "" && m.User != "":
		wrong("--ca-principal (Kerberos) and --ca-user (NTLM) exclude each other")
	case m.User != "" && m.Keytab != "":
		wrong("--ca-keytab belongs to --ca-principal")
	case m.User != "" && m.PasswordFile == "":
		wrong("--ca-password-file is missing: a file with the password of --ca-user")
	case m.Principal != "" && (m.Keytab == "") == (m.PasswordFile == ""):
		wrong("--ca-principal needs --ca-keytab or --ca-password-file")
	}
	for flag, path := range map[string]*string{"--ca-keytab": &m.Keytab, "--ca-password-file": &m.PasswordFile} {
		if *path == "" {
			continue
		}
		if err := secret.CheckPrivate(*path); err != nil {
			wrong("%s: %v", flag, err)
		}
		*path = absolute(*path)
	}
}

func checkCAConfig(s string) error {
	if host, name, ok := strings.Cut(s, `\`); !ok || host == "" || name == "" {
		return fmt.Errorf(`%q is not host\name, as certutil prints it: ca01.corp.example\Corp Issuing CA`, s)
	}
	return nil
}

func checkCAURL(s string) error {
	if u, err := url.Parse(s); err != nil || u.Host == "" || u.Scheme != "https" {
		return fmt.Errorf("%q is no address of web enrolment, as https://ca01.corp.example/certsrv/", s)
	}
	return nil
}

// commonName is the CA's, where the configuration says it.
func (m *MicrosoftCA) commonName() string {
	_, name, _ := strings.Cut(m.Config, `\`)
	return name
}

// loadChain reads a CA's certificates and puts them into order: of the CAs in
// the file the one of this name, or else the one that issued none of them.
func loadChain(path, name string) ([]*x509.Certificate, error) {
	certs, err := certfiles.Load(path)
	if err != nil {
		return nil, err
	}
	var issuing *x509.Certificate
	for _, c := range certs {
		above := slices.ContainsFunc(certs, func(o *x509.Certificate) bool { return !o.Equal(c) && o.CheckSignatureFrom(c) == nil })
		switch {
		case !c.IsCA:
		case name != "" && strings.EqualFold(c.Subject.CommonName, name) && (issuing == nil || c.NotBefore.After(issuing.NotBefore)):
			issuing = c
		case name == "" && !above:
			issuing = c
		}
	}
	if issuing == nil {
		return nil, fmt.Errorf("%q has no certificate of a CA called %q", path, name)
	}
	return certfiles.Chain(issuing, certs), nil
}

// writeChain keeps the CA's certificates: what they have not signed never
// leaves.
func (p *Plan) writeChain(context.Context) error {
	last := p.o.chain[len(p.o.chain)-1]
	if certfiles.IsRoot(last) {
		p.describeRoot(last, chainFile)
	}
	return durable.Create(p.path(chainFile), certfiles.PEM(p.o.chain...), 0o644)
}

// microsoftText is the entry of cas.
func (o *Options) microsoftText() string {
	m := o.Microsoft
	kind, where := "adcs", "config: "+quote(m.Config)
	if o.CA == CACertsrv {
		kind, where = "certsrv", "url: "+quote(m.URL)
	}
	var signIn string
	switch {
	case m.SSPI:
		signIn = "sspi: {} # as the account of the service"
	case m.Keytab != "":
		signIn = fmt.Sprintf("kerberos: {principal: %s, keytab: %s}", quote(m.Principal), quote(m.Keytab))
	case m.Principal != "":
		signIn = fmt.Sprintf("kerberos: {principal: %s, password: {file: %s}}", quote(m.Principal), quote(m.PasswordFile))
	default:
		signIn = fmt.Sprintf("ntlm: {user: %s, password: {file: %s}} # proves nothing of the server; Kerberos does", quote(m.User), quote(m.PasswordFile))
	}
	more := ""
	if o.CA == CAADCS {
		more = "\n      # revoke: csra # with the right Issue and Manage Certificates"
	}
	return fmt.Sprintf(`cas:
  - name: %s # do not change: the journal knows it by this name
    chain: %s
    %s:
      %s
      %s%s
`, MicrosoftName, o.named(chainFile), kind, where, signIn, more)
}
