package agent_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
)

// A source whose work is paused is told and takes nobody out of service:
// devices enrol all the same, and every instance has the same sources.
func TestPausedSourceLeavesUsReady(t *testing.T) {
	s, cloud := installIntune(t)
	url := s.withStatus()
	var revocation agent.Revocation
	revocation.SetDefaults()
	revocation.Interval, revocation.AtMostPerHour = time.Second, 1
	s.cfg.Tenants[0].Revocation = &revocation
	source := "revocations/" + s.cfg.Tenants[0].Name
	s.start()
	for i := range 2 {
		if reply := s.enrolIntune(cloud, "windows", testkeys.RSA2048(i)); reply.Status != scep.Success {
			t.Fatalf("%v", reply.Status)
		}
		if _, err := cloud.Revoke(intunetest.ContosoID, cloud.Notifications()[i].SerialNumber, ""); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			s.awaitDone(1)
		}
	}
	var text string
	for until := time.Now().Add(patience); !strings.Contains(text, "\njobs: source "+source+" is paused"); time.Sleep(50 * time.Millisecond) {
		if _, text = page(t, url+"/readyz?verbose"); time.Now().After(until) {
			t.Fatalf("the pause is not told in\n%s", text)
		}
	}
	if !strings.HasPrefix(text, "ready: ok\n") {
		t.Errorf("not ready:\n%s", text)
	}
	if code, text := page(t, url+"/readyz"); code != http.StatusOK {
		t.Errorf("HTTP %d\n%s", code, text)
	}
	st, err := s.running.Status(t.Context())
	if err != nil || !st.Ready || !slices.ContainsFunc(st.Warnings, func(w string) bool { return strings.Contains(w, source+" is paused") }) {
		t.Errorf("ready %v, warnings %q, error %v", st.Ready, st.Warnings, err)
	}
	_, text = page(t, url+"/metrics")
	wantValue(t, text, `certconnector_able{able="jobs"}`, is(0))
	wantValue(t, text, `certconnector_ready`, is(1))
	s.mustStop()
}
