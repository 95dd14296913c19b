package negotiate

import (
	"net/http"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/internal/sspi"
)

// TestSSPIWithNTLMSignsInTheConnection: Windows makes the messages, they travel
// as ours do.
func TestSSPIWithNTLMSignsInTheConnection(t *testing.T) {
	s := &ntlmServer{challenged: map[string]bool{}, signedIn: map[string]bool{}}
	srv, c := serve(t, s.ServeHTTP)
	c.SSPI = &SSPI{NTLM: true, TestingAs: &sspi.Identity{User: "svc", Domain: "CORP", Password: "x"}}
	rt := newTransport(t, c)
	for _, body := range []string{"first", "second"} {
		if resp, err := post(t, rt, srv.URL, body); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %v, %v", body, resp, err)
		}
	}
	if got, want := strings.Join(s.log, ","), "negotiate ,authenticate first,none second"; got != want {
		t.Errorf("server saw %q, want %q", got, want)
	}
	if rt.Mechanism() != "sspi (NTLM)" {
		t.Errorf("the log calls it %q", rt.Mechanism())
	}
}
