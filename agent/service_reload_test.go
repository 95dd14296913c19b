package agent_test

import (
	"bytes"
	"context"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/agent/control"
	"github.com/certconnector/certconnector/installer/firstrun"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// reloadable is a service whose configuration a test changes while it runs.
type reloadable struct {
	*service
	svc   *agent.Service
	logs  *observer.ObservedLogs
	level zap.AtomicLevel

	mu   sync.Mutex
	file agent.Config // what the file holds now
	err  error        // reading it fails, when set
	then func()       // what happens when it is read, unless nil
}

// startReloadable runs a service as the program does.
func startReloadable(t *testing.T, s *service) *reloadable {
	t.Helper()
	return startReloadableWith(t, s, agent.Options{}, 0)
}

// startReloadableWith takes a retirement other than the usual one, if not 0.
func startReloadableWith(t *testing.T, s *service, o agent.Options, retirement time.Duration) *reloadable {
	t.Helper()
	r := &reloadable{service: s, file: s.cfg, level: zap.NewAtomicLevelAt(zapcore.InfoLevel)}
	core, logs := observer.New(r.level)
	r.logs = logs
	ready := make(chan struct{})
	o.Logger, o.Ready = zap.New(core), func() { close(ready) }
	svc, err := agent.NewService(s.cfg, o, agent.ReloadOptions{Load: r.load, Level: &r.level})
	if err != nil {
		t.Fatal(err)
	}
	if retirement != 0 {
		svc.SetRetirement(retirement)
	}
	r.svc = svc
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- svc.Run(ctx) }()
	s.stop = sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { _ = s.stop() })
	select {
	case <-ready:
	case err := <-ended:
		t.Fatalf("the service ended: %v", err)
	}
	return r
}

func (r *reloadable) load() (agent.Config, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.then != nil {
		r.then()
	}
	return r.file, r.err
}

// edit changes the file. Lists are the caller's to copy.
func (r *reloadable) edit(change func(*agent.Config)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.file.Listeners, r.file.Endpoints = slices.Clone(r.file.Listeners), slices.Clone(r.file.Endpoints)
	change(&r.file)
}

// reload has the file applied, which must succeed.
func (r *reloadable) reload() control.Reload {
	r.t.Helper()
	done, err := r.svc.Reload(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	if !done.Applied {
		r.t.Fatalf("refused: %q", done.Mistakes)
	}
	return done
}

// refused has the file looked at, which must be refused.
func (r *reloadable) refused() control.Reload {
	r.t.Helper()
	done, err := r.svc.Reload(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	if done.Applied || len(done.Mistakes) == 0 {
		r.t.Fatalf("the file was applied: %+v", done)
	}
	return done
}

// enrol is one device from GetCACaps to its certificate.
func (r *reloadable) enrol(c *scepclient.Client, key int, cn string) error {
	reply, err := c.Enroll(context.Background(), scepclient.EnrollRequest{
		Key: testkeys.RSA2048(key % 8), CSR: scepclient.CSR{Subject: pkix.Name{CommonName: cn}, Challenge: r.challenge()},
	})
	switch {
	case err != nil:
		return err
	case reply.Status != scep.Success:
		return fmt.Errorf("%v %v", reply.Status, reply.FailInfo)
	}
	return nil
}

// kept is a transport that counts connections which the service has ended. The
// client may end some itself: it does when it hears of the answer before its
// own goroutine has told that the question was written.
type kept struct {
	*http.Transport
	ended *atomic.Int64
}

func newKept(ended *atomic.Int64) *kept {
	dialer := &net.Dialer{}
	return &kept{ended: ended, Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dialer.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &keptConn{Conn: c, ended: ended}, nil
	}}}
}

func (k *kept) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := k.Transport.RoundTrip(r)
	if err == nil && resp.Close { // "Connection: close"
		k.ended.Add(1)
	}
	return resp, err
}

type keptConn struct {
	net.Conn
	ended  *atomic.Int64
	closed atomic.Bool // by us
}

func (c *keptConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil && !c.closed.Load() {
		c.ended.Add(1)
	}
	return n, err
}

func (c *keptConn) Close() error {
	c.closed.Store(true)
	return c.Conn.Close()
}

