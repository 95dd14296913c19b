// Package adcstest is a Microsoft certificate authority for tests, as far as
// its neighbours can see: one core with accounts, rights, templates, a request
// database and revocation lists, behind the faces of the real one (DCOM and
// RPC, web enrolment, CEP and CES). It follows the public documents [MS-WCCE],
// [MS-ICPR], [MS-CSRA] and [MS-DCOM]; where they leave a point open, Quirks
// chooses. It keeps no secret and must never face a network.
package adcstest

import (
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"
)

// Options describe a CA. The zero value is a CA with a P-256 key, and the
// templates and accounts of DefaultTemplates and DefaultAccounts.
type Options struct {
	Name     string // common name; "": "Corp Issuing CA"
	Host     string // DNS name; "": "ca01.corp.test"
	Realm    string // Kerberos realm and DNS domain; "": "CORP.TEST"
	RSA      bool   // an RSA key of 2048 bits in place of P-256
	Accounts []Account
	// Templates that the CA publishes.
	Templates []Template
	Clock     func() time.Time // nil: time.Now

	// Standalone says that the CA is no enterprise CA; it lists no templates.
	Standalone bool
	// EndDateFlag is EDITF_ATTRIBUTEENDDATE: requests may shorten the life of
	// their certificates by attributes. It is off on a new enterprise CA, which
	// then ignores them without a word.
	EndDateFlag bool
	// RoleSeparation refuses an account that is both officer and administrator
	// with CERTSRV_E_ROLECONFLICT.
	RoleSeparation bool
	// PublishOnRevoke makes a new revocation list after each revocation, as an
	// administrator's scheduled task does; else only PublishCRLs makes one.
	PublishOnRevoke bool

	Quirks Quirks
}

// CA is the authority. It is safe for concurrent use.
type CA struct {
	name, host, realm string
	clock             func() time.Time
	endDateFlag       bool
	roleSeparation    bool
	publishOnRevoke   bool
	standalone        bool

	key        crypto.Signer
	cert, root *x509.Certificate

	accounts  map[string]Account // by lower-case name
	templates []Template

	mu      sync.Mutex
	quirks  Quirks
	rows    []*row // request ID is index + 1
	serials map[string]*row
	lists   lists
	faults  map[Fault]int // how many more times; negative: until Heal
	healed  chan struct{}
	faces   []func() error // restart each face
}

// New makes a CA with a root above it and an empty database.
func New(o Options) (*CA, error) {
	c := &CA{
		name: cmp.Or(o.Name, "Corp Issuing CA"), host: cmp.Or(o.Host, "ca01.corp.test"), realm: cmp.Or(o.Realm, "CORP.TEST"),
		clock: o.Clock, endDateFlag: o.EndDateFlag, roleSeparation: o.RoleSeparation, publishOnRevoke: o.PublishOnRevoke, standalone: o.Standalone,
		quirks: o.Quirks, accounts: map[string]Account{}, serials: map[string]*row{},
		faults: map[Fault]int{}, healed: make(chan struct{}),
	}
	if c.clock == nil {
		c.clock = time.Now
	}
	if o.Templates == nil {
		o.Templates = DefaultTemplates()
	}
	if o.Accounts == nil {
		o.Accounts = DefaultAccounts()
	}
	for _, t := range o.Templates {
		if t.Name == "" || c.template(t.Name) != nil {
			return nil, fmt.Errorf("template name %q is empty or given twice", t.Name)
		}
		c.templates = append(c.templates, t.withDefaults(len(c.templates)))
	}
	for _, a := range o.Accounts {
		key := accountKey(a.Name)
		if _, ok := c.accounts[key]; ok || key == "" {
			return nil, fmt.Errorf("account name %q is empty or given twice", a.Name)
		}
		c.accounts[key] = a
	}
	if err := c.makeAuthority(o.RSA); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c, c.publish(0, PublishBase)
}

// makeAuthority makes a root of its own and the issuing CA below it.
func (c *CA) makeAuthority(useRSA bool) error {
	newKey := func() (crypto.Signer, error) {
		if useRSA {
			return rsa.GenerateKey(rand.Reader, 2048)
		}
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	rootKey, err := newKey()
	if err != nil {
		return err
	}
	if c.key, err = newKey(); err != nil {
		return err
	}
	template := func(name string, years int) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: newSerial(), Subject: pkix.Name{CommonName: name, Organization: []string{"Corp"}},
			NotBefore: c.clock().Add(-time.Hour), NotAfter: c.clock().AddDate(years, 0, 0),
			IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		}
	}
	root := template("Corp Root CA", 20)
	if c.root, err = certify(root, root, rootKey.Public(), rootKey); err != nil {
		return fmt.Errorf("making the root: %v", err)
	}
	if c.cert, err = certify(template(c.name, 10), c.root, c.key.Public(), rootKey); err != nil {
		return fmt.Errorf("making the issuing CA: %v", err)
	}
	return nil
}

func certify(template, parent *x509.Certificate, key crypto.PublicKey, signer crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, signer)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// newSerial makes a serial number of 19 octets as AD CS does since 2012; every
// second one has an odd number of hexadecimal digits.
func newSerial() *big.Int {
	b := make([]byte, 19)
	rand.Read(b)
	b[0] = 1 + b[0]%0x1f
	return new(big.Int).SetBytes(b)
}

// Name is the CA's common name, as calls name it.
func (c *CA) Name() string { return c.name }

// Host is the CA's DNS name.
func (c *CA) Host() string { return c.host }

// Realm is the Kerberos realm of the CA's domain.
func (c *CA) Realm() string { return c.realm }

// Domain is the domain's NetBIOS name: the first label of the realm.
func (c *CA) Domain() string {
	first, _, _ := strings.Cut(c.realm, ".")
	return strings.ToUpper(first)
}

// Config is the CA's configuration string, host\name.
func (c *CA) Config() string { return c.host + `\` + c.name }

// Certificate is the issuing CA's certificate.
func (c *CA) Certificate() *x509.Certificate { return c.cert }

// Root is the certificate above it.
func (c *CA) Root() *x509.Certificate { return c.root }

// Now is the CA's clock.
func (c *CA) Now() time.Time { return c.clock() }

// Templates are the published templates.
func (c *CA) Templates() []Template { return slices.Clone(c.templates) }

// SetQuirks changes how the CA behaves where the documents leave it open.
func (c *CA) SetQuirks(q Quirks) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.quirks = q
}

// onRestart registers what Restart does for a face.
func (c *CA) onRestart(f func() error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faces = append(c.faces, f)
}

// Restart stops and starts the service: connections and open views are gone,
// DCOM listens on another port with another OXID; the database stays.
func (c *CA) Restart() error {
	c.mu.Lock()
	faces := slices.Clone(c.faces)
	c.mu.Unlock()
	var all []error
	for _, restart := range faces {
		all = append(all, restart())
	}
	return errors.Join(all...)
}
