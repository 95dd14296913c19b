package adcstest

import (
	"slices"
	"strings"
)

// Account is a user or computer of the domain and what it may do.
type Account struct {
	Name     string // without domain: "svc", "host01$"
	Password string // also of its Kerberos principal, where a test makes one

	Enroll              []string // templates (common names) with Read and Enroll
	RequestCertificates bool     // "Request Certificates" on the CA
	Read                bool     // "Read" on the CA; every other right implies it
	Officer             bool     // "Issue and Manage Certificates"
	Administrator       bool     // "Manage CA"

	// OfficerTemplates narrow an officer to these templates ("certificate
	// manager restrictions"); nil: to none.
	OfficerTemplates []string
}

// DefaultPassword is the password of the accounts of DefaultAccounts.
const DefaultPassword = "Passw0rd!"

// DefaultAccounts are a connector's service account with the rights to enrol
// and revoke ("svc"), one that only enrols ("enroll"), one that only reads
// ("reader"), one without any right ("low"), a person who approves ("officer")
// and an administrator of the CA ("admin").
func DefaultAccounts() []Account {
	var all []string
	for _, t := range DefaultTemplates() {
		if t.Name != "Machine" {
			all = append(all, t.Name)
		}
	}
	return []Account{
		{Name: "svc", Password: DefaultPassword, Enroll: all, RequestCertificates: true, Officer: true},
		{Name: "enroll", Password: DefaultPassword, Enroll: all, RequestCertificates: true},
		{Name: "reader", Password: DefaultPassword, Read: true},
		{Name: "low", Password: DefaultPassword},
		{Name: "officer", Password: DefaultPassword, Officer: true},
		{Name: "admin", Password: DefaultPassword, Administrator: true},
	}
}

// Roles of an account, as GetMyRoles tells them ([MS-CSRA], section 3.1.4.2.17).
const (
	RoleAdministrator uint32 = 0x1
	RoleOfficer       uint32 = 0x2
	RoleRead          uint32 = 0x100
	RoleEnroll        uint32 = 0x200
)

// accountKey brings DOMAIN\name, name@REALM and name to one form. The name of
// a service (host/name) keeps its instance.
func accountKey(name string) string {
	if _, after, ok := strings.Cut(name, `\`); ok {
		name = after
	}
	name, _, _ = strings.Cut(name, "@")
	return strings.ToLower(name)
}

// account finds who calls; an unknown name has no rights.
func (c *CA) account(name string) Account {
	if a, ok := c.accounts[accountKey(name)]; ok {
		return a
	}
	return Account{Name: accountKey(name)}
}

// Password returns an account's password, for a face that checks it.
func (c *CA) Password(account string) (string, bool) {
	a, ok := c.accounts[accountKey(account)]
	return a.Password, ok && a.Password != ""
}

// Roles returns the roles of an account.
func (c *CA) Roles(account string) uint32 {
	a := c.account(account)
	var roles uint32
	for _, r := range []struct {
		has  bool
		role uint32
	}{
		{a.Read, RoleRead},
		{a.RequestCertificates, RoleEnroll | RoleRead},
		{a.Officer, RoleOfficer | RoleRead},
		{a.Administrator, RoleAdministrator | RoleRead},
	} {
		if r.has {
			roles |= r.role
		}
	}
	return roles
}

// callerName is how the database names an account.
func (c *CA) callerName(account string) string {
	return c.Domain() + `\` + c.account(account).Name
}

// require says why an account lacks a role, or 0.
func (c *CA) require(account string, role uint32) int32 {
	const both = RoleAdministrator | RoleOfficer
	roles := c.Roles(account)
	switch {
	case roles&role == 0:
		return AccessDenied
	case c.roleSeparation && roles&both == both && role&both != 0:
		return RoleConflict
	}
	return 0
}

// restricted says that an officer may not decide on a template's certificates.
func (c *CA) restricted(officer string, template string) bool {
	a := c.account(officer)
	return a.OfficerTemplates != nil && !slices.Contains(a.OfficerTemplates, template)
}
