package reconcile

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

// look looks at one entry. Entries come newest first.
func (s *scan) look(e *journal.Entry) {
	if e.Resubmitted {
		s.orphan(e)
	}
	if !e.State.Final() {
		s.lookOpen(e)
		s.coming[digest(e.Tenant, e.Endpoint, e.Template, e.Subject)] = struct{}{}
		return
	}
	if e.Serial == "" || len(e.Certificate) == 0 {
		return
	}
	cert, err := x509.ParseCertificate(e.Certificate)
	if err != nil {
		// What cannot be read has no end that could be compared.
		s.incomplete("the certificate of some entries in the journal cannot be read")
		return
	}
	if e.State == journal.Released {
		s.renewal(e, cert)
	}
	s.plan(e, cert)
}

func (s *scan) orphan(e *journal.Entry) {
	f := of(PossibleOrphan, Warning, e)
	f.Since, f.Until = e.SubmittedAt, e.UpdatedAt
	f.Cause = fmt.Sprintf("the outcome of a submission to CA %q was unknown and it was submitted once more: there may be two certificates, one of which nobody has", e.CA)
	f.Fix = "look at that CA for certificates with this subject from this time window, and revoke those whose serial number is not the one named here"
	s.found(f, nil)
}

// lookOpen looks at an entry that has not ended.
func (s *scan) lookOpen(e *journal.Entry) {
	if e.GiveUp.IsZero() || s.now.Sub(e.GiveUp) <= s.r.Settling {
		return
	}
	f := of(Stuck, Error, e)
	f.Since = e.GiveUp
	f.Cause = fmt.Sprintf("the enrolment is %s though its deadline has passed: nobody takes it further", e.State)
	f.Fix = "see in the log why the settle worker or the outbox does not end it; start the service if it is not running"
	s.found(f, nil)
}

// renewal looks whether the newest certificate of a device is too old.
func (s *scan) renewal(e *journal.Entry, cert *x509.Certificate) {
	device := digest(e.Tenant, e.Endpoint, e.Template, e.Subject, string(altNames(cert)))
	if _, newer := s.devices[device]; newer {
		return
	}
	s.devices[device] = struct{}{}
	if _, under := s.coming[digest(e.Tenant, e.Endpoint, e.Template, e.Subject)]; under {
		return
	}
	if _, ours := s.revoked[digest(e.CA, e.Serial)]; ours {
		return
	}
	life := cert.NotAfter.Sub(cert.NotBefore)
	due := cert.NotAfter.Add(-time.Duration(float64(life) * s.r.RenewalShare))
	switch {
	case s.now.After(cert.NotAfter):
		f := of(StoppedRenewing, Warning, e)
		f.Since = cert.NotAfter
		f.Cause = "the newest certificate of this device has expired and it has not asked for another"
		f.Fix = "see whether the device is still in use and still has the profile; if so, have it synchronise"
		s.found(f, nil)
	case s.now.After(due):
		f := of(RenewalLate, Info, e)
		f.Since, f.Until = due, cert.NotAfter
		f.Cause = fmt.Sprintf("less than %.0f %% of the life of this device's newest certificate is left and it has not asked for another", s.r.RenewalShare*100)
		f.Fix = "nothing yet: devices renew when they next see their management; watch for those that expire"
		s.found(f, nil)
	}
}

var oidAltNames = asn1.ObjectIdentifier{2, 5, 29, 17}

// altNames is the subjectAltName as it is in the certificate. The journal's
// digest of names will not do: a renewal's has the old certificate in it.
func altNames(cert *x509.Certificate) []byte {
	for _, x := range cert.Extensions {
		if x.Id.Equal(oidAltNames) {
			return x.Value
		}
	}
	return nil
}

// digest is a 64-bit name for some texts: among a million the chance that any
// two share one is one in thirty million.
func digest(texts ...string) uint64 {
	var b bytes.Buffer
	for _, t := range texts {
		b.Write(binary.AppendUvarint(nil, uint64(len(t))))
		io.WriteString(&b, t)
	}
	sum := sha256.Sum256(b.Bytes())
	return binary.BigEndian.Uint64(sum[:])
}
