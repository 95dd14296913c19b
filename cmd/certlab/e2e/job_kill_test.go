//go:build e2e

package e2e

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"path/filepath"
	"testing"
)

// silent is the log of a server whose clients die.
var silent = log.New(io.Discard, "", 0)

// pair loads a certificate and its key that neighbours wrote.
func pair(t *testing.T, dir, name string) tls.Certificate {
	t.Helper()
	p, err := tls.LoadX509KeyPair(filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// belongs tells whether a private key is that of a certificate.
func belongs(key any, cert *x509.Certificate) bool {
	signer, ok := key.(crypto.Signer)
	if !ok {
		return false
	}
	public, ok := signer.Public().(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(cert.PublicKey)
}

// deathsOfIssuance are the places in the path of an issuance job where the
// power may fail, and the certificates that the CA has issued by then.
var deathsOfIssuance = []struct {
	at      string
	nothing bool // nothing is accepted yet
	issued  int  // at least
	twice   bool // the queue may be told twice
}{
	{at: "jobs.downloaded", nothing: true},
	{at: "jobs.accepted"},
	{at: "jobs.issue.saved"},
	{at: "jobs.issue.saved:2"},
	{at: "jobs.issue.issued", issued: 1},
	{at: "jobs.finished"},
	{at: "jobs.finished:3", issued: 1},
	{at: "jobs.issue.finished"},
	{at: "jobs.uploaded", twice: true},
}

// TestIssuanceDeathAtEachStep kills the connector at each step, starts it
// again, and reconciles: one certificate for each job, whose key its recipient
// has, or none that is good.
func TestIssuanceDeathAtEachStep(t *testing.T) {
	for _, d := range deathsOfIssuance {
		t.Run(d.at, func(t *testing.T) {
			s := newIssuing(t)
			s.add(8)
			s.add(1)
			s.add(2)
			for i := range 3 {
				s.wrongly(3 + i)
			}
			s.dieAt(t, d.at)
			book := newLedger(s.world)
			if left := book.look(s.told); (len(left) == 0) != d.nothing {
				t.Errorf("the journal has %d jobs", len(left))
			}
			if n := len(s.certificates()); n < d.issued {
				t.Errorf("%d certificates are issued, want %d or more", n, d.issued)
			}
			if told := len(s.queue.Results()) > 0; told != d.twice {
				t.Errorf("the queue was told already: %t, want %t", told, d.twice)
			}
			s.start()
			jobs := book.await(s.told, s.answered)
			most := 1
			if d.twice {
				most = 2
			}
			s.reconcileIssuance(jobs, most)
		})
	}
}

// TestRefusedResultIsRevoked has the queue refuse a result for good: its
// certificate is revoked, also when the connector dies after the result was
// recorded.
func TestRefusedResultIsRevoked(t *testing.T) {
	for _, at := range []string{"alive", "jobs.finished", "jobs.issue.finished", "jobs.revoked"} {
		t.Run(at, func(t *testing.T) {
			s := newIssuing(t)
			s.refuse(1)
			s.add(2)
			book := newLedger(s.world)
			if at != "alive" {
				s.dieAt(t, at)
				book.look(s.told)
			}
			s.start()
			jobs := book.await(s.told, func() bool { return s.answered() && s.revoked(1) })
			most := 1
			if at == "jobs.revoked" { // it dies while the other result is being settled, or just before
				most = 2
			}
			s.reconcileIssuance(jobs, most)
		})
	}
}

// revoked tells whether so many certificates are.
func (s *issuing) revoked(n int) bool { return len(s.revokedAt()) == n }

// TestRandomKillsOfIssuance kills the connector 200 times while a queue wants
// certificates, at moments that a printed seed repeats (E2E_SEED), and
// reconciles afterwards.
func TestRandomKillsOfIssuance(t *testing.T) {
	s := newIssuing(t)
	next, refused := 0, 0
	book := newLedger(s.world)
	done := book.storm(kills, s.told, func(i int) {
		for range 2 + i%2 {
			switch next++; {
			case next%9 == 0:
				s.refuse(next)
				refused++
			case next%7 == 0:
				s.wrongly(next)
			default:
				s.add(next)
			}
		}
		if i%10 == 5 { // whatever is not answered comes once more
			s.queue.Offer()
		}
	})
	during := counted(book.seen, "issuance/", func(r jobRow) bool { return r.succeeded })
	s.resume()
	jobs := book.await(s.told, func() bool { return s.answered() && s.revoked(refused) })
	t.Logf("%d certificates issued while kills went on", during)
	if during < done/underLoad || book.busy < someBusy || refused < done/underLoad {
		t.Errorf("%d certificates during the kills, %d kills under way, %d refused: the load was no load", during, book.busy, refused)
	}
	s.reconcileIssuance(jobs, kills)
}
