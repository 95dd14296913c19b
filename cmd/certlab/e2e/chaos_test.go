//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

const (
	kills       = 200
	killsOfTwo  = 60
	chaosActors = 4

	// chaosLimit ends the kills of a test that hangs: one takes half a second, and
	// 3 s on a machine where a start does.
	chaosLimit = 10 * time.Minute

	// What shows that kills met a load, on a slow machine too: one end of work for
	// so many kills; and, on a quick one, where most work is done before the next
	// kill, so many kills with work under way.
	underLoad = 10
	someBusy  = 5
)

// TestRandomKills kills the connector 200 times while devices enrol, at
// moments that a printed seed repeats (E2E_SEED), and reconciles afterwards.
func TestRandomKills(t *testing.T) {
	w := newWorld(t)
	w.chaos(kills, func(*rand.Rand) { w.kill() })
}

// TestRandomKillsOfTwo does so with two connectors, of which the one, the
// other or both die.
func TestRandomKillsOfTwo(t *testing.T) {
	w := newWorldOf(t, true)
	w.chaos(killsOfTwo, func(random *rand.Rand) {
		victims := 1 + random.IntN(3)
		if victims&1 != 0 {
			w.kill()
		}
		if victims&2 != 0 {
			w.back.kill()
		}
	})
}

// chaos has devices enrol while strike kills, n times.
func (w *world) chaos(n int, strike func(*rand.Rand)) {
	t := w.t
	t.Helper()
	random := seeded(t)
	c := &chaos{world: w, stop: make(chan struct{}), end: make(chan struct{}), delivered: map[string]string{}}
	service := c.learn()
	var actors sync.WaitGroup
	for i := range chaosActors {
		actors.Go(func() { c.act(i, service) })
	}
	deadline := time.Now().Add(chaosLimit)
	alive, done := w.resumeFor(random), 0
	for ; done < n && time.Now().Before(deadline); done++ {
		time.Sleep(alive)
		strike(random)
		dead := time.Now()
		alive = w.resumeFor(random)
		c.outages = append(c.outages, outage{dead, time.Now()})
	}
	close(c.stop)
	// What was not taken, or not issued, is tried again within 72 s (a minute and
	// a fifth, agent/outbox and agent/enroll).
	time.AfterFunc(patience, func() { close(c.end) })
	actors.Wait()
	all(t, done, n)
	c.settle()
	t.Logf("%d kills, %d certificates delivered and %d without the cloud, %d issued, %d notifications", done, len(c.delivered), len(c.untold), len(w.certificates()), len(w.cloud.Notifications()))
	if len(c.delivered) < done/underLoad {
		t.Errorf("only %d certificates were delivered: the load was no load", len(c.delivered))
	}
	w.reconcile(c.delivered, true)
	c.checkRepeats()
	c.checkUntold()
}

