package jobqueuetest_test

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/jobs/jobqueue"
	"github.com/certconnector/certconnector/agent/jobs/jobqueuetest"
	"github.com/certconnector/certconnector/internal/testkeys"
)

var quiet = log.New(io.Discard, "", 0)

var fingerprint = strings.Repeat("0A:", 31) + "0A"

func add(t *testing.T, q *jobqueuetest.Queue, contexts ...string) {
	t.Helper()
	for _, context := range contexts {
		err := q.Add(jobqueuetest.Job{
			RequestContext: context, Subject: "CN=" + context, SANs: []string{"dns:a.example", "upn:ann@example.test"},
			KeyUsage: []string{"digitalSignature"}, EKUs: []string{"clientAuth"}, Key: &jobqueuetest.KeyType{Type: "p256"},
			ValiditySeconds: 3600, CAConfiguration: "issuing", Recipient: fingerprint,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func success(context string) jobqueue.Result {
	return jobqueue.Result{Context: context, Succeeded: true, Sealed: []byte("sealed " + context)}
}

func failure(context string, code jobqueue.Code) jobqueue.Result {
	return jobqueue.Result{Context: context, Code: code, Message: "rule: words"}
}

// The whole way, every exchange as the document describes it.
func TestJobsGoOutAndResultsComeBack(t *testing.T) {
	s := newStand(t, jobqueuetest.Options{}, true)
	s.download(10)
	add(t, s.queue, "one", "two", "three")
	b := s.download(2, "one", "two")
	want := jobqueue.Job{
		Context: "one", Kind: jobqueue.KindPFX, Subject: "CN=one", SANs: []string{"dns:a.example", "upn:ann@example.test"}, KeyUsage: []string{"digitalSignature"},
		EKUs: []string{"clientAuth"}, Key: jobqueue.Key{Type: "p256"}, ValiditySeconds: 3600, CAConfiguration: "issuing", Recipient: strings.Repeat("0a", 32),
	}
	if got := b.Jobs[0]; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	s.download(10, "three")
	imported := jobqueue.Result{Context: "three", Succeeded: true, Imported: strings.Repeat("ab", 20)}
	for range 2 { // the second time nothing changes
		if err := s.client.Upload(t.Context(), []jobqueue.Result{success("one"), failure("two", jobqueue.ServiceUnavailableException), imported}); err != nil {
			t.Fatal(err)
		}
	}
	r := s.queue.Results()
	if !r["one"].Succeeded || string(r["one"].Sealed) != "sealed one" || r["one"].Times != 2 || r["two"].ErrorCode != "ServiceUnavailableException" ||
		r["three"].Imported != imported.Imported || len(s.queue.Contradictions()) > 0 {
		t.Errorf("results %+v", r)
	}
	// What may succeed later is offered again, when its lease has ended.
	s.download(10)
	s.later(11 * time.Minute)
	s.download(10, "two")
	if err := s.client.Upload(t.Context(), []jobqueue.Result{success("two")}); err != nil {
		t.Fatal(err)
	}
	if left := s.queue.Waiting(); len(left) != 0 {
		t.Errorf("waiting: %v", left)
	}
}

func TestLeaseAndCoolDown(t *testing.T) {
	s := newStand(t, jobqueuetest.Options{Lease: time.Hour, CoolDown: 10 * time.Minute}, true)
	add(t, s.queue, "one")
	s.download(10, "one")
	_, err := s.client.Download(t.Context(), 10)
	status, ok := errors.AsType[*jobqueue.StatusError](err)
	if !ok || status.Status != http.StatusTooManyRequests || status.RetryAfter() != 10*time.Minute || status.Final() || status.Gone() {
		t.Fatalf("within the cool-down: %v", err)
	}
	s.later(11 * time.Minute)
	s.download(10)
	s.later(time.Hour)
	s.download(10, "one")
	if c := s.queue.Counts(); c.Early != 1 || c.Downloads != 3 || c.Offered != 2 {
		t.Errorf("counts %+v", c)
	}
}

func TestContradictionsAreRefusedAndKept(t *testing.T) {
	s := newStand(t, jobqueuetest.Options{}, true)
	add(t, s.queue, "one", "two")
	if err := s.client.Upload(t.Context(), []jobqueue.Result{success("one")}); err != nil {
		t.Fatal(err)
	}
	for _, r := range []jobqueue.Result{failure("one", jobqueue.ConflictError), {Context: "one", Succeeded: true, Sealed: []byte("another")}, success("unknown")} {
		// Beside a bad result a good one is not taken either.
		err := s.client.Upload(t.Context(), []jobqueue.Result{success("two"), r})
		if status, ok := errors.AsType[*jobqueue.StatusError](err); !ok || !status.Final() {
			t.Errorf("%+v: %v", r, err)
		}
	}
	s.queue.Refuse("two")
	if err := s.client.Upload(t.Context(), []jobqueue.Result{success("two")}); err == nil {
		t.Error("a result that is to be refused was taken")
	}
	if r := s.queue.Results(); len(r) != 1 || !r["one"].Succeeded || len(s.queue.Contradictions()) != 2 {
		t.Errorf("results %+v, contradictions %+v", r, s.queue.Contradictions())
	}
	if err := s.queue.Forget("one"); err != nil {
		t.Fatal(err)
	}
	s.download(10, "one", "two")
}

func TestBadElementsDoNotHoldUpOthers(t *testing.T) {
	s := newStand(t, jobqueuetest.Options{}, false)
	for context, element := range map[string]string{
		"a": `7`, "b": `{"kind":"pfx"}`, "c": `{"requestContext":"c","kind":"pfx","sans":"dns:x"}`, "d": `{"requestContext":"d"}`,
		"e": `{"requestContext":"e","kind":"pfx","recipient":"xx"}`, "f": `{"requestContext":"f","kind":"pfx","validitySeconds":-1}`,
		"g": `{"requestContext":"` + strings.Repeat("g", 600) + `","kind":"pfx"}`, "h": `{"requestContext":"h\u0007","kind":"pfx"}`,
		"i": `{"requestContext":"i","kind":"pfx","key":"rsa2048"}`,
	} {
		if err := s.queue.AddRaw(context, json.RawMessage(element)); err != nil {
			t.Fatal(err)
		}
	}
	add(t, s.queue, "good")
	if err := s.queue.AddRaw("good again", json.RawMessage(`{"requestContext":"good","kind":"pfx","subject":"CN=other","later":{"member":1}}`)); err != nil {
		t.Fatal(err)
	}
	b := s.download(100, "good")
	if len(b.Bad) != 10 {
		t.Errorf("%d bad elements: %+v", len(b.Bad), b.Bad)
	}
	answered := map[string]bool{}
	for _, bad := range b.Bad {
		answered[bad.Context] = true
		if bad.Reason == "" {
			t.Errorf("no reason: %+v", bad)
		}
	}
	for _, context := range []string{"c", "d", "e", "f", "i", ""} {
		if !answered[context] {
			t.Errorf("the context %q of a bad element is missing", context)
		}
	}
}

func TestAnswersThatSayNothing(t *testing.T) {
	s := newStand(t, jobqueuetest.Options{}, false)
	for _, row := range []struct {
		name  string
		fault jobqueuetest.Faults
	}{
		{"no list", jobqueuetest.Faults{Body: `{"value":{}}`}},
		{"null", jobqueuetest.Faults{Body: `{"value":null}`}},
		{"no JSON", jobqueuetest.Faults{Body: `<html>`}},
		{"more than was asked for", jobqueuetest.Faults{Body: `{"value":[` + strings.Repeat("1,", 20) + `1]}`}},
		{"more than anybody reads", jobqueuetest.Faults{Body: strings.Repeat(" ", 9<<20)}},
		{"a broken connection", jobqueuetest.Faults{LoseAnswers: true}},
		{"a failure", jobqueuetest.Faults{Status: http.StatusInternalServerError}},
		{"a redirect", jobqueuetest.Faults{Status: http.StatusTemporaryRedirect}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s.queue.Fail(row.fault)
			b, err := s.client.Download(t.Context(), 10)
			if err == nil || len(b.Jobs)+len(b.Bad) > 0 || errors.Is(err, jobqueue.ErrNotReached) {
				t.Errorf("download: %+v, %v", b, err)
			}
			if err := s.client.Upload(t.Context(), []jobqueue.Result{failure("x", jobqueue.ConflictError)}); err == nil {
				t.Error("an upload counts as taken")
			}
		})
	}
	s.queue.Fail(jobqueuetest.Faults{Status: http.StatusServiceUnavailable, RetryAfter: 90 * time.Second, Times: 1})
	_, err := s.client.Download(t.Context(), 10)
	if status, ok := errors.AsType[*jobqueue.StatusError](err); !ok || status.RetryAfter() != 90*time.Second {
		t.Errorf("Retry-After: %v", err)
	}
	s.download(10)
	s.queue.Fail(jobqueuetest.Faults{TakeNothing: true})
	if err := s.client.Upload(t.Context(), []jobqueue.Result{failure("x", jobqueue.ConflictError)}); !errors.Is(err, jobqueue.ErrNotTaken) {
		t.Errorf("false: %v", err)
	}
	if err := s.client.Upload(t.Context(), []jobqueue.Result{{Context: "x", Succeeded: true}}); err == nil {
		t.Error("a success with nothing to hand over was sent")
	}
}

// A bare status may come from anything in between: only the queue's own word
// that names a rule is final, for it costs a certificate.
func TestOnlyAProblemDocumentIsFinal(t *testing.T) {
	for _, row := range []struct {
		name, media, body string
		status            int
		final, gone       bool
	}{
		{"409 with a rule", "application/problem+json", `{"rule":"result_refused"}`, 409, true, false},
		{"409 of a proxy", "text/html", `<p>conflict</p>`, 409, false, false},
		{"400 without a rule", "application/problem+json", `{"title":"x"}`, 400, false, false},
		{"503 with a rule", "application/problem+json", `{"rule":"busy"}`, 503, false, false},
		{"403 with a rule", "application/problem+json", `{"rule":"client_certificate"}`, 403, false, false},
		{"410", "text/plain", ``, 410, false, true},
		{"404", "text/plain", ``, 404, false, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newStand(t, jobqueuetest.Options{}, false)
			s.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", row.media)
				w.WriteHeader(row.status)
				_, _ = io.WriteString(w, row.body)
			})
			err := s.client.Upload(t.Context(), []jobqueue.Result{success("one")})
			status, ok := errors.AsType[*jobqueue.StatusError](err)
			if !ok || status.Final() != row.final || status.Gone() != row.gone {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestWhoIsServed(t *testing.T) {
	s := newStand(t, jobqueuetest.Options{}, true)
	add(t, s.queue, "one")
	forbidden := func(why string) {
		t.Helper()
		s.client.Reconnect()
		_, err := s.client.Download(t.Context(), 10)
		if status, ok := errors.AsType[*jobqueue.StatusError](err); !ok || status.Status != http.StatusForbidden || status.Final() {
			t.Errorf("%s: %v", why, err)
		}
	}
	known := s.shown
	s.show(certificate(t, "stranger", testkeys.RSA2048(1), x509.ExtKeyUsageClientAuth))
	forbidden("a certificate that is not allowed")
	server := certificate(t, "server", testkeys.RSA2048(1), x509.ExtKeyUsageServerAuth)
	s.queue.Allow(server.Leaf)
	s.show(server)
	forbidden("a certificate that is not for clients")
	// A renewed certificate is used with the next connection.
	renewed := certificate(t, "connector", testkeys.RSA2048(2), x509.ExtKeyUsageClientAuth)
	s.queue.Allow(renewed.Leaf)
	s.queue.Forbid(known.Leaf)
	s.show(renewed)
	s.client.Reconnect()
	s.download(10, "one")
	s.show(known)
	forbidden("the certificate before")
	s.show(nil)
	s.client.Reconnect()
	if _, err := s.client.Download(t.Context(), 10); err == nil {
		t.Error("served without a certificate")
	}
	plain := httptest.NewRecorder()
	s.queue.ServeHTTP(plain, httptest.NewRequest(http.MethodPost, jobqueuetest.DownloadPath, strings.NewReader(`{}`)))
	if plain.Code != http.StatusForbidden {
		t.Errorf("without TLS: %d", plain.Code)
	}
}

func TestWhomTheClientTrusts(t *testing.T) {
	s := newStand(t, jobqueuetest.Options{}, false)
	if _, err := s.newClient(s.server.URL, func(c *jobqueue.Config) { c.RootCAs = x509.NewCertPool() }).Download(t.Context(), 1); err == nil {
		t.Error("a queue that nobody vouches for was asked")
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.server.Certificate())
	pinned := s.newClient(s.server.URL, func(c *jobqueue.Config) { c.RootCAs, c.Pins = roots, [][32]byte{{1}} })
	if _, err := pinned.Download(t.Context(), 1); err == nil || !strings.Contains(err.Error(), "pinned") {
		t.Errorf("another certificate than the pinned one: %v", err)
	}
	taken, err := net.Dial("tcp", s.server.Listener.Addr().String()) // nobody can listen on our end of it
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, err := s.newClient("https://"+taken.LocalAddr().String(), func(*jobqueue.Config) {}).Download(t.Context(), 1); !errors.Is(err, jobqueue.ErrNotReached) {
		t.Errorf("nobody there: %v", err)
	}
	for _, url := range []string{"http://queue.example", "https://u:p@queue.example", "https://queue.example?x", "queue.example", ""} {
		if _, err := jobqueue.New(jobqueue.Config{URL: url}); err == nil {
			t.Errorf("%q was accepted", url)
		}
	}
}

// What was answered is known after a kill, even when a line was cut off.
func TestStateSurvivesAKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "queue.jsonl")
	s := newStand(t, jobqueuetest.Options{StateFile: path}, true)
	add(t, s.queue, "one", "two", "three")
	s.download(2, "one", "two")
	if err := s.client.Upload(t.Context(), []jobqueue.Result{success("one")}); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"kind":"res`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	client := s.shown
	s.open(true)
	s.queue.Allow(client.Leaf)
	s.download(10, "three")
	s.later(11 * time.Minute)
	s.download(10, "two", "three")
	if r := s.queue.Results(); len(r) != 1 || string(r["one"].Sealed) != "sealed one" {
		t.Errorf("results %+v", r)
	}
	s.open(true)
}
