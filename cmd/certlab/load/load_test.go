package load_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/certconnector/certconnector/cmd/certlab/cloud"
	"github.com/certconnector/certconnector/cmd/certlab/labtest"
	"github.com/certconnector/certconnector/cmd/certlab/load"
	"github.com/certconnector/certconnector/internal/secret"
)

// TestRun measures a real connector by both methods.
func TestRun(t *testing.T) {
	c := labtest.Static(t)
	keys := filepath.Join(t.TempDir(), "keys.pem")
	for _, method := range []string{"post", "get"} {
		r, err := load.Run(t.Context(), load.Options{
			URL: c.URL, Challenge: secret.Text(c.Challenge(t)), N: 12, Warmup: 3, Concurrency: 3, Keys: 2, KeyFile: keys,
			Method: method, Cipher: "aes256", PID: os.Getpid(),
		})
		if err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		if r.OK != 12 || r.Failed != 0 || len(r.Serials) != 12 {
			t.Errorf("%s: %d ok, %d failed: %v", method, r.OK, r.Failed, r.Errors)
		}
		if r.P50 <= 0 || r.P50 > r.P90 || r.P90 > r.P99 || r.P99 > r.Max || r.PerSecond <= 0 {
			t.Errorf("%s: times %v %v %v %v, %v a second", method, r.P50, r.P90, r.P99, r.Max, r.PerSecond)
		}
	}
}

// TestRefusalsAreCounted: a wrong challenge is no success, however fast.
func TestRefusalsAreCounted(t *testing.T) {
	c := labtest.Static(t)
	r, err := load.Run(t.Context(), load.Options{URL: c.URL, Challenge: "not the challenge at all", N: 3, Keys: 1})
	if err != nil {
		t.Fatal(err)
	}
	if r.OK != 0 || r.Failed != 3 || r.Errors["FAILURE badMessageCheck"]+r.Errors["FAILURE badRequest"] != 3 {
		t.Errorf("%d ok, %d failed: %v", r.OK, r.Failed, r.Errors)
	}
}

// TestRepliesToOthersAreCounted puts a proxy before the connector that gives
// every request the first one's answer.
func TestRepliesToOthersAreCounted(t *testing.T) {
	c := labtest.Static(t)
	target, err := url.Parse(c.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: target.Scheme, Host: target.Host})
	var sent atomic.Int64
	var first []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("operation") != "PKIOperation" {
			proxy.ServeHTTP(w, r)
			return
		}
		if sent.Add(1) == 1 {
			recorded := httptest.NewRecorder()
			proxy.ServeHTTP(recorded, r)
			first = recorded.Body.Bytes()
		}
		w.Header().Set("Content-Type", "application/x-pki-message")
		_, _ = w.Write(first)
	}))
	defer server.Close()
	r, err := load.Run(t.Context(), load.Options{URL: server.URL + target.Path, Challenge: secret.Text(c.Challenge(t)), N: 3, Concurrency: 1, Keys: 1})
	if err != nil {
		t.Fatal(err)
	}
	if r.OK != 1 || r.Failed != 2 {
		t.Errorf("%d ok, %d failed: %v", r.OK, r.Failed, r.Errors)
	}
}

// TestChallengesOfACloud gives each request a challenge of its own.
func TestChallengesOfACloud(t *testing.T) {
	c := labtest.Intune(t, 25*time.Second)
	r, err := load.Run(t.Context(), load.Options{URL: c.URL, CloudControl: c.Control, N: 6, Concurrency: 2, Keys: 2})
	if err != nil {
		t.Fatal(err)
	}
	if r.OK != 6 {
		t.Errorf("%d ok, %d failed: %v", r.OK, r.Failed, r.Errors)
	}
	remote, err := cloud.Dial(c.Control)
	if err != nil {
		t.Fatal(err)
	}
	taken, err := remote.Notifications(t.Context())
	if err != nil || len(taken) != 6 {
		t.Errorf("%d notifications, %v", len(taken), err)
	}
}

// TestMistakesAreRefused: before anything is sent.
func TestMistakesAreRefused(t *testing.T) {
	good := load.Options{URL: "http://127.0.0.1:1/scep", Challenge: "c"}
	for _, row := range []struct {
		name, want string
		change     func(*load.Options)
	}{
		{"an address elsewhere", "loopback", func(o *load.Options) { o.URL = "http://192.0.2.1/scep" }},
		{"a name elsewhere", "loopback", func(o *load.Options) { o.URL = "http://scep.example/scep" }},
		{"a scheme that is not HTTP", "http", func(o *load.Options) { o.URL = "ftp://127.0.0.1/scep" }},
		{"too many requests", "at most", func(o *load.Options) { o.N = 1 << 30 }},
		{"no connection", "connections", func(o *load.Options) { o.Concurrency = -1 }},
		{"an unknown method", "method", func(o *load.Options) { o.Method = "put" }},
		{"an unknown cipher", "cipher", func(o *load.Options) { o.Cipher = "rc4" }},
		{"no challenge", "challenge", func(o *load.Options) { o.Challenge = "" }},
		{"two kinds of challenge", "challenge", func(o *load.Options) { o.CloudControl = "http://127.0.0.1:1/control/" }},
	} {
		t.Run(row.name, func(t *testing.T) {
			o := good
			row.change(&o)
			if _, err := load.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("error %v, want one about %q", err, row.want)
			}
		})
	}
}