// seeded prints the seed of what comes.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("E2E_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("E2E_SEED: %v", err)
		}
	}
	t.Logf("E2E_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// all wants all kills.
func all(t *testing.T, done, n int) {
	t.Helper()
	if done < n {
		t.Errorf("only %d of %d kills within %v", done, n, chaosLimit)
	}
}

// resumeFor starts whatever does not run, and returns how long it is to live: up
// to 0.3 s, and longer where a start takes longer, so that on every machine some
// enrolments come to their end and others do not.
func (w *world) resumeFor(random *rand.Rand) time.Duration {
	w.t.Helper()
	began := time.Now()
	w.resume()
	most := max(300*time.Millisecond, time.Since(began))
	return 5*time.Millisecond + time.Duration(random.Float64()*float64(most))
}

// resume starts whatever does not run.
func (w *world) resume() {
	w.t.Helper()
	if w.back != nil && w.back.running == nil {
		w.back.start(built.release)
	}
	if w.running == nil {
		w.start()
	}
}

// chaos is the load while connectors are killed.
type chaos struct {
	*world
	stop chan struct{} // closed after the last kill
	end  chan struct{} // closed when every device must have its answer

	outages []outage

	mu        sync.Mutex
	delivered map[string]string // transaction ID → serial
	untold    []string          // serials delivered where no cloud is told
	errs      []error
}

// outage is from a kill until the next process answers.
type outage struct{ from, until time.Time }

// learn asks for capabilities and certificates once, in peace.
func (c *chaos) learn() *scepclient.Service {
	c.t.Helper()
	c.start()
	defer c.kill()
	s, err := c.device("windows", intunePath).Discover(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

// act is one device after the other, each of which repeats its message until
// it is answered for good.
func (c *chaos) act(i int, service *scepclient.Service) {
	for n := 0; ; n++ {
		select {
		case <-c.stop:
			return
		default:
		}
		key := testkeys.RSA2048((i + n*chaosActors) % 8)
		path, der := intunePath, []byte(nil)
		if i == 0 { // one in four does not need the cloud
			path, der = staticPath, c.staticCSR(fmt.Sprintf("static-%d", n), key, c.static)
		} else {
			ch, err := c.cloud.Challenge(intunetest.Ask{Platform: "windows"})
			if err != nil {
				c.fail(err)
				return
			}
			c.secret(ch.Challenge)
			if der, err = ch.CSR(key); err != nil {
				c.fail(err)
				return
			}
		}
		d := c.device("windows", path)
		tx, err := d.Prepare(c.t.Context(), scepclient.EnrollRequest{Key: key, DER: der, Service: service})
		if err != nil {
			c.fail(err)
			return
		}
		c.persist(d, tx, path == intunePath)
	}
}

// persist repeats a message until there is a final answer.
func (c *chaos) persist(d *scepclient.Client, tx *scepclient.Transaction, cloud bool) {
	for ; !c.overdue(); time.Sleep(10 * time.Millisecond) {
		ctx, cancel := short(c.t)
		r, err := d.Send(ctx, tx.Message)
		cancel()
		if err != nil || r.Status == scep.Pending {
			continue // dead, or not yet
		}
		if r.Status == scep.Failure {
			c.fail(fmt.Errorf("transaction %s: %s", tx.Message.TransactionID, describe(r)))
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if !cloud {
			c.untold = append(c.untold, serialText(r.Certificate))
			return
		}
		c.delivered[tx.Message.TransactionID] = serialText(r.Certificate)
		// The moment it is delivered, the cloud must know of it.
		for _, n := range c.cloud.Notifications() {
			if n.Success && n.SerialNumber == serialText(r.Certificate) {
				return
			}
		}
		c.errs = append(c.errs, fmt.Errorf("certificate %s left before the cloud was told", serialText(r.Certificate)))
		return
	}
	c.fail(errors.New("a device never got an answer"))
}

// overdue says that no device should still wait.
func (c *chaos) overdue() bool {
	select {
	case <-c.end:
		return true
	default:
		return false
	}
}

func (c *chaos) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.errs = append(c.errs, err)
}

// settle waits until nothing is open in the journal.
func (c *chaos) settle() {
	c.t.Helper()
	for _, err := range c.errs {
		c.t.Error(err)
	}
	eventually(c.t, "every entry is final", func() bool {
		for _, e := range c.entries() {
			if e.state < stateReleased {
				return false
			}
		}
		return true
	})
}

// checkRepeats wants a kill between any two notifications of one certificate:
// only a mark that did not reach the disk is a reason to tell again.
func (c *chaos) checkRepeats() {
	c.t.Helper()
	last, repeats := map[string]time.Time{}, 0
	for _, n := range c.cloud.Notifications() {
		if !n.Success {
			continue
		}
		if before, again := last[n.SerialNumber]; again {
			repeats++
			// What a dead process had sent may be taken after its death, but before
			// the next one answers.
			between := func(o outage) bool { return o.from.Before(n.Time) && o.until.After(before) }
			if !slices.ContainsFunc(c.outages, between) {
				c.t.Errorf("certificate %s was told of twice, and no kill explains it", n.SerialNumber)
			}
		}
		last[n.SerialNumber] = n.Time
	}
	c.t.Logf("%d notifications were repeated", repeats)
}

// checkUntold wants one certificate for each device of the static endpoint.
func (c *chaos) checkUntold() {
	c.t.Helper()
	names, serials := map[string]int{}, map[string]bool{}
	for _, cert := range c.certificates() {
		serials[cert.serial] = true
		if name := cert.Subject.CommonName; strings.HasPrefix(name, "static-") {
			if names[name]++; names[name] == 2 {
				c.t.Errorf("device %s has two certificates", name)
			}
		}
	}
	for _, serial := range c.untold {
		if !serials[serial] {
			c.t.Errorf("certificate %s was delivered and is in no register", serial)
		}
	}
}
