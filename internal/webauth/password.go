package webauth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/certconnector/certconnector/internal/forwarded"
	"github.com/certconnector/certconnector/internal/pace"
	"github.com/certconnector/certconnector/internal/secret"
)

// The names of the rules about names and passwords.
const (
	RuleNoCredentials    = "credentials_missing"
	RuleWrongCredentials = "credentials_wrong"
	RuleLimited          = "credentials_limited"
	RuleWithoutTLS       = "credentials_without_tls"
)

// Account is one caller that a password identifies.
type Account struct {
	Name     string // what the caller is called here
	Password secret.Text
}

// Passwords identifies callers by HTTP Basic (RFC 7617) over TLS. It is safe
// for concurrent use.
type Passwords struct {
	key      [sha256.Size]byte // of the digests: what lies in memory is of no use elsewhere
	accounts []account
	clock    func() time.Time
	failures *pace.Buckets[netip.Prefix] // by source
}

type account struct {
	name           string
	nameDigest     [sha256.Size]byte
	passwordDigest [sha256.Size]byte
}

// NewPasswords returns Passwords for these accounts, or says what all of them
// lack. clock nil: time.Now.
func NewPasswords(accounts []Account, clock func() time.Time) (*Passwords, error) {
	if clock == nil {
		clock = time.Now
	}
	p := &Passwords{clock: clock, failures: pace.New[netip.Prefix](maxSources)}
	rand.Read(p.key[:])
	var errs []error
	for _, a := range accounts {
		made := account{name: a.Name, nameDigest: p.digest(strings.ToLower(a.Name)), passwordDigest: p.digest(a.Password.Reveal())}
		if a.Name == "" || strings.Contains(a.Name, ":") {
			errs = append(errs, fmt.Errorf("%q is no name for HTTP Basic: it is empty or has a colon", a.Name))
		}
		if err := CheckPassword(a.Password); err != nil {
			errs = append(errs, fmt.Errorf("%q: %w", a.Name, err))
		}
		for _, other := range p.accounts {
			switch {
			case other.nameDigest == made.nameDigest:
				errs = append(errs, fmt.Errorf("two accounts are called %q", a.Name))
			case other.passwordDigest == made.passwordDigest:
				errs = append(errs, fmt.Errorf("%q and %q have one password; give each its own", other.name, a.Name))
			}
		}
		p.accounts = append(p.accounts, made)
	}
	if len(accounts) == 0 {
		errs = append(errs, errors.New("no account has a password"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return p, nil
}

// Identify returns the name of the account whose name and password a request
// carries, or a *Refusal. The name may come as user@domain or DOMAIN\user, as
// MDM servers send it to NDES; its letters' case does not matter.
//
// A request that came neither over TLS nor from this machine, as from a proxy
// that ends TLS here, is refused before anything of it is read. After ten failures in a minute a source
// address (an IPv6 source is a /64) is told so, unless it sends the right password. A request
// without credentials is no failure: most clients ask once without.
func (p *Passwords) Identify(r *http.Request) (string, error) {
	source := peer(r)
	if r.TLS == nil && !forwarded.Peer(r).IsLoopback() {
		return "", &Refusal{Rule: RuleWithoutTLS, Detail: "names and passwords are taken over TLS only"}
	}
	name, password, ok := r.BasicAuth()
	if !ok {
		return "", &Refusal{Rule: RuleNoCredentials, Detail: "the caller sent no name and password by HTTP Basic"}
	}
	// The right password is never limited: behind a proxy everybody has one
	// address, and nobody shall lock others out. It cannot be guessed either way.
	found, ok := p.find(name, password)
	if ok {
		return found, nil
	}
	from, now := pace.Source(source), p.clock()
	if wait := p.failures.Wait(from, failuresPerMinute, now); wait > 0 {
		return "", &Refusal{Rule: RuleLimited, Detail: "too many wrong passwords came from this address", RetryAfter: wait}
	}
	p.failures.Take(from, failuresPerMinute, now)
	return "", &Refusal{Rule: RuleWrongCredentials, Detail: "name or password is wrong"}
}

// find compares with every account, so that the time it takes says nothing
// about which names there are.
func (p *Passwords) find(name, password string) (string, bool) {
	full := p.digest(strings.ToLower(name))
	short := p.digest(strings.ToLower(withoutDomain(name)))
	given := p.digest(password)
	index := -1
	for i, a := range p.accounts {
		named := subtle.ConstantTimeCompare(full[:], a.nameDigest[:]) | subtle.ConstantTimeCompare(short[:], a.nameDigest[:])
		index = subtle.ConstantTimeSelect(named&subtle.ConstantTimeCompare(given[:], a.passwordDigest[:]), i, index)
	}
	if index < 0 {
		return "", false
	}
	return p.accounts[index].name, true
}

// digest gives texts of any length one length.
func (p *Passwords) digest(text string) (d [sha256.Size]byte) {
	mac := hmac.New(sha256.New, p.key[:])
	mac.Write([]byte(text))
	return [sha256.Size]byte(mac.Sum(nil))
}

// withoutDomain returns user of DOMAIN\user and of user@domain. The domain is
// not compared: it is the MDM's idea of where NDES looks accounts up.
func withoutDomain(name string) string {
	if _, user, ok := strings.Cut(name, `\`); ok {
		return user
	}
	if at := strings.LastIndexByte(name, '@'); at >= 0 {
		return name[:at]
	}
	return name
}

// CheckPassword says what a password lacks. It cannot tell a random one from a
// sentence: have one made.
func CheckPassword(password secret.Text) error {
	if err := secret.CheckStrength(password); err != nil {
		return fmt.Errorf("the password %w", err)
	}
	return nil
}
