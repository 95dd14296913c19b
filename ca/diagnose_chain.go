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
		return OK.Is(CheckChain, "", "the CA's certificate %s is the configured one", brief(own))
	case slices.ContainsFunc(configured, own.Equal):
		return Warning.Is(CheckChain, "put the CA's present certificate first in the chain file: devices get the first as the CA's",
			"the CA's certificate %s is in the chain file, but not first there", brief(own))
	case sameName && sameKey:
		return Warning.Is(CheckChain, "put the CA's present certificate first in the chain file, and leave the former one after the root",
			"the CA has another certificate with the same key, %s; configured is %s", brief(own), brief(first))
	case sameName:
		return Failure.Is(CheckChain, "after comparing the fingerprint at the CA, put its present certificate first in the chain file, and leave the former one after the root; "+
			"devices must trust its root",
			"the CA has another certificate with another key, %s; configured is %s: what it issues now is refused here", brief(own), brief(first))
	}
	return Failure.Is(CheckChain, "check the address and the name of the CA; else export the right CA's certificates into the chain file",
		"another CA answers: %q, %s; configured is %q", own.Subject, brief(own), first.Subject)
}

// compareIssuers looks at the certificates above the CA's own. A CA that shows
// none is right about nothing and wrong about nothing.
func compareIssuers(shown, configured []*x509.Certificate) Finding {
	for _, cert := range shown[1:] {
		if !slices.ContainsFunc(configured, cert.Equal) {
			return Warning.Is(CheckChain, "compare with the chain that devices trust; add the certificate to the chain file if they go by it",
				"the CA shows an issuer above it, %q %s, that the chain file lacks", cert.Subject, brief(cert))
		}
	}
	return OK.Is(CheckChain, "", "%d issuers above the CA are in the chain file", len(shown)-1)
}

// CheckValidity says whether a CA's certificate is in force.
func CheckValidity(cert *x509.Certificate, now time.Time) Finding {
	const renew = "renew the CA's certificate at the CA"
	switch end := cert.NotAfter; {
	case now.Before(cert.NotBefore):
		return Failure.Is(CheckCertificate, "check the clocks", "the CA's certificate is not in force before %s", stamp(cert.NotBefore))
	case now.After(end):
		return Failure.Is(CheckCertificate, renew, "the CA's certificate expired on %s", stamp(end))
	case end.Sub(now) < endsSoon:
		return Warning.Is(CheckCertificate, renew+": no certificate lives longer than its CA", "the CA's certificate ends on %s, in %d days", stamp(end), int(end.Sub(now)/(24*time.Hour)))
	}
	return OK.Is(CheckCertificate, "", "the CA's certificate is in force until %s", stamp(cert.NotAfter))
}

// CheckList says whether a revocation list that was verified is in force. One
// that expired is a failure: whoever checks revocation refuses every
// certificate of the CA, and the CA those of its own signers.
func CheckList(der []byte, now time.Time) Finding {
	const publish = "publish a new list at the CA (certutil -CRL), and find out why its schedule did not"
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return Failure.Is(CheckCRL, publish, "the revocation list does not read: %v", err)
	}
	switch begin, end := list.ThisUpdate, list.NextUpdate; {
	case end.IsZero():
		return Warning.Is(CheckCRL, "", "the revocation list of %s does not say until when it holds", stamp(begin))
	case now.After(end):
		return Failure.Is(CheckCRL, publish, "the revocation list expired on %s", stamp(end))
	case begin.After(now.Add(clockConcern)):
		return Warning.Is(CheckCRL, "check the clocks of the CA and of this machine", "the revocation list is of %s, which is still to come", stamp(begin))
	case end.Sub(now) < end.Sub(begin)/20:
		return Warning.Is(CheckCRL, publish, "the revocation list ends on %s, and there is no newer one yet", stamp(end))
	default:
		return OK.Is(CheckCRL, "", "the revocation list is of %s and holds until %s", stamp(begin), stamp(end))
	}
}

// CompareClocks compares the CA's clock, or that of the web server before it,
// with ours. The zero time is a clock that was not told.
func CompareClocks(theirs, ours time.Time) Finding {
	const set = "set both clocks by NTP: Kerberos refuses five minutes of difference, and certificates begin in the future for devices"
	difference := ours.Sub(theirs).Round(time.Second)
	switch {
	case theirs.IsZero():
		return Note.Is(CheckClock, "", "the CA does not tell its time over this road")
	case difference.Abs() >= clockTolerance:
		return Failure.Is(CheckClock, set, "the clocks differ by %s: there it is %s", difference.Abs(), stamp(theirs))
	case difference.Abs() >= clockConcern:
		return Warning.Is(CheckClock, set, "the clocks differ by %s: there it is %s", difference.Abs(), stamp(theirs))
	}
	return OK.Is(CheckClock, "", "the clocks agree to %s", max(difference.Abs(), time.Second))
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// brief names a certificate by its fingerprint, as certutil and devices show it.
func brief(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return fmt.Sprintf("(SHA-256 %x…)", sum[:8])
}
