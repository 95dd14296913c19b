package intune

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/proxy"
	"github.com/certconnector/certconnector/internal/retry"
	"github.com/certconnector/certconnector/internal/secret"
)

// Config says which tenant to speak for, and how to reach the cloud.
type Config struct {
	TenantID   string // the tenant's GUID or a verified domain name
	ClientID   string // the application (client) ID of the registration
	Provider   string // product and version, sent as callerInfo and User-Agent
	Credential Credential

	Cloud     Cloud     // default Public
	Endpoints Endpoints // overrides single addresses of the cloud

	RevocationCodes CodeStyle // how results of revocations spell their codes, default CodeNames

	Proxy   proxy.Config                                                         // for all calls; zero: what the environment says (HTTPS_PROXY, NO_PROXY)
	RootCAs *x509.CertPool                                                       // verifies the cloud's TLS certificates; nil: the system's roots. To add one to those, start from x509.SystemCertPool
	Dial    func(ctx context.Context, network, address string) (net.Conn, error) // nil: a net.Dialer

	Timeouts Timeouts
	Backoff  retry.Schedule // delays between attempts, default 1 s doubled up to 8 s

	Clock func() time.Time // nil: time.Now
	Log   *zap.Logger      // nil: nothing is logged

	// Observe hears of each exchange with the cloud when it is over: which call,
	// as Calls names them, how long it took, and the error, nil for an answer
	// (also for one that refuses a device). nil: nobody counts. It must be quick
	// and safe for concurrent use.
	Observe func(call string, took time.Duration, err error)
}

// Credential proves to Entra ID that we are the registered application.
// Exactly one of its fields is set.
type Credential struct {
	// Certificates returns the certificates to sign in with, newest first. It is
	// asked at every sign-in, so that a renewed certificate is used at once; the
	// next one is tried when Entra ID does not know the first (AADSTS700027).
	Certificates func() []Certificate

	Secret    secret.Text // a client secret: its value, not its ID
	TokenFile string      // a file with a token of a federated issuer, read at every sign-in
}

// Certificate is a certificate of the application registration and its key.
// Entra ID documents RSA keys of 2048 bits or more; the key may live in a TPM,
// an HSM or a key store, for it is only asked to sign.
type Certificate struct {
	Certificate *x509.Certificate
	Signer      crypto.Signer
}

// Fixed returns a Certificates function for certificates that do not change.
func Fixed(certificates ...Certificate) func() []Certificate {
	return func() []Certificate { return certificates }
}

// Timeouts are limits for single calls, and for all attempts of one call.
type Timeouts struct {
	Token      time.Duration // one token request, default 15 s
	Discovery  time.Duration // one discovery request, default 15 s
	Validate   time.Duration // one validation request, default 30 s
	Notify     time.Duration // one notification, default 30 s
	Revocation time.Duration // one download of revocation requests or upload of results, default 60 s
	Graph      time.Duration // one call of Graph about keys, users or PFX certificates, default 30 s
	Renewal    time.Duration // renewing a token or service list that still serves, default 5 s: a call waits for it
	Total      time.Duration // all attempts of one service call, default 45 s
}

func (t Timeouts) complete() Timeouts {
	fill := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	fill(&t.Token, 15*time.Second)
	fill(&t.Discovery, 15*time.Second)
	fill(&t.Validate, 30*time.Second)
	fill(&t.Notify, 30*time.Second)
	fill(&t.Revocation, 60*time.Second)
	fill(&t.Graph, 30*time.Second)
	fill(&t.Renewal, 5*time.Second)
	fill(&t.Total, 45*time.Second)
	return t
}

