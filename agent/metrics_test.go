package agent_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/installer/firstrun"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
)

// withStatus adds the listener of an operator and returns its address.
func (s *service) withStatus() (url string) {
	s.t.Helper()
	address := freePort(s.t)
	s.cfg.Listeners = append(s.cfg.Listeners, agent.Listener{
		Name: "admin", Address: address, Faces: []string{agent.FaceStatus}, PlainHTTP: true,
	})
	if err := s.cfg.Validate(); err != nil {
		s.t.Fatal(err)
	}
	return "http://" + address
}

func page(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// value is the value of a series; ok is false where there is none.
func value(text, series string) (v float64, ok bool) {
	for line := range strings.Lines(text) {
		if at := strings.LastIndexByte(strings.TrimSpace(line), ' '); at > 0 && line[:at] == series {
			v, err := strconv.ParseFloat(strings.TrimSpace(line[at:]), 64)
			return v, err == nil
		}
	}
	return 0, false
}

func wantValue(t *testing.T, text, series string, fits func(float64) bool) {
	t.Helper()
	switch v, ok := value(text, series); {
	case !ok:
		t.Errorf("no series %s", series)
	case !fits(v):
		t.Errorf("%s is %v", series, v)
	}
}

func is(want float64) func(float64) bool { return func(v float64) bool { return v == want } }
func atLeast(n float64) func(float64) bool {
	return func(v float64) bool { return v >= n }
}
func recent(v float64) bool { return time.Since(time.UnixMilli(int64(v*1000))) < time.Hour }

// A scrape after an enrolment shows it, from the device's message to the
// cloud's word.
func TestMetricsFollowAnEnrolment(t *testing.T) {
	s, cloud := installIntune(t)
	url := s.withStatus()
	endpoint, tenant, caName := s.cfg.Endpoints[0].Name, s.cfg.Tenants[0].Name, s.cfg.CAs[0].Name
	s.start()
	_, before := page(t, url+"/metrics")
	wantValue(t, before, fmt.Sprintf(`certconnector_outbox_deliveries_total{neighbour=%q,owed="success_notification",result="later"}`, endpoint), is(0))
	if reply := s.enrolIntune(cloud, "windows", testkeys.RSA2048(0)); reply.Status != scep.Success {
		t.Fatalf("%v", reply.Status)
	}
	if err := cloudRefuses(t, s, cloud); err != nil {
		t.Fatal(err)
	}
	code, text := page(t, url+"/metrics")
	if code != http.StatusOK {
		t.Fatalf("HTTP %d: %s", code, text)
	}
	names := strings.NewReplacer("ENDPOINT", endpoint, "TENANT", tenant, "ISSUER", caName)
	for series, fits := range map[string]func(float64) bool{
		`certconnector_scep_requests_total{endpoint="ENDPOINT",operation="PKIOperation",status="200"}`:           is(2),
		`certconnector_scep_replies_total{endpoint="ENDPOINT",message_type="PKCSReq",result="SUCCESS"}`:          is(1),
		`certconnector_scep_replies_total{endpoint="ENDPOINT",message_type="PKCSReq",result="badMessageCheck"}`:  is(1),
		`certconnector_scep_request_duration_seconds_count{endpoint="ENDPOINT",operation="PKIOperation"}`:        is(2),
		`certconnector_enroll_stages_total{endpoint="ENDPOINT",result="granted",stage="ask"}`:                    is(1),
		`certconnector_enroll_stages_total{endpoint="ENDPOINT",result="refused",stage="ask"}`:                    is(1),
		`certconnector_enroll_stages_total{endpoint="ENDPOINT",result="issued",stage="issue"}`:                   is(1),
		`certconnector_enroll_stages_total{endpoint="ENDPOINT",result="taken",stage="tell"}`:                     is(1),
		`certconnector_enroll_stage_duration_seconds_count{endpoint="ENDPOINT",stage="issue"}`:                   is(1),
		`certconnector_outbox_deliveries_total{neighbour="ENDPOINT",owed="success_notification",result="taken"}`: is(1),
		`certconnector_outbox_owed{owed="success_notification"}`:                                                 is(0),
		`certconnector_intune_calls_total{call="validateRequest",result="ok",tenant="TENANT"}`:                   is(2),
		`certconnector_intune_call_duration_seconds_count{call="token",tenant="TENANT"}`:                         atLeast(1),
		`certconnector_intune_last_success_timestamp_seconds{call="successNotification",tenant="TENANT"}`:        recent,
		`certconnector_ca_calls_total{ca="ISSUER",call="issue",result="ok"}`:                                     is(1),
		`certconnector_ca_last_answer_timestamp_seconds{ca="ISSUER",call="issue"}`:                               recent,
		`certconnector_admission_slots{gate="RA keys"}`:                                                          atLeast(1),
		`certconnector_admission_shed_total{gate="RA keys",reason="queue_full"}`:                                 is(0),
		`certconnector_able{able="validate"}`:                                                                    is(1),
		`certconnector_ready`:                                                                                    is(1),
		`certconnector_certificate_not_after_timestamp_seconds{kind="ra-signing",name="endpoint ENDPOINT"}`:      atLeast(float64(time.Now().Unix())),
	} {
		wantValue(t, text, names.Replace(series), fits)
	}
	found, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil || len(found) > 0 {
		t.Errorf("promlint: %v, %v", found, err)
	}
	if err := s.running.Revoke(t.Context(), caName, "01", ca.Superseded); err == nil {
		t.Error("a serial number that nobody has was revoked")
	}
	_, text = page(t, url+"/metrics")
	wantValue(t, text, fmt.Sprintf(`certconnector_ca_calls_total{ca=%q,call="revoke",result="not_found"}`, caName), is(1))
	s.mustStop()
}

// Strangers cannot make series.
func TestStrangeRequestsMakeNoSeries(t *testing.T) {
	s := install(t, firstrun.Options{Policy: firstrun.PolicyStatic})
	url := s.withStatus()
	s.start()
	if code, _ := page(t, s.url+"?operation=Nothing&message=x"); code == http.StatusServiceUnavailable {
		t.Fatal("not answered")
	}
	page(t, s.url+"/../elsewhere?operation=GetCACaps")
	_, text := page(t, url+"/metrics")
	count := func(text string) int { return strings.Count(text, "\ncertconnector_") }
	before := count(text)
	for i := range 1000 {
		page(t, fmt.Sprintf("%s?operation=Strange%d&message=%d", s.url, i, i))
	}
	_, text = page(t, url+"/metrics")
	if after := count(text); after != before {
		t.Errorf("%d series before and %d after", before, after)
	}
	// The folder of NDES answers a page to what it does not know.
	wantValue(t, text, fmt.Sprintf(`certconnector_scep_requests_total{endpoint=%q,operation="unknown",status="200"}`, s.cfg.Endpoints[0].Name), is(1001))
	s.mustStop()
}

// The cloud is down: devices cannot be vouched for, and that is told apart from
// the rest. The instance stays in service.
func TestVerboseReadinessOfACloudThatIsDown(t *testing.T) {
	s, cloud := installIntune(t)
	url := s.withStatus()
	tenant := s.cfg.Tenants[0].Name
	s.start()
	code, text := page(t, url+"/readyz?verbose")
	for _, line := range []string{"ready: ok", "validate: ok", "issue: ok", "notify: ok", "journal: ok", "certificates: ok", "jobs: ok",
		"last tenant " + tenant + " token: not since the start"} {
		if code != http.StatusOK || !strings.Contains("\n"+text, "\n"+line+"\n") {
			t.Errorf("no line %q in\n%s", line, text)
		}
	}
	if reply := s.enrolIntune(cloud, "windows", testkeys.RSA2048(0)); reply.Status != scep.Success {
		t.Fatalf("%v", reply.Status)
	}
	_, text = page(t, url+"/readyz?verbose")
	for _, call := range []string{"token", "discovery", "validateRequest", "successNotification"} {
		if !regexp.MustCompile(`(?m)^last tenant ` + tenant + ` ` + call + `: 20\d\d-`).MatchString(text) {
			t.Errorf("the last %s is not told in\n%s", call, text)
		}
	}
	cloud.Fail(intunetest.Validate, 100, intunetest.Fault{Status: http.StatusServiceUnavailable, RetryAfter: "120"})
	if err := cloudRefuses(t, s, cloud); err == nil {
		t.Fatal("a device was answered though the cloud is down")
	}
	code, text = page(t, url+"/readyz?verbose")
	if code != http.StatusOK || !strings.Contains(text, "\nvalidate: tenant "+tenant+": validateRequest: failed (HTTP 503) on 20") ||
		!strings.Contains(text, "\nissue: ok\nnotify: ok\n") {
		t.Errorf("HTTP %d\n%s", code, text)
	}
	if code, text = page(t, url+"/readyz"); code != http.StatusOK || text != "ok\n" {
		t.Errorf("plain: HTTP %d %q", code, text)
	}
	_, text = page(t, url+"/metrics")
	wantValue(t, text, `certconnector_able{able="validate"}`, is(0))
	wantValue(t, text, `certconnector_able{able="issue"}`, is(1))
	wantValue(t, text, fmt.Sprintf(`certconnector_intune_calls_total{call="validateRequest",result="failed",tenant=%q}`, tenant), atLeast(1))
	s.mustStop()
}

// A tenant that is asked for revocations, one that was revoked, and when.
func TestMetricsOfJobs(t *testing.T) {
	s, cloud := installIntune(t)
	url := s.withStatus()
	var revocation agent.Revocation
	revocation.SetDefaults()
	revocation.Interval = time.Second
	s.cfg.Tenants[0].Revocation = &revocation
	source, caName := "revocations/"+s.cfg.Tenants[0].Name, s.cfg.CAs[0].Name
	s.start()
	if reply := s.enrolIntune(cloud, "windows", testkeys.RSA2048(0)); reply.Status != scep.Success {
		t.Fatalf("%v", reply.Status)
	}
	if _, err := cloud.Revoke(intunetest.ContosoID, cloud.Notifications()[0].SerialNumber, ""); err != nil {
		t.Fatal(err)
	}
	s.awaitDone(1)
	_, text := page(t, url+"/metrics")
	for series, fits := range map[string]func(float64) bool{
		`certconnector_jobs_last_poll_timestamp_seconds{source="SOURCE"}`:     recent,
		`certconnector_jobs_paused{source="SOURCE"}`:                          is(0),
		`certconnector_jobs_open{source="SOURCE"}`:                            is(0),
		`certconnector_jobs_open_oldest_seconds{source="SOURCE"}`:             is(0),
		`certconnector_ca_calls_total{ca="ISSUER",call="revoke",result="ok"}`: is(1),
	} {
		wantValue(t, text, strings.NewReplacer("SOURCE", source, "ISSUER", caName).Replace(series), fits)
	}
	if _, text = page(t, url+"/readyz?verbose"); !strings.Contains(text, "\nlast source "+source+" poll: 20") {
		t.Errorf("the last poll is not told in\n%s", text)
	}
	s.mustStop()
}

// Every metric stands on the page, and the page invents none.
func TestMetricsAreDocumented(t *testing.T) {
	s := install(t, firstrun.Options{Policy: firstrun.PolicyStatic})
	a, err := agent.New(s.cfg, agent.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := a.Run(ctx); err != nil { // closes what New has opened
		t.Error(err)
	}
	b, err := os.ReadFile(filepath.Join("..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(certconnector_[a-z_]+)` \\|(.*)\\|$").FindAllStringSubmatch(string(b), -1) {
		rows[m[1]] = m[2]
	}
	names := []string{}
	for _, d := range a.Metrics() {
		names = append(names, d.Name)
		row, ok := rows[d.Name]
		if !ok {
			t.Errorf("docs/metrics.md does not have %s (%s): %s", d.Name, d.Type, d.Help)
			continue
		}
		cells := strings.Split(row, "|")
		if got := strings.TrimSpace(cells[0]); got != d.Type {
			t.Errorf("%s is a %s, the page says %s", d.Name, d.Type, got)
		}
		for _, label := range d.Labels {
			if !strings.Contains(cells[1], "`"+label+"`") {
				t.Errorf("the page does not tell the label %s of %s", label, d.Name)
			}
		}
		if got := strings.Count(cells[1], "`") / 2; got != len(d.Labels) {
			t.Errorf("the page tells %d labels of %s, which has %v", got, d.Name, d.Labels)
		}
	}
	for name := range rows {
		if !slices.Contains(names, name) {
			t.Errorf("docs/metrics.md has %s, which is no metric", name)
		}
	}
	for _, m := range regexp.MustCompile(`certconnector_[a-z_]+`).FindAllString(string(b), -1) {
		base := strings.TrimSuffix(strings.TrimSuffix(m, "_bucket"), "_count")
		if !slices.Contains(names, base) {
			t.Errorf("docs/metrics.md speaks of %s, which is no metric", m)
		}
	}
}
