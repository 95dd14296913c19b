package intunetest

import (
	"crypto"
	"crypto/x509"
	"slices"
	"strings"

	"github.com/certconnector/certconnector/internal/secret"
)

// The application roles that a registration may have.
const (
	RoleGraph  = "Application.Read.All"
	RoleIntune = "scep_challenge_provider"

	RoleOwnKeys = "Application.ReadWrite.OwnedBy"
	RoleAllKeys = "Application.ReadWrite.All"
	RolePFX     = "DeviceManagementConfiguration.ReadWrite.All"
	RoleUsers   = "User.Read.All"
)

// graphRoles are those that a token for Microsoft Graph can have.
var graphRoles = []string{RoleGraph, RoleOwnKeys, RoleAllKeys, RolePFX, RoleUsers}

// Tenant is an organisation in the cloud.
type Tenant struct {
	ID       string // GUID
	Domain   string // a verified domain, usable in place of the ID
	Apps     []App
	Profiles []Profile
	Devices  []Device
	Users    []User // beside those of the devices
}

// User is a user without a device.
type User struct {
	ID   string `json:"id"`   // GUID
	Name string `json:"name"` // user principal name
}

// App is an application registration.
type App struct {
	ClientID     string
	ObjectID     string // of the application object; "": one is made
	Name         string // display name
	Secrets      []secret.Text
	Certificates []*x509.Certificate // to begin with; each becomes a key
	Federated    []Federated
	Roles        []string // application permissions with admin consent

	keys []*appKey
}

// Federated is a workload identity federation of an application: tokens of
// another issuer that count in place of a secret.
type Federated struct {
	Issuer   string
	Subject  string
	Audience string           // default api://AzureADTokenExchange
	Key      crypto.PublicKey // RSA key that signs the issuer's tokens, with RS256
}

// Profile is a SCEP certificate profile. Subject and names may contain the
// variables of Device in double braces, such as {{DeviceId}}.
type Profile struct {
	Name          string   `json:"name"`
	Platform      string   `json:"platform"` // windows, ios, macos, android
	Subject       string   `json:"subject"`  // CN={{DeviceId}},O=Contoso; a comma in a value is escaped by a backslash
	SAN           Names    `json:"san"`
	KeyUsage      int      `json:"key_usage"` // bits as x509.KeyUsage; 0: not compared
	EKU           []string `json:"eku"`       // dotted object identifiers; none: not compared
	KeySize       int      `json:"key_size"`  // bits of RSA; 0: not compared
	Hash          string   `json:"hash"`      // handed to the device; Intune has no code for another one
	Validity      int      `json:"validity"`  // handed to the device in ValidityUnit
	ValidityUnit  string   `json:"validity_unit"`
	RegisteredKey bool     `json:"registered_key"` // only a key in the device's key identifier list
}

// Names are subject alternative names by kind.
type Names struct {
	DNS   []string `json:"dns,omitempty"`
	Email []string `json:"email,omitempty"`
	URI   []string `json:"uri,omitempty"`
	UPN   []string `json:"upn,omitempty"`
}

// Device is a managed device and its user.
type Device struct {
	ID           string   `json:"id"`
	Platform     string   `json:"platform"`
	SerialNumber string   `json:"serial_number"`
	IMEI         string   `json:"imei"`
	User         string   `json:"user"` // user principal name
	UserID       string   `json:"user_id"`
	Email        string   `json:"email"`
	SID          string   `json:"sid"`  // on-premises security identifier
	Keys         []string `json:"keys"` // hexadecimal SHA-256 of registered public keys
}

// tenant is a Tenant at work.
type tenant struct {
	Tenant
	apps     []*App
	released map[target]bool // profiles that are no longer targeted
}

type target struct{ profile, device string }

func newTenant(t Tenant) *tenant {
	w := &tenant{Tenant: t, released: map[target]bool{}}
	w.Profiles, w.Devices = slices.Clone(t.Profiles), slices.Clone(t.Devices)
	for _, a := range t.Apps {
		if a.ObjectID == "" {
			a.ObjectID = guid()
		}
		a.setKeys(a.Certificates)
		w.apps = append(w.apps, &a)
	}
	return w
}

// The tenant, application (client and object ID) and secret of Contoso.
const (
	ContosoID     = "7c0bbd1e-5a6b-4b8e-9a53-000000000001"
	ContosoClient = "a5b8a5c6-0000-4000-8000-000000000001"
	ContosoObject = "0b9ec7a5-0000-4000-8000-000000000001"
	ContosoSecret = secret.Text("Sim~secret.of-contoso_0001")
)

// Contoso is a tenant with one profile and one device of each platform, and an
// application with a secret and both roles.
func Contoso() Tenant {
	const clientAuth = "1.3.6.1.5.5.7.3.2"
	t := Tenant{
		ID: ContosoID, Domain: "contoso.example",
		Apps: []App{{ClientID: ContosoClient, ObjectID: ContosoObject, Name: "certconnector", Secrets: []secret.Text{ContosoSecret}, Roles: []string{RoleGraph, RoleIntune}}},
	}
	usage := int(x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment)
	for i, platform := range []string{"windows", "ios", "macos", "android"} {
		p := Profile{
			Name: platform + "-device", Platform: platform, Subject: "CN={{DeviceId}}",
			SAN: Names{DNS: []string{"{{DeviceId}}.devices.contoso.example"}}, KeyUsage: usage,
			EKU: []string{clientAuth}, KeySize: 2048, Hash: "SHA-256", Validity: 365, ValidityUnit: "Days",
		}
		u := p
		u.Name, u.Subject = platform+"-user", "CN={{UserName}},E={{EmailAddress}}"
		u.SAN = Names{UPN: []string{"{{UserPrincipalName}}"}, Email: []string{"{{EmailAddress}}"}}
		n := string(rune('1' + i))
		t.Profiles = append(t.Profiles, p, u)
		t.Devices = append(t.Devices, Device{
			ID: "de71ce00-0000-4000-8000-00000000000" + n, Platform: platform,
			SerialNumber: "SN00000" + n, IMEI: "35693803564380" + n,
			User: "user" + n + "@contoso.example", UserID: "05e70000-0000-4000-8000-00000000000" + n,
			Email: "user" + n + "@contoso.example", SID: "S-1-5-21-1111111111-2222222222-3333333333-110" + n,
		})
	}
	return t
}

// expand replaces the variables of a profile by a device's values.
func (d Device) expand(text string) string {
	user, _, _ := strings.Cut(d.User, "@")
	return strings.NewReplacer(
		"{{DeviceId}}", d.ID, "{{AAD_Device_ID}}", d.ID, "{{SerialNumber}}", d.SerialNumber,
		"{{IMEINumber}}", d.IMEI, "{{UserName}}", user, "{{UserPrincipalName}}", d.User,
		"{{EmailAddress}}", d.Email, "{{OnPremisesSecurityIdentifier}}", d.SID,
	).Replace(text)
}

func (d Device) expandAll(texts []string) []string {
	var out []string
	for _, t := range texts {
		out = append(out, d.expand(t))
	}
	return out
}

// find returns a tenant by its ID or domain. The caller holds c.mu.
func (c *Cloud) find(name string) *tenant {
	for _, t := range c.tenants {
		if strings.EqualFold(t.ID, name) || t.Domain != "" && strings.EqualFold(t.Domain, name) {
			return t
		}
	}
	return nil
}

func (t *tenant) app(clientID string) *App {
	for _, a := range t.apps {
		if strings.EqualFold(a.ClientID, clientID) {
			return a
		}
	}
	return nil
}