// Devices enrol while the configuration is read again and again: each gets its
// certificate, and no connection is ended.
func TestReloadUnderLoadCostsNobodyAnything(t *testing.T) {
	r := startReloadable(t, install(t, firstrun.Options{Policy: firstrun.PolicyStatic}))
	var devices sync.WaitGroup
	var enrolled, ended atomic.Int64
	ctx, stop := context.WithCancel(t.Context())
	for i := range 4 {
		devices.Go(func() {
			transport := newKept(&ended)
			defer transport.CloseIdleConnections()
			c := r.device("linux")
			c.HTTP = &http.Client{Transport: transport}
			for n := 0; ctx.Err() == nil; n++ {
				if err := r.enrol(c, i, fmt.Sprintf("device-%d-%d.example", i, n)); err != nil {
					t.Errorf("device %d, enrolment %d: %v", i, n, err)
					return
				}
				enrolled.Add(1)
			}
		})
	}
	for n := range 12 {
		r.edit(func(c *agent.Config) {
			c.Endpoints[0].AnswerWithin = time.Duration(20+n) * time.Second
			c.Limits.FailuresPerMinute = 60 + n
		})
		before := enrolled.Load()
		r.reload()
		for enrolled.Load() < before+4 && ctx.Err() == nil && !t.Failed() { // under each configuration somebody is served
			time.Sleep(time.Millisecond)
		}
	}
	stop()
	devices.Wait()
	if n := ended.Load(); n != 0 {
		t.Errorf("the service ended %d connections", n)
	}
	r.mustStop()
}

func TestReloadAppliesWhatChanged(t *testing.T) {
	s := install(t, firstrun.Options{Policy: firstrun.PolicyStatic})
	second := s.cfg.Endpoints[0]
	second.Name, second.Path = "second", "/scep/second"
	second.Limits.Held = 5
	r := startReloadable(t, s)
	devices := r.device("linux")
	added := freePort(t)
	r.edit(func(c *agent.Config) {
		c.Endpoints = append(c.Endpoints, second)
		c.Listeners = append(c.Listeners, agent.Listener{Name: "more", Address: added, Faces: []string{agent.FaceSCEP, agent.FaceStatus}, PlainHTTP: true})
		c.Endpoints[0].Allow.Subject = []string{"CN=*.corp.example"}
		c.Log.Level = "debug"
	})
	done := r.reload()
	if want := []string{"listeners[1] (added)", "endpoints[0].allow.subject", "endpoints[1] (added)", "log.level"}; !slices.Equal(done.Changed, want) || done.Restart != nil {
		t.Errorf("changed: %q, restart: %q", done.Changed, done.Restart)
	}
	if err := r.enrol(devices, 0, "phone.other.example"); err == nil || !strings.Contains(err.Error(), "FAILURE") {
		t.Errorf("a subject that is not allowed any more: %v", err)
	}
	if err := r.enrol(devices, 0, "phone.corp.example"); err != nil {
		t.Error(err)
	}
	other := r.device("linux")
	other.URL = "http://" + added + second.Path
	if err := r.enrol(other, 1, "phone.other.example"); err != nil {
		t.Errorf("a new endpoint at a new listener: %v", err)
	}
	if r.level.Level() != zapcore.DebugLevel {
		t.Error("the log's level did not change")
	}
	if code, _ := page(t, "http://"+added+"/readyz"); code != http.StatusOK {
		t.Errorf("readyz: HTTP %d", code)
	}

	r.edit(func(c *agent.Config) {
		c.Endpoints, c.Listeners, c.Log.Level = c.Endpoints[:1], c.Listeners[:1], "info"
	})
	if done := r.reload(); !slices.Contains(done.Changed, "endpoints[1] (removed)") || !slices.Contains(done.Changed, "listeners[1] (removed)") {
		t.Errorf("changed: %q", done.Changed)
	}
	if code, _ := page(t, strings.TrimSuffix(r.url, s.cfg.Endpoints[0].Path)+second.Path); code != http.StatusNotFound {
		t.Errorf("an endpoint that is gone answers HTTP %d", code)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		c, err := net.Dial("tcp", added)
		if err != nil {
			break
		}
		_ = c.Close()
		if time.Now().After(deadline) {
			t.Fatal("a listener that is gone accepts connections")
		}
	}
	r.mustStop()
}

