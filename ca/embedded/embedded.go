// Package embedded is a certificate authority in the process: keys, profiles,
// serial numbers, parked requests and revocation lists. What it must not
// forget is in a ca.Register; its key is any crypto.Signer, so that a TPM or
// an HSM can take the place of the file.
//
// A certificate is read back and compared with what was asked for before the
// key is used, and is in the register before Issue returns it.
package embedded

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/secret"
)

// Config describes a CA to open. Key and certificate come from Dir, as Create
// left them there, or from Key and Chain.
type Config struct {
	Name string // under which the register knows this CA; required

	Dir   string              // folder with KeyFile and ChainFile
	Key   crypto.Signer       // instead of Dir: a key that lives elsewhere
	Chain []*x509.Certificate // with Key: this CA's certificate, then its issuers up to the root

	// Profiles are what this CA issues; the first is the default, which a
	// request without a template gets. Empty: one profile "default" with the
	// defaults of Profile.
	Profiles []Profile

	Register ca.Register      // required
	Sealer   *secret.Sealer   // seals parked requests; required if a profile wants approval
	Clock    func() time.Time // nil: time.Now

	CRLValidity time.Duration // life of a revocation list, at least a minute; 0: 7 days
	CRLURLs     []string      // written into certificates as distribution points
	OCSPURLs    []string      // written into certificates as OCSP responders
	IssuerURLs  []string      // written into certificates as places of the CA certificate

	// DeltaCRLURLs are where the delta revocation list is: the freshest CRL
	// of RFC 5280, sections 4.2.1.15 and 5.2.6, written into certificates and
	// full lists. Empty: no delta lists are made.
	DeltaCRLURLs []string
	// DeltaCRLValidity is the life of a delta list, at least a minute and at
	// most CRLValidity; 0: a day, or CRLValidity if that is shorter.
	DeltaCRLValidity time.Duration
}

// These are the lives of a Microsoft CA's lists.
const (
	defaultCRLValidity   = 7 * day
	defaultDeltaValidity = day
)

// CA is an open certificate authority. It is safe for concurrent use.
type CA struct {
	name     string
	key      crypto.Signer
	cert     *x509.Certificate
	chain    []*x509.Certificate
	alg      signatureAlgorithm
	fixed    fixedParts
	profiles map[string]*profile
	standard *profile // for requests without a template
	register ca.Register
	sealer   *secret.Sealer
	clock    func() time.Time

	crlURLs, deltaURLs, issuerURLs, ocspURLs []string

	crlValidity    time.Duration
	makesDeltas    bool
	deltaValidity  time.Duration
	fullExtensions []pkix.Extension // of full lists: where the delta list is

	// crlMu guards crlLooked, crlStale and anchors, and is held while a list is
	// made, so that one is made at a time.
	crlMu     sync.Mutex
	crlLooked time.Time // when the register was asked last
	crlStale  bool      // something was revoked since
	anchors   []anchor  // oldest first
	published atomic.Pointer[lists]

	watchMu  sync.Mutex // guards watchers
	watchers map[*byte]func(serial *big.Int)
}

var (
	_ ca.Authority = (*CA)(nil)
	_ ca.Revoker   = (*CA)(nil)
	_ ca.Collector = (*CA)(nil)
	_ ca.Finder    = (*CA)(nil)
	_ ca.Checker   = (*CA)(nil)
	_ ca.Publisher = (*CA)(nil)
	_ ca.Approver  = (*CA)(nil)
)

// Open opens a CA that Create made, or whose key lives elsewhere. It never
// makes one: a mistyped folder is an error, not an empty CA. All mistakes of
// the profiles are reported at once.
func Open(cfg Config) (*CA, error) {
	if cfg.Name == "" || cfg.Register == nil {
		return nil, errors.New("embedded CA needs a name and a register")
	}
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("embedded CA %q: %w", cfg.Name, err)
	}
	key, chain, err := cfg.identity()
	if err != nil {
		return nil, fmt.Errorf("embedded CA %q: %w", cfg.Name, err)
	}
	alg, err := checkIdentity(key, chain)
	if err != nil {
		return nil, fmt.Errorf("embedded CA %q: %w", cfg.Name, err)
	}
	c := &CA{
		name: cfg.Name, key: key, cert: chain[0], chain: chain, alg: alg,
		register: cfg.Register, sealer: cfg.Sealer, clock: cfg.Clock, watchers: map[*byte]func(*big.Int){},
		crlURLs: slices.Clone(cfg.CRLURLs), deltaURLs: slices.Clone(cfg.DeltaCRLURLs), issuerURLs: slices.Clone(cfg.IssuerURLs), ocspURLs: slices.Clone(cfg.OCSPURLs),
	}
	if c.clock == nil {
		c.clock = time.Now
	}
	if err := c.readLists(cfg); err != nil {
		return nil, fmt.Errorf("embedded CA %q: %w", cfg.Name, err)
	}
	if c.profiles, c.standard, err = readProfiles(cfg.Profiles, cfg.Sealer != nil); err != nil {
		return nil, fmt.Errorf("embedded CA %q: %w", cfg.Name, err)
	}
	if c.fixed, err = newFixedParts(c.cert, alg, cfg); err != nil {
		return nil, fmt.Errorf("embedded CA %q: %w", cfg.Name, err)
	}
	return c, nil
}

