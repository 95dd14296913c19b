package agent_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/agent/control"
	"github.com/certconnector/certconnector/agent/journal/journaltest"
	"github.com/certconnector/certconnector/agent/journal/sqlite"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
)

// TestOneOfTwoPolls runs two agents over one store, as two machines over one
// database. One asks the tenant; when it stops, the other does so within the
// lead's term; and what the cloud wants revoked is revoked once.
func TestOneOfTwoPolls(t *testing.T) {
	first, cloud := installIntune(t)
	store, err := sqlite.Open(first.cfg.Journal.SQLite.Path, sqlite.Options{Witness: first.cfg.Journal.SQLite.Witness})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	var revocation agent.Revocation
	revocation.SetDefaults()
	revocation.Interval = time.Second
	first.cfg.Tenants[0].Revocation = &revocation
	shared := journaltest.Shared(store)

	// The second machine: the same configuration, a state folder of its own.
	second := &service{t: t, cfg: first.cfg}
	second.cfg.Listeners = slices.Clone(first.cfg.Listeners)
	second.cfg.Listeners[0].Address = freePort(t)
	second.cfg.StateDir = t.TempDir()
	second.cfg.Control.Socket = filepath.Join(shortFolder(t), "c.sock")
	for _, s := range []*service{first, second} {
		s.startWith(agent.Options{Logger: zap.NewNop(), Store: shared.View()})
	}
	var serials []string
	for i, platform := range []string{"windows", "ios", "macos"} {
		if reply := first.enrolIntune(cloud, platform, testkeys.RSA2048(i)); reply.Status != scep.Success {
			t.Fatalf("%s: %v", platform, reply.Status)
		}
		serials = append(serials, cloud.Notifications()[i].SerialNumber)
	}
	revoke := func(i int, s *service) {
		t.Helper()
		if _, err := cloud.Revoke(intunetest.ContosoID, serials[i], ""); err != nil {
			t.Fatal(err)
		}
		s.awaitDone(i + 1)
	}
	revoke(0, second)
	leader, other := first, second
	if first.leader() == second.instance() {
		leader, other = second, first
	}
	// One that asks at most once a second needs three seconds for three more
	// intervals; two of them would be done in half of it.
	began, until := time.Now(), cloud.Count(intunetest.Download)+4
	for cloud.Count(intunetest.Download) < until && time.Since(began) < patience {
		time.Sleep(10 * time.Millisecond)
	}
	if took := time.Since(began); took < 3*revocation.Interval || took > patience {
		t.Errorf("the tenant was asked four times within %v, want one question a second", took)
	}
	if other.leader() != leader.instance() {
		t.Errorf("the lead went to %q while %q had it", other.leader(), leader.instance())
	}
	leader.mustStop()
	revoke(1, other)
	if other.leader() != other.instance() {
		t.Errorf("%q leads after its end, want %q", other.leader(), other.instance())
	}
	revoke(2, other)
	for _, r := range cloud.Revocations() {
		if r.Deliveries != 1 || r.Results != 1 || r.Code != 0 {
			t.Errorf("serial %s was handed out %d times and answered %d times, code %d", r.SerialNumber, r.Deliveries, r.Results, r.Code)
		}
	}
	if c := cloud.Contradictions(); len(c) > 0 {
		t.Errorf("contradictions: %+v", c)
	}
	other.mustStop()
}

// instance is by what name the service is known to the others.
func (s *service) instance() string {
	s.t.Helper()
	b, err := os.ReadFile(filepath.Join(s.cfg.StateDir, "instance"))
	if err != nil {
		s.t.Fatal(err)
	}
	host, err := os.Hostname()
	if err != nil {
		s.t.Fatal(err)
	}
	return host + "/" + string(b)
}

// leader is who asks the tenant at present.
func (s *service) leader() string {
	s.t.Helper()
	sources, err := s.running.Sources(s.t.Context())
	if err != nil || len(sources) != 1 {
		s.t.Fatalf("sources = %+v, %v", sources, err)
	}
	return sources[0].Leader
}

// awaitDone waits until n jobs are over.
func (s *service) awaitDone(n int) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		list, err := s.running.Jobs(s.t.Context(), control.JobFilter{States: []string{"over"}})
		if err != nil {
			s.t.Fatal(err)
		}
		if len(list) == n {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%d of %d jobs are over: %+v", len(list), n, list)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
