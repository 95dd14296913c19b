package enroll

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/scep"
)

// signerID tells a first enrolment, whose self-signed signer certificate a
// device makes anew for every try, from a renewal, which is never a repeat of
// the first enrolment even with the same CSR bytes.
func signerID(req *scep.Request) [32]byte {
	if selfSigned(req) {
		return req.Signer.KeyDigest()
	}
	return sha256.Sum256(req.Signer.Raw)
}

// selfSigned reports whether the message is signed with a certificate that
// the device made for the key of its CSR. The subject is not compared: Apple
// uses a random one.
func selfSigned(req *scep.Request) bool {
	return req.Signer.SelfIssued && signedByCSRKey(req.Signer, req.CSR)
}

// renewal says which certificate of ours vouches for the request: nil for a
// first enrolment and whenever a challenge came, which is then asked about as
// for a first enrolment (scep-ndes 1.8). A signer that is neither the CSR's
// own key nor a valid certificate of ours is refused.
//
// Most clients renew with PKCSReq and their old certificate, so the signer
// decides, not the message type.
func (p *Endpoint) renewal(ctx context.Context, req *scep.Request) (*x509.Certificate, *policymodule.Decision, error) {
	if selfSigned(req) {
		if req.MessageType == scep.RenewalReq {
			return nil, refuse(RuleRenewalSigner, policymodule.BadCertID, "a RenewalReq must be signed with the certificate to renew"), nil
		}
		return nil, nil, nil
	}
	if req.Signer.SelfIssued {
		return nil, refuse(RuleKeyProof, policymodule.BadMessageCheck, "the message is signed with another key than the CSR's"), nil
	}
	cert, not, err := p.ours(ctx, req.Signer)
	switch {
	case err != nil:
		return nil, nil, err
	case not != "":
		return nil, refuse(RuleRenewalSigner, policymodule.BadCertID, not), nil
	case req.CSR.ChallengePassword != "":
		return nil, nil, nil
	case !p.Rules.RenewalWithoutChallenge:
		return nil, refuse(RuleRenewalSigner, policymodule.BadRequest, "renewal without a challenge is off at this endpoint (renewal.without_challenge)"), nil
	case p.Rules.RenewalNewKey && signedByCSRKey(req.Signer, req.CSR):
		return nil, refuse(RuleRenewalSigner, policymodule.BadRequest, "a renewal must have a new key at this endpoint (renewal.allow_same_key)"), nil
	case !bytes.Equal(cert.RawSubject, req.CSR.RawSubject), !bytes.Equal(extension(cert, oidSAN), req.CSR.RawSAN):
		return nil, refuse(RuleRenewalNames, policymodule.BadRequest, "a renewal must ask for the names of the old certificate"), nil
	}
	not, err = p.issuedHere(ctx, cert)
	switch {
	case err != nil:
		return nil, nil, err
	case not != "":
		return nil, refuse(RuleRenewalSigner, policymodule.BadCertID, not), nil
	}
	return cert, nil, nil
}

// issuedHere says why a certificate of our CA may not vouch at this endpoint:
// one that another endpoint gave would get around whoever decides there, as
// Intune does. "" means that it may.
func (p *Endpoint) issuedHere(ctx context.Context, cert *x509.Certificate) (not string, err error) {
	e, err := p.r.cfg.Journal.Issued(ctx, p.CAName, serialText(cert))
	switch {
	case errors.Is(err, journal.ErrNotFound):
		return "the signer's certificate is not recorded here, so that nobody can tell which endpoint gave it", nil
	case err != nil:
		return "", fmt.Errorf("looking for the signer's certificate: %w", err)
	case e.Endpoint != p.Name && !slices.Contains(p.Rules.RenewalFrom, e.Endpoint):
		return "the signer's certificate was given by endpoint " + e.Endpoint + ", which is not in renewal.from", nil
	}
	return "", nil
}

// ours returns the signer's certificate if this endpoint's CA issued it, it
// is within its time, and the CA does not call it revoked; else why not. An
// error means that the CA could not be asked.
func (p *Endpoint) ours(ctx context.Context, signer *scep.Signer) (cert *x509.Certificate, not string, err error) {
	cert, err = x509.ParseCertificate(signer.Raw)
	if err != nil {
		return nil, "the signer's certificate is not one this CA would issue", nil
	}
	chain, err := p.CA.Chain(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("reading the CA's chain: %w", err)
	}
	if !bytes.Equal(cert.RawIssuer, chain[0].RawSubject) || cert.CheckSignatureFrom(chain[0]) != nil {
		return nil, "the signer's certificate was not issued by this CA", nil
	}
	if now := p.r.now(); now.Before(cert.NotBefore) || now.After(cert.NotAfter.Add(p.Rules.RenewalGrace)) {
		return nil, "the signer's certificate is outside its validity", nil
	}
	checker, ok := ca.Ability[ca.Checker](p.CA)
	if !ok {
		return nil, "this CA cannot say whether the signer's certificate is revoked", nil
	}
	switch status, err := checker.Check(ctx, cert.SerialNumber); {
	case errors.Is(err, ca.ErrNotFound):
		return nil, "the CA does not know the signer's certificate", nil
	case err != nil:
		return nil, "", fmt.Errorf("asking the CA about the signer's certificate: %w", err)
	case status.Revoked:
		return nil, "the signer's certificate is revoked", nil
	}
	return cert, "", nil
}
