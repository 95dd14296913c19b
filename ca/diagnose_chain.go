package ca

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

const (
	// endsSoon is when a CA's end is near: no certificate outlives its CA.
	endsSoon = 90 * 24 * time.Hour
	// clockTolerance is Kerberos' default.
	clockTolerance = 5 * time.Minute
	clockConcern   = time.Minute
)

// CompareChain compares the certificates that a CA shows, its own first, with
// the configured ones.
func CompareChain(shown, configured []*x509.Certificate, now time.Time) []Finding {
	if len(shown) == 0 || len(configured) == 0 {
		return nil
	}
	own := shown[0]
	return append([]Finding{compareOwn(own, configured), compareIssuers(shown, configured)}, CheckValidity(own, now))
}

func compareOwn(own *x509.Certificate, configured []*x509.Certificate) Finding {
	first := configured[0]
	sameName := bytes.Equal(own.RawSubject, first.RawSubject)
	sameKey := bytes.Equal(own.RawSubjectPublicKeyInfo, first.RawSubjectPublicKeyInfo)
	switch {
	case own.Equal(first):
		return Found(OK, CheckChain, "", "the CA's certificate %s is the configured one", brief(own))
	case slices.ContainsFunc(configured, own.Equal):
		return Found(Warning, CheckChain, "put the CA's present certificate first in the chain file: devices get the first as the CA's",
			"the CA's certificate %s is in the chain file, but not first there", brief(own))
	case sameName && sameKey:
		return Found(Warning, CheckChain, "put the CA's present certificate first in the chain file, and leave the former one after the root",
			"the CA has another certificate with the same key, %s; configured is %s", brief(own), brief(first))
	case sameName:
		return Found(Failure, CheckChain, "after comparing the fingerprint at the CA, put its present certificate first in the chain file, and leave the former one after the root; "+
			"devices must trust its root",
			"the CA has another certificate with another key, %s; configured is %s: what it issues now is refused here", brief(own), brief(first))
	}
	return Found(Failure, CheckChain, "check the address and the name of the CA; else export the right CA's certificates into the chain file",
		"another CA answers: %q, %s; configured is %q", own.Subject, brief(own), first.Subject)
}

// compareIssuers looks at the certificates above the CA's own. A CA that shows
// none is right about nothing and wrong about nothing.
func compareIssuers(shown, configured []*x509.Certificate) Finding {
	for _, cert := range shown[1:] {
		if !slices.ContainsFunc(configured, cert.Equal) {
			return Found(Warning, CheckChain, "compare with the chain that devices trust; add the certificate to the chain file if they go by it",
				"the CA shows an issuer above it, %q %s, that the chain file lacks", cert.Subject, brief(cert))
		}
	}
	return Found(OK, CheckChain, "", "%d issuers above the CA are in the chain file", len(shown)-1)
}

// CheckValidity says whether a CA's certificate is in force.
func CheckValidity(cert *x509.Certificate, now time.Time) Finding {
	const renew = "renew the CA's certificate at the CA"
	switch end := cert.NotAfter; {
	case now.Before(cert.NotBefore):
		return Found(Failure, CheckCertificate, "check the clocks", "the CA's certificate is not in force before %s", stamp(cert.NotBefore))
	case now.After(end):
		return Found(Failure, CheckCertificate, renew, "the CA's certificate expired on %s", stamp(end))
	case end.Sub(now) < endsSoon:
		return Found(Warning, CheckCertificate, renew+": no certificate lives longer than its CA", "the CA's certificate ends on %s, in %d days", stamp(end), int(end.Sub(now)/(24*time.Hour)))
	}
	return Found(OK, CheckCertificate, "", "the CA's certificate is in force until %s", stamp(cert.NotAfter))
}

// CheckList says whether a revocation list that was verified is in force. One
// that expired is a failure: whoever checks revocation refuses every
// certificate of the CA, and the CA those of its own signers.
func CheckList(der []byte, now time.Time) Finding {
	const publish = "publish a new list at the CA (certutil -CRL), and find out why its schedule did not"
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return Found(Failure, CheckCRL, publish, "the revocation list does not read: %v", err)
	}
	switch begin, end := list.ThisUpdate, list.NextUpdate; {
	case end.IsZero():
		return Found(Warning, CheckCRL, "", "the revocation list of %s does not say until when it holds", stamp(begin))
	case now.After(end):
		return Found(Failure, CheckCRL, publish, "the revocation list expired on %s", stamp(end))
	case begin.After(now.Add(clockConcern)):
		return Found(Warning, CheckCRL, "check the clocks of the CA and of this machine", "the revocation list is of %s, which is still to come", stamp(begin))
	case end.Sub(now) < end.Sub(begin)/20:
		return Found(Warning, CheckCRL, publish, "the revocation list ends on %s, and there is no newer one yet", stamp(end))
	default:
		return Found(OK, CheckCRL, "", "the revocation list is of %s and holds until %s", stamp(begin), stamp(end))
	}
}

// CompareClocks compares the CA's clock, or that of the web server before it,
// with ours. The zero time is a clock that was not told.
func CompareClocks(theirs, ours time.Time) Finding {
	const set = "set both clocks by NTP: Kerberos refuses five minutes of difference, and certificates begin in the future for devices"
	difference := ours.Sub(theirs).Round(time.Second)
	switch {
	case theirs.IsZero():
		return Found(Note, CheckClock, "", "the CA does not tell its time over this road")
	case difference.Abs() >= clockTolerance:
		return Found(Failure, CheckClock, set, "the clocks differ by %s: there it is %s", difference.Abs(), stamp(theirs))
	case difference.Abs() >= clockConcern:
		return Found(Warning, CheckClock, set, "the clocks differ by %s: there it is %s", difference.Abs(), stamp(theirs))
	}
	return Found(OK, CheckClock, "", "the clocks agree to %s", max(difference.Abs(), time.Second))
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// brief names a certificate by its fingerprint, as certutil and devices show it.
func brief(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return fmt.Sprintf("(SHA-256 %x…)", sum[:8])
}