// complete checks a Config and fills in its defaults. All mistakes are
// reported at once.
func (c Config) complete() (Config, error) {
	var errs []error
	fail := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }

	if !plainName(c.TenantID) {
		fail("tenant ID %q is missing or malformed: give the tenant's GUID or a verified domain name", c.TenantID)
	}
	if !plainName(c.ClientID) {
		fail("client ID %q is missing or malformed: give the application (client) ID of the app registration", c.ClientID)
	}
	if strings.TrimSpace(c.Provider) == "" || strings.ContainsAny(c.Provider, "\r\n") {
		fail("provider name and version are missing")
	}
	if c.Cloud == "" {
		c.Cloud = Public
	}
	var err error
	if c.Endpoints, err = c.Endpoints.complete(c.Cloud); err != nil {
		errs = append(errs, err)
	} else {
		errs = append(errs, c.Endpoints.check())
	}
	if c.RevocationCodes == "" {
		c.RevocationCodes = CodeNames
	}
	if c.Proxy.URL == "" && c.Proxy.User == "" {
		c.Proxy, err = proxy.Environment()
		errs = append(errs, err)
	}
	errs = append(errs, c.RevocationCodes.check(), c.Credential.check(), c.Proxy.Check())

	c.Timeouts = c.Timeouts.complete()
	if c.Backoff == (retry.Schedule{}) {
		c.Backoff = retry.Schedule{First: time.Second, Most: 8 * time.Second}
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if err := errors.Join(errs...); err != nil {
		return c, fmt.Errorf("configuration of the Intune client: %w", err)
	}
	return c, nil
}

// plainName accepts what may stand in a URL's path: GUIDs and domain names.
func plainName(s string) bool {
	for _, r := range s {
		switch {
		case r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r == '.', r == '-':
		default:
			return false
		}
	}
	return s != "" && s != "." && s != ".."
}

// check wants whole https URLs that end in a slash, for paths are appended.
func (e *Endpoints) check() error {
	var errs []error
	for _, u := range []struct {
		name  string
		value *string
	}{{"authority", &e.Authority}, {"Graph", &e.Graph}, {"Intune resource", &e.Resource}} {
		if *u.value == "" {
			errs = append(errs, fmt.Errorf("the %s URL is missing: this cloud has none that is documented", u.name))
			continue
		}
		p, err := url.Parse(*u.value)
		if err == nil && p.User != nil {
			errs = append(errs, fmt.Errorf("the %s URL holds a user: write the address alone", u.name))
			continue
		}
		if err != nil || p.Scheme != "https" || p.Host == "" || p.RawQuery != "" || p.Fragment != "" { // it may hold a password
			errs = append(errs, fmt.Errorf("the %s URL is not an https URL of a host, without query and fragment", u.name))
			continue
		}
		if !strings.HasSuffix(*u.value, "/") {
			*u.value += "/"
		}
	}
	if len(e.ServiceHosts) == 0 {
		errs = append(errs, errors.New("the list of service hosts is empty: name the hosts that may be sent a token"))
	}
	for _, a := range []struct{ name, path string }{{"download action", e.DownloadAction}, {"upload action", e.UploadAction}} {
		for segment := range strings.SplitSeq(a.path, "/") {
			if !plainName(segment) {
				errs = append(errs, fmt.Errorf("the %s %q is not a path such as %s", a.name, a.path, defaultDownloadAction))
				break
			}
		}
	}
	if !plainName(e.PFXVersion) {
		errs = append(errs, fmt.Errorf("version %q of Graph for PFX certificates is malformed: give beta or v1.0", e.PFXVersion))
	}
	if !plainName(e.DiscoveryAppID) {
		errs = append(errs, fmt.Errorf("discovery application ID %q is malformed", e.DiscoveryAppID))
	}
	return errors.Join(errs...)
}

// check wants exactly one kind of credential, and keys that Entra ID takes.
func (c Credential) check() error {
	kinds := 0
	for _, set := range []bool{c.Certificates != nil, c.Secret != "", c.TokenFile != ""} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		return fmt.Errorf("%d kinds of credential are given: give a certificate, a client secret or a token file", kinds)
	}
	if c.Certificates == nil {
		return nil
	}
	certs := c.Certificates()
	if len(certs) == 0 {
		return errors.New("there is no certificate to sign in with")
	}
	var errs []error
	for i, cert := range certs {
		if err := cert.check(); err != nil {
			errs = append(errs, fmt.Errorf("sign-in certificate %d: %w", i+1, err))
		}
	}
	return errors.Join(errs...)
}

func (c Certificate) check() error {
	if c.Certificate == nil || c.Signer == nil {
		return errors.New("certificate or key is missing")
	}
	pub, ok := c.Signer.Public().(*rsa.PublicKey)
	if !ok {
		return fmt.Errorf("key is %T: Entra ID takes RSA keys", c.Signer.Public())
	}
	if pub.N.BitLen() < 2048 {
		return fmt.Errorf("RSA key has %d bits: Entra ID takes 2048 or more", pub.N.BitLen())
	}
	if !pub.Equal(c.Certificate.PublicKey) {
		return errors.New("key and certificate do not belong together")
	}
	return nil
}