// check refuses what would spoil every certificate or list.
func (cfg Config) check() error {
	var errs []error
	if cfg.CRLValidity != 0 && cfg.CRLValidity < time.Minute {
		errs = append(errs, fmt.Errorf("a revocation list of %v is of no use", cfg.CRLValidity))
	}
	if cfg.DeltaCRLValidity != 0 && cfg.DeltaCRLValidity < time.Minute {
		errs = append(errs, fmt.Errorf("a delta revocation list of %v is of no use", cfg.DeltaCRLValidity))
	}
	if full := cmp.Or(cfg.CRLValidity, defaultCRLValidity); cfg.DeltaCRLValidity > full {
		errs = append(errs, fmt.Errorf("a delta revocation list of %v outlives the full one of %v", cfg.DeltaCRLValidity, full))
	}
	if len(cfg.DeltaCRLURLs) > 0 && len(cfg.CRLURLs) == 0 {
		errs = append(errs, errors.New("delta revocation lists have addresses and the full list has none"))
	}
	for _, u := range slices.Concat(cfg.CRLURLs, cfg.OCSPURLs, cfg.IssuerURLs, cfg.DeltaCRLURLs) {
		parsed, err := url.Parse(u)
		ascii := !strings.ContainsFunc(u, func(r rune) bool { return r <= ' ' || r > '~' })
		if err != nil || !ascii || !slices.Contains([]string{"http", "https", "ldap"}, parsed.Scheme) {
			errs = append(errs, fmt.Errorf("address %q is no http, https or ldap URL in ASCII", u))
		}
	}
	return errors.Join(errs...)
}

// readLists reads what concerns the revocation lists.
func (c *CA) readLists(cfg Config) error {
	c.crlValidity = cmp.Or(cfg.CRLValidity, defaultCRLValidity)
	c.deltaValidity = cmp.Or(cfg.DeltaCRLValidity, min(defaultDeltaValidity, c.crlValidity))
	c.makesDeltas = len(cfg.DeltaCRLURLs) > 0
	if !c.makesDeltas {
		return nil
	}
	freshest, err := distributionPoints(oidFreshestCRL, cfg.DeltaCRLURLs)
	c.fullExtensions = []pkix.Extension{freshest}
	return err
}

// identity returns key and chain from wherever the configuration has them.
func (cfg Config) identity() (crypto.Signer, []*x509.Certificate, error) {
	switch {
	case cfg.Dir != "" && cfg.Key != nil:
		return nil, nil, errors.New("give a folder or a key, not both")
	case cfg.Dir != "":
		return loadIdentity(cfg.Dir)
	case cfg.Key != nil && len(cfg.Chain) > 0:
		return cfg.Key, slices.Clone(cfg.Chain), nil
	}
	return nil, nil, errors.New("no folder, and no key with its certificate")
}

// checkIdentity refuses a key that is not the certificate's, a certificate
// that may not issue, and a chain that is none.
func checkIdentity(key crypto.Signer, chain []*x509.Certificate) (signatureAlgorithm, error) {
	cert := chain[0]
	pub, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(key.Public()) {
		return signatureAlgorithm{}, errors.New("the key does not belong to the CA certificate")
	}
	if !cert.BasicConstraintsValid || !cert.IsCA {
		return signatureAlgorithm{}, errors.New("the certificate is not one of a CA (basicConstraints)")
	}
	if need := x509.KeyUsageCertSign | x509.KeyUsageCRLSign; cert.KeyUsage&need != need {
		return signatureAlgorithm{}, errors.New("the CA certificate may not sign certificates and revocation lists (keyUsage)")
	}
	if len(cert.SubjectKeyId) == 0 {
		return signatureAlgorithm{}, errors.New("the CA certificate has no subjectKeyIdentifier for others to refer to")
	}
	for i, issuer := range chain[1:] {
		if err := chain[i].CheckSignatureFrom(issuer); err != nil {
			return signatureAlgorithm{}, fmt.Errorf("certificate %d of the chain was not issued by the next: %v", i+1, err)
		}
	}
	if last := chain[len(chain)-1]; !bytes.Equal(last.RawIssuer, last.RawSubject) {
		return signatureAlgorithm{}, fmt.Errorf("the chain ends before its root: add the certificate of %q", last.Issuer)
	}
	return algorithmFor(key.Public())
}

// Name is that of Config.
func (c *CA) Name() string { return c.name }

// Chain returns the CA's certificate, then its issuers up to the root.
func (c *CA) Chain(context.Context) ([]*x509.Certificate, error) {
	return slices.Clone(c.chain), nil
}

// Profiles returns the names of the profiles, sorted.
func (c *CA) Profiles() []string {
	names := make([]string, 0, len(c.profiles))
	for _, p := range c.profiles {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	return names
}
