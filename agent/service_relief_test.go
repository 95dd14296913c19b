package agent_test

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/agent/journal/sqlite"
	"github.com/certconnector/certconnector/installer/firstrun"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// hanging is a store of which one claim does not return until it is let go.
type hanging struct {
	agent.Store
	hang   atomic.Bool
	hung   chan struct{}
	letGo  chan struct{}
	claims atomic.Int64 // that were carried out
}

func (h *hanging) Claim(ctx context.Context, now time.Time, lease time.Duration, limit int) ([]journal.Claimed, error) {
	if h.hang.CompareAndSwap(true, false) {
		close(h.hung)
		<-h.letGo
	}
	h.claims.Add(1)
	return h.Store.Claim(ctx, now, lease, limit)
}

// startHanging runs a service of which a worker hangs. Whoever begins to care
// for own certificates says so once.
func startHanging(t *testing.T, retirement time.Duration) (r *reloadable, h *hanging, cared chan struct{}) {
	t.Helper()
	s := install(t, firstrun.Options{Policy: firstrun.PolicyStatic})
	store, err := sqlite.Open(s.cfg.Journal.SQLite.Path, sqlite.Options{Witness: s.cfg.Journal.SQLite.Witness})
	if err != nil {
		t.Fatal(err)
	}
	h = &hanging{Store: store, hung: make(chan struct{}), letGo: make(chan struct{})}
	cared = make(chan struct{}, 10)
	r = startReloadableWith(t, s, agent.Options{Store: h, Wait: waitsForTheEnd(cared)}, retirement)
	<-cared
	h.hang.Store(true)
	<-h.hung
	return r, h, cared
}

// waitsForTheEnd is a wait of one keeper until it is stopped.
func waitsForTheEnd(began chan<- struct{}) func(context.Context, time.Duration) error {
	return func(ctx context.Context, _ time.Duration) error {
		began <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}
}

// A worker that hangs must not keep the next Agent from caring for its own
// certificates and lists, and from its work only for a while.
func TestReloadDoesNotWaitForWorkThatHangs(t *testing.T) {
	t.Run("own certificates", func(t *testing.T) {
		r, h, cared := startHanging(t, time.Hour)
		before := h.claims.Load()
		r.reload()
		select {
		case <-cared:
		case <-time.After(patience):
			t.Error("nobody cares for own certificates")
		}
		if h.claims.Load() != before {
			t.Error("two did the same work")
		}
		close(h.letGo)
		h.claim(t)
		r.mustStop()
	})
	t.Run("work", func(t *testing.T) {
		const retirement = time.Second
		r, h, _ := startHanging(t, retirement)
		began := time.Now()
		r.reload()
		h.claim(t)
		if waited := time.Since(began); waited < retirement {
			t.Errorf("the new workers began after %v", waited)
		}
		if r.logs.FilterMessageSnippet("work of the configuration before has not ended").Len() != 1 {
			t.Error("the log does not say so")
		}
		close(h.letGo)
		r.mustStop()
	})
}

// claim waits for a claim after those that were there.
func (h *hanging) claim(t *testing.T) {
	t.Helper()
	before := h.claims.Load()
	for deadline := time.Now().Add(patience); h.claims.Load() == before; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the new workers do not begin")
		}
	}
}

// A listener that a reload has closed answers what it holds for as long as it
// takes; a stop that comes meanwhile has its own grace.
func TestReloadThatClosesAListenerDoesNotHoldUpAStop(t *testing.T) {
	s := install(t, firstrun.Options{Policy: firstrun.PolicyStatic})
	s.cfg.ShutdownGrace = time.Second
	s.cfg.Limits.ReadTimeout, s.cfg.Limits.WriteTimeout = time.Hour, time.Hour // as long as it takes
	extra := freePort(t)
	s.cfg.Listeners = append(slices.Clone(s.cfg.Listeners), agent.Listener{Name: "more", Address: extra, Faces: []string{agent.FaceSCEP}, PlainHTTP: true})
	r := startReloadable(t, s)
	c, err := net.Dial("tcp", extra)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// A request whose body does not come to its end.
	path := s.cfg.Endpoints[0].Path
	if _, err := io.WriteString(c, "POST "+path+"?operation=PKIOperation HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	goOn := make([]byte, len("HTTP/1.1 100"))
	if _, err := io.ReadFull(c, goOn); err != nil || string(goOn) != "HTTP/1.1 100" { // the body is being read
		t.Fatalf("got %q, %v", goOn, err)
	}
	r.edit(func(c *agent.Config) { c.Listeners = c.Listeners[:1] })
	r.reload()
	began := time.Now()
	_ = r.stop() // it may say that something was cut off
	if took := time.Since(began); took > patience {
		t.Errorf("the stop took %v", took)
	}
}

// A command that the old Agent carries out still may renew what the new one
// cares for: that one waits, and serves what was renewed.
func TestReloadReadsOwnCertificatesAfterOldCommands(t *testing.T) {
	cared := make(chan struct{}, 10)
	s := install(t, firstrun.Options{Policy: firstrun.PolicyStatic})
	r := startReloadableWith(t, s, agent.Options{Wait: waitsForTheEnd(cared)}, 0)
	recipient := func() *x509.Certificate {
		sent, err := r.device("linux").Prepare(t.Context(), scepclient.EnrollRequest{
			Key: testkeys.RSA2048(0), CSR: scepclient.CSR{Subject: pkix.Name{CommonName: "phone"}, Challenge: r.challenge()},
		})
		if err != nil {
			t.Fatal(err)
		}
		return sent.Service.Recipient
	}
	<-cared
	first := recipient()
	old, over := r.svc.Present()
	r.reload()
	select {
	case <-cared:
		t.Error("two care for own certificates")
	case <-time.After(300 * time.Millisecond):
	}
	if err := old.RenewCertificate(t.Context(), "endpoint "+s.cfg.Endpoints[0].Name); err != nil {
		t.Fatal(err)
	}
	over()
	<-cared
	if recipient().Equal(first) {
		t.Error("the renewed certificate is not served")
	}
	r.mustStop()
}
