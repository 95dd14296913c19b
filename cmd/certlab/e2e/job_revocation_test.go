//go:build e2e

package e2e

import (
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// revoking is a world whose tenant is asked for revocations.
type revoking struct {
	*world
	wishes map[string]wish // by the cloud's context
}

// wish is what the cloud asks for and how that must end.
type wish struct {
	what   string
	serial string // of the certificate that is meant, if there is one
	end    intunetest.RevocationState
	code   int
}

// withCA skips a test that the world of two connectors has no place for.
func withCA(t *testing.T) {
	t.Helper()
	if splitAsked() {
		t.Skip("a connector with the credential and without a CA has nothing to revoke: its journal has no certificates")
	}
}

// askedEverySecond is a tenant's key.
const askedEverySecond = "    revocation: {interval: 1s, at_most_per_hour: 100000}\n"

// newRevoking makes such a world. The interval is one that only a custom cloud
// may have; the simulated cloud has no cool-down, and offers a request again
// at each question until it is answered.
func newRevoking(t *testing.T) *revoking {
	t.Helper()
	w := newWorldOf(t, false)
	w.edit(func(text string) string {
		for old, with := range map[string]string{
			"    ca_file: cloud.pem\n": "    ca_file: cloud.pem\n" + askedEverySecond,
			"    faces: [scep]\n":      "    faces: [scep, crl]\n",
		} {
			if strings.Count(text, old) != 1 {
				t.Fatalf("the configuration has not exactly one %q", old)
			}
			text = strings.Replace(text, old, with, 1)
		}
		return text
	})
	return &revoking{world: w, wishes: map[string]wish{}}
}

// stock enrols devices through the Intune endpoint of a connector that runs.
func (r *revoking) stock(n int) []*x509.Certificate {
	r.t.Helper()
	service, err := r.device("windows", intunePath).Discover(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	list := make([]*x509.Certificate, n)
	var all sync.WaitGroup
	for actor := range chaosActors {
		all.Go(func() {
			for i := actor; i < n; i += chaosActors {
				ch, err := r.cloud.Challenge(intunetest.Ask{Platform: "windows"})
				if err != nil {
					r.t.Error(err)
					return
				}
				r.secret(ch.Challenge)
				key := testkeys.RSA2048(i % 8)
				der, err := ch.CSR(key)
				if err != nil {
					r.t.Error(err)
					return
				}
				d := r.device("windows", intunePath)
				tx, err := d.Prepare(r.t.Context(), scepclient.EnrollRequest{Key: key, DER: der, Service: service})
				if err != nil {
					r.t.Error(err)
					return
				}
				for deadline := time.Now().Add(patience); list[i] == nil && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
					if reply, err := d.Send(r.t.Context(), tx.Message); err == nil && reply.Status == scep.Success {
						list[i] = reply.Certificate
					}
				}
			}
		})
	}
	all.Wait()
	if r.t.Failed() || slices.Contains(list, nil) {
		r.t.Fatal("not every device of the stock got its certificate")
	}
	return list
}

// unasked is a device of another endpoint and a stock, enrolled while the cloud
// is not asked: so the first question comes as soon as the connector starts,
// whatever the interval is then.
func (r *revoking) unasked(n int) (other *x509.Certificate, stock []*x509.Certificate) {
	r.t.Helper()
	r.edit(func(text string) string { return strings.Replace(text, askedEverySecond, "", 1) })
	r.start()
	_, _, other = r.holder(staticPath)
	stock = r.stock(n)
	r.stop()
	r.edit(func(text string) string {
		return strings.Replace(text, "    ca_file: cloud.pem\n", "    ca_file: cloud.pem\n"+askedEverySecond, 1)
	})
	return other, stock
}

// wanted has the cloud ask for a certificate that it was told of.
func (r *revoking) wanted(serial string) {
	r.t.Helper()
	q, err := r.cloud.Revoke(intunetest.ContosoID, serial, caName)
	if err != nil {
		r.t.Fatal(err)
	}
	r.wishes[q.Context] = wish{"as it was told", serial, intunetest.Revoked, 0}
}

func (r *revoking) inject(i intunetest.Injection, w wish) {
	r.t.Helper()
	list, err := r.cloud.Inject(intunetest.ContosoID, i)
	if err != nil {
		r.t.Fatal(err)
	}
	r.wishes[list[0].Context] = w
}

// oddly has the cloud ask for a certificate in one of the forms that were seen.
func (r *revoking) oddly(form int, serial string) {
	r.t.Helper()
	lower := strings.ToLower(serial)
	i := []intunetest.Injection{
		{SerialNumber: "0x" + lower, Issuer: r.root.Subject.String()},
		{SerialNumber: "0000" + serial, Issuer: r.root.Subject.CommonName},
		{SerialNumber: regexp.MustCompile("..").ReplaceAllString(lower, "$0:"), Issuer: `ca01.corp.example\` + strings.ToUpper(r.root.Subject.CommonName)},
		{SerialNumber: " " + serial, CAConfiguration: caName, Copies: 2},
		{SerialNumber: lower},
	}[form%5]
	i.SerialNumber = strings.TrimSuffix(i.SerialNumber, ":")
	r.inject(i, wish{fmt.Sprintf("serial %q of %q", i.SerialNumber, i.Issuer), serial, intunetest.Revoked, 0})
}

// wrongly has the cloud ask for what must not be done. others is the serial
// number of a certificate that was not issued for the tenant.
func (r *revoking) wrongly(form int, others string) {
	r.t.Helper()
	const notFound, invalid = 4004, 4002
	number := fmt.Sprintf("%032X", 1+form)
	switch form % 4 {
	case 0:
		r.inject(intunetest.Injection{SerialNumber: number, Issuer: "Somebody Else's CA"}, wish{"of a foreign CA", "", intunetest.RevocationDelivered, 0})
	case 1:
		r.inject(intunetest.Injection{SerialNumber: number, Issuer: caName}, wish{"never issued", "", intunetest.RevocationFailed, notFound})
	case 2:
		r.inject(intunetest.Injection{SerialNumber: "none", Issuer: caName}, wish{"no number", "", intunetest.RevocationFailed, invalid})
	case 3:
		r.inject(intunetest.Injection{SerialNumber: others, Issuer: caName}, wish{"of another endpoint", "", intunetest.RevocationFailed, notFound})
	}
}

// answered tells whether the cloud has the final word on each wish.
func (r *revoking) answered() bool {
	for _, q := range r.cloud.Revocations() {
		if w, ok := r.wishes[q.Context]; ok && w.end != intunetest.RevocationDelivered && q.Results == 0 {
			return false
		}
	}
	return true
}

// told is what the cloud knows now.
func (r *revoking) told() told {
	ends := map[string]intunetest.Revocation{}
	for _, q := range r.cloud.Revocations() {
		ends[q.Context] = q
	}
	return func(j jobRow) bool {
		q := ends[j.context]
		return q.Results > 0 && (q.State == intunetest.Revoked) == j.succeeded
	}
}

// listed are the serial numbers of the CA's list, as openssl reads it from the
// connector, which runs.
func (r *revoking) listed() []string {
	r.t.Helper()
	need(r.t, "openssl", "openssl")
	resp, err := http.Get(r.url("/crl/" + caName + ".crl"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	der, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		r.t.Fatalf("the list cannot be had: %s, %v", resp.Status, err)
	}
	dir := shortDir(r.t)
	writeFile(r.t, dir+"/list.crl", der)
	o := execute(r.t, dir, nil, "openssl", "crl", "-inform", "DER", "-in", "list.crl", "-noout", "-text", "-CAfile", r.path("ca/ca.crt.pem"))
	if o.err != nil || !strings.Contains(o.stdout+o.stderr, "verify OK") {
		r.t.Fatalf("openssl does not verify the list: %v\n%s", o.err, o.stderr)
	}
	var list []string
	for _, m := range regexp.MustCompile(`(?m)^ +Serial Number: ([0-9A-F]+)$`).FindAllStringSubmatch(o.stdout, -1) {
		list = append(list, m[1])
	}
	slices.Sort(list)
	return list
}

// awaitListed waits for a list with these serial numbers: one is made within
// two seconds of a revocation.
func (r *revoking) awaitListed(want []string) {
	r.t.Helper()
	var list []string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(500 * time.Millisecond) {
		if list = r.listed(); slices.Equal(list, want) {
			return
		}
	}
	r.t.Errorf("openssl reads %d serial numbers in the list, want these %d: %q", len(list), len(want), want)
}

// reconcileRevocations compares what the cloud wished and heard, what the
// journal has, what the CA's register has, and the list that others read. The
// connector runs, and nothing is open. most is how often the cloud may have
// heard of one request.
func (r *revoking) reconcileRevocations(jobs map[[2]string]jobRow, most int) {
	t := r.t
	t.Helper()
	if list := r.cloud.Contradictions(); len(list) != 0 {
		t.Errorf("the cloud heard two fates: %+v", list)
	}
	asked := map[string]bool{}
	seen, repeated := 0, 0
	for _, q := range r.cloud.Revocations() {
		w, known := r.wishes[q.Context]
		if !known {
			t.Errorf("nobody wished for %+v", q)
			continue
		}
		seen++
		row, accepted := jobs[[2]string{"revocations/intune", q.Context}]
		switch {
		case q.State != w.end || q.Code != w.code:
			t.Errorf("%s: the cloud has %s with code %d (%s), want %s with %d", w.what, q.State, q.Code, q.Message, w.end, w.code)
		case !accepted:
			t.Errorf("%s: the journal does not know it", w.what)
		case w.end == intunetest.RevocationDelivered: // taken up again at each question, and left to others each time
			if q.Results != 0 || row.done && !row.unanswered {
				t.Errorf("%s: the cloud heard of it %d times; the journal has %v", w.what, q.Results, row)
			}
		case row.unanswered || row.succeeded != (w.end == intunetest.Revoked) || row.code != int64(q.Code):
			t.Errorf("%s: the cloud has %s with code %d, the journal %v", w.what, q.State, q.Code, row)
		case w.serial != "" && row.serial != w.serial:
			t.Errorf("%s: want %s revoked, the journal says %s", w.what, w.serial, row.serial)
		case q.Results == 0 || q.Results > most:
			t.Errorf("%s: the cloud heard of it %d times, at most %d are right", w.what, q.Results, most)
		}
		if q.Results > 1 {
			repeated++
		}
		if w.end == intunetest.Revoked {
			asked[w.serial] = true
		}
	}
	if seen != len(r.wishes) || counted(jobs, "revocations/", func(jobRow) bool { return true }) != seen {
		t.Errorf("%d wishes, %d requests of the cloud, %d jobs", len(r.wishes), seen, len(jobs))
	}
	for _, c := range r.certificates() {
		if c.revoked != asked[c.serial] {
			t.Errorf("certificate %s: revoked %t, asked for %t", c.serial, c.revoked, asked[c.serial])
		}
	}
	r.awaitListed(slices.Sorted(maps.Keys(asked)))
	t.Logf("%d requests, %d certificates revoked, %d results told again", seen, len(asked), repeated)
}

// deathsOfRevocations are the places in the path of a revocation where the
// power may fail. A number after the colon has it fail at that one.
var deathsOfRevocations = []struct {
	at      string
	twice   bool // the cloud may be told twice
	nothing bool // nothing is accepted yet
	revoked int  // certificates that are revoked when it dies
}{
	{at: "jobs.downloaded", nothing: true},
	{at: "jobs.accepted"},
	{at: "jobs.revoked", revoked: 1},
	{at: "jobs.revoked:2", revoked: 1}, // and perhaps two
	{at: "jobs.finished"},
	{at: "jobs.finished:3"},
	{at: "jobs.uploaded", twice: true},
}

// TestRevocationDeathAtEachStep kills the connector at each step, starts it
// again, and reconciles: every request has one end, which the cloud knows, and
// no certificate is revoked twice or without need.
func TestRevocationDeathAtEachStep(t *testing.T) {
	withCA(t)
	for _, d := range deathsOfRevocations {
		t.Run(d.at, func(t *testing.T) {
			r := newRevoking(t)
			other, certs := r.unasked(5) // one of which stays as it is
			r.wanted(serialText(certs[0]))
			r.oddly(0, serialText(certs[1]))
			r.oddly(3, serialText(certs[2]))
			r.wanted(serialText(certs[3]))
			for form := range 4 {
				r.wrongly(form, serialText(other))
			}
			r.dieAt(t, d.at)
			book := newLedger(r.world)
			left, before := book.look(r.told), r.revokedAt()
			if (len(left) == 0) != d.nothing {
				t.Errorf("the journal has %d jobs", len(left))
			}
			if len(before) < d.revoked {
				t.Errorf("%d certificates are revoked, want %d or more", len(before), d.revoked)
			}
			if told := slices.ContainsFunc(r.cloud.Revocations(), func(q intunetest.Revocation) bool { return q.Results > 0 }); told != d.twice {
				t.Errorf("the cloud was told already: %t, want %t", told, d.twice)
			}
			r.start()
			jobs := book.await(r.told, r.answered)
			most := 1
			if d.twice {
				most = 2
			}
			r.reconcileRevocations(jobs, most)
			after := r.revokedAt()
			for serial, at := range before {
				if after[serial] != at {
					t.Errorf("%s was revoked at %s, and again at %s", serial, at, after[serial])
				}
			}
		})
	}
}

// TestRandomKillsOfRevocations kills the connector 200 times while devices
// enrol and the cloud wants certificates revoked, at moments that a printed
// seed repeats (E2E_SEED), and reconciles afterwards.
func TestRandomKillsOfRevocations(t *testing.T) {
	withCA(t)
	r := newRevoking(t)
	r.start()
	_, _, other := r.holder(staticPath)
	stock := r.stock(kills)
	r.stop()
	c := &chaos{world: r.world, stop: make(chan struct{}), end: make(chan struct{}), delivered: map[string]string{}}
	service := c.learn()
	var actor sync.WaitGroup
	actor.Go(func() { c.act(1, service) })
	book, fresh := newLedger(r.world), map[string]bool{}
	done := book.storm(kills, r.told, func(i int) {
		serial := serialText(stock[i])
		switch i % 4 {
		case 0, 1:
			r.wanted(serial)
		case 2:
			r.oddly(i/4, serial)
		case 3:
			r.wrongly(i/4, serialText(other)) // the device of the stock keeps its own
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, serial := range c.delivered { // wiped as soon as it has enrolled
			if !fresh[serial] && len(fresh)%5 != 0 {
				r.wanted(serial)
			}
			fresh[serial] = true
		}
	})
	during := counted(book.seen, "revocations/", func(r jobRow) bool { return r.succeeded })
	r.resume()
	close(c.stop)
	time.AfterFunc(patience, func() { close(c.end) })
	actor.Wait()
	for _, err := range c.errs {
		t.Error(err)
	}
	jobs := book.await(r.told, r.answered)
	t.Logf("%d certificates revoked while kills went on; %d devices enrolled meanwhile", during, len(c.delivered))
	if during < done/underLoad || book.busy < someBusy || len(fresh) < done/20 {
		t.Errorf("%d revocations during the kills, %d kills under way, %d fresh devices: the load was no load", during, book.busy, len(fresh))
	}
	r.reconcileRevocations(jobs, kills)
}