// A bad file changes nothing: not even what of it is right.
func TestRefusedReloadChangesNothing(t *testing.T) {
	s := install(t, firstrun.Options{Policy: firstrun.PolicyStatic})
	status := s.withStatus()
	r := startReloadable(t, s)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	good := r.file
	for _, row := range []struct {
		name   string
		change func(*agent.Config)
		says   string
	}{
		{"a value that is wrong", func(c *agent.Config) { c.ShutdownGrace = -1 }, "shutdown_grace"},
		{"a file that is missing", func(c *agent.Config) { c.Endpoints[0].RA.Signing.Certificate = "missing.pem" }, "missing.pem"},
		{"a port that is taken", func(c *agent.Config) {
			c.Listeners = append(c.Listeners, agent.Listener{Name: "taken", Address: taken.Addr().String(), Faces: []string{agent.FaceSCEP}, PlainHTTP: true})
		}, "address already in use"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r.file = good
			r.edit(row.change)
			r.edit(func(c *agent.Config) { c.Endpoints[0].Allow.Subject = []string{"CN=nobody"}; c.Log.Level = "debug" })
			r.err = r.file.Validate()
			done := r.refused()
			if !strings.Contains(strings.Join(done.Mistakes, "\n"), row.says) {
				t.Errorf("mistakes: %q", done.Mistakes)
			}
			if err := r.enrol(r.device("linux"), 0, "phone.example"); err != nil {
				t.Errorf("with the configuration before: %v", err)
			}
			if r.level.Level() != zapcore.InfoLevel {
				t.Error("the log's level changed")
			}
			if r.logs.FilterMessageSnippet("configuration was refused").Len() == 0 {
				t.Error("the log does not say so")
			}
			st, err := r.svc.Agent().Status(t.Context())
			if err != nil || !st.Ready || !strings.Contains(strings.Join(st.Warnings, "\n"), "the file was refused") || st.Reload == nil || st.Reload.Applied {
				t.Errorf("status %+v, %v", st, err)
			}
			if code, text := page(t, status+"/readyz?verbose"); code != http.StatusOK || !strings.Contains(text, "configuration: the file was refused on") {
				t.Errorf("HTTP %d, %s", code, text)
			}
			_, text := page(t, status+"/metrics")
			wantValue(t, text, "certconnector_config_last_reload_successful", is(0))
			wantValue(t, text, "certconnector_config_last_reload_success_timestamp_seconds", recent)
		})
	}
	r.file, r.err = good, nil
	r.reload()
	_, text := page(t, status+"/metrics")
	wantValue(t, text, "certconnector_config_last_reload_successful", is(1))
	if _, text := page(t, status+"/readyz?verbose"); !strings.Contains(text, "configuration: ok") {
		t.Error(text)
	}
	r.mustStop()
}

// What only a restart can change is named and keeps its value; the rest applies.
func TestReloadNamesWhatNeedsARestart(t *testing.T) {
	s := install(t, firstrun.Options{Policy: firstrun.PolicyStatic})
	r := startReloadable(t, s)
	elsewhere := t.TempDir()
	r.edit(func(c *agent.Config) {
		c.StateDir = elsewhere
		c.Journal.SQLite = &agent.SQLite{Path: filepath.Join(elsewhere, "journal.db"), Witness: c.Journal.SQLite.Witness}
		c.Secrets.LocalKey = filepath.Join(elsewhere, "none.key")
		c.Limits.IdleTimeout = time.Second
		c.Endpoints[0].Allow.Subject = []string{"CN=*.corp.example"}
	})
	done := r.reload()
	if want := []string{"state_dir", "journal.sqlite.path", "secrets.local_key", "limits.idle_timeout"}; !slices.Equal(done.Restart, want) {
		t.Errorf("restart: %q", done.Restart)
	}
	if want := []string{"endpoints[0].allow.subject"}; !slices.Equal(done.Changed, want) {
		t.Errorf("changed: %q", done.Changed)
	}
	if left, err := os.ReadDir(elsewhere); err != nil || len(left) > 0 {
		t.Errorf("%v, %v stand in the new folder", left, err)
	}
	st, err := r.svc.Agent().Status(t.Context())
	if err != nil || !strings.Contains(strings.Join(st.Warnings, "\n"), "applies after a restart only: state_dir, journal.sqlite.path") {
		t.Errorf("%+v, %v", st.Warnings, err)
	}
	if err := r.enrol(r.device("linux"), 0, "phone.corp.example"); err != nil {
		t.Error(err)
	}
	// Another key in the same file would seal what nobody could open.
	r.edit(func(c *agent.Config) { *c = s.cfg })
	if err := os.Rename(s.cfg.Secrets.LocalKey, s.cfg.Secrets.LocalKey+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.cfg.Secrets.LocalKey, bytes.Repeat([]byte{7}, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	if done := r.reload(); !slices.Equal(done.Restart, []string{"secrets.local_key"}) {
		t.Errorf("restart: %q", done.Restart)
	}
	r.mustStop()
}
