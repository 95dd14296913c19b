package loopback_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/cmd/certlab/loopback"
)

func TestCheck(t *testing.T) {
	for _, good := range []string{"http://127.0.0.1:80/scep", "https://[::1]/", "http://localhost/", "http://127.1.2.3/"} {
		if err := loopback.Check(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "127.0.0.1:80", "ftp://127.0.0.1/", "http://192.0.2.1/", "http://localhost.example/", "http://0.0.0.0/",
		"http://127.0.0.1.example/", "http://127.0.0.1@192.0.2.1/", "http://[::ffff:192.0.2.1]/",
	} {
		if err := loopback.Check(bad); err == nil {
			t.Errorf("%s is taken for a loopback address", bad)
		}
	}
}

// TestTransportConnectsNowhereElse: what a name resolves to counts, and no
// packet leaves before it is known.
func TestTransportConnectsNowhereElse(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	client := &http.Client{Transport: loopback.Transport(nil, 1)}
	resp, err := client.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	resp, err = client.Get("http://192.0.2.1/")
	if err == nil {
		_ = resp.Body.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "not on the loopback interface") {
		t.Errorf("error %v", err)
	}
}
