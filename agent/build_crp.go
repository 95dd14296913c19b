package agent

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net/http"

	"github.com/certconnector/certconnector/agent/enroll"
	"github.com/certconnector/certconnector/crp"
	"github.com/certconnector/certconnector/crp/crphttp"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/webauth"
	"github.com/certconnector/certconnector/policymodule"
)

// buildRegistrationPoint builds what other front ends ask. Who they are is
// told by the listener: each has roots of its own.
func (a *Agent) buildRegistrationPoint(points map[string]*crp.Point) (err error) {
	if len(a.cfg.RegistrationPoint.FrontEnds) == 0 {
		return nil
	}
	cfg := crphttp.Config{
		Modules: map[string]policymodule.Module{}, Verdicts: a.journal, Identify: identified, Reporter: reporter{a},
		Clock: a.options.Clock, Log: a.log.Named("registration_point"), Audit: a.audit,
	}
	for name, p := range points {
		cfg.Modules[name] = p
	}
	for _, f := range a.cfg.RegistrationPoint.FrontEnds {
		// A certconnector in front applies its own rules, legacy_sha1 among them;
		// NDES knows none of them.
		front := crphttp.FrontEnd{Name: f.Name, Tenants: f.Tenants, ReleasesItself: f.ReleasesItself, LegacySHA1: !f.ReleasesItself}
		if f.ReleasesItself {
			front.Issuers = a.issuersOf(f.CA)
			front.Check = func(csr *pkcs10.Request) *policymodule.Decision { return enroll.Rules{}.CheckCSR(csr, true) }
		}
		cfg.FrontEnds = append(cfg.FrontEnds, front)
	}
	a.registrationPoint, err = crphttp.New(cfg)
	return err
}

// issuersOf returns the certificates of the CA that revokes for a front end: it
// revokes by serial number, so only what it issued may be reported. nil: there
// is none.
func (a *Agent) issuersOf(name string) func(context.Context) ([]*x509.Certificate, error) {
	issuer, ok := a.cas[name]
	if !ok {
		return nil
	}
	return issuer.Chain
}

// eachReporter calls do for every front end that releases by itself and every
// tenant that it may ask.
func (a *Agent) eachReporter(do func(f FrontEnd, tenant string) error) error {
	for _, f := range a.cfg.RegistrationPoint.FrontEnds {
		if !f.ReleasesItself {
			continue
		}
		for _, tenant := range f.Tenants {
			if err := do(f, tenant); err != nil {
				return err
			}
		}
	}
	return nil
}

// reporter is the registration authority as it is when it is asked: it is
// built after the web service.
type reporter struct{ a *Agent }

func (r reporter) Report(ctx context.Context, frontEnd, tenant string, o policymodule.Outcome) (bool, error) {
	return r.a.registration.Report(ctx, frontEnd, tenant, o)
}

func (r reporter) Reject(ctx context.Context, frontEnd, tenant string, o policymodule.Outcome) error {
	return r.a.registration.Reject(ctx, frontEnd, tenant, o)
}

type identityKey struct{}

// identify puts who the listener says a caller is into the request.
func identify(certificates *webauth.Certificates, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who := func() (string, error) { return certificates.IdentifyRequest(r) }
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), identityKey{}, who)))
	})
}

func identified(r *http.Request) (string, error) {
	who, ok := r.Context().Value(identityKey{}).(func() (string, error))
	if !ok {
		return "", errors.New("the listener does not know front ends")
	}
	return who()
}

// client is whom a certificate identifies.
func (c ClientCertificate) client(name string) webauth.Client {
	out := webauth.Client{Name: name, DNSName: c.DNSName}
	for _, pin := range c.SHA256 {
		b, err := hex.DecodeString(plainHex(pin))
		if err == nil && len(b) == 32 { // Validate saw to it
			out.Pins = append(out.Pins, [32]byte(b))
		}
	}
	return out
}
