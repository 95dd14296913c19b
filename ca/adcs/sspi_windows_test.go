package adcs

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/adcstest"
	"github.com/certconnector/certconnector/internal/negotiate"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/sspi"
)

// asAccount is SSPI with NTLM, not as the account that runs the test.
func asAccount(domain, user string, password secret.Text) Mechanism {
	as := &sspi.Identity{User: user, Domain: domain, Password: password}
	return sspiSignIn{who: negotiate.SSPI{NTLM: true, TestingAs: as}, open: openSSPI}
}

func TestIssueBySSPIWithNTLM(t *testing.T) {
	l := newLab(t, nil, adcstest.Options{})
	for name, row := range map[string]struct {
		password secret.Text
		ok       bool
	}{"right password": {adcstest.DefaultPassword, true}, "wrong password": {"open sesame", false}} {
		t.Run(name, func(t *testing.T) {
			c, err := New(Config{Name: "issuing", Config: l.ca.Host() + `\` + l.ca.Name(), Address: l.rpc.Address(),
				EndpointMapperPort: l.rpc.EndpointMapperPort(), Mechanism: asAccount(l.ca.Domain(), "enroll", row.password)})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, err = c.Issue(t.Context(), newRequest(t))
			if (err == nil) != row.ok {
				t.Errorf("issue: %v", err)
			}
			if err != nil && (!errors.Is(err, ca.ErrUnavailable) || strings.Contains(err.Error(), "sesame")) {
				t.Errorf("%v, want ErrUnavailable without a password", err)
			}
		})
	}
}

// stepped is a sign-in that tells when it is done.
type stepped struct {
	sealer
	done *bool
}

func (s stepped) Step(ctx context.Context, in []byte) (out []byte, done bool, err error) {
	out, done, err = s.sealer.Step(ctx, in)
	*s.done = *s.done || done
	return out, done, err
}

// TestSignInBySSPIWithKerberos has its CA and its KDC outside of Windows: see
// TestSSPIWithKerberosInWine. Wine's Kerberos signs no heads of messages, which
// the CA wants; so the first call after the sign-in, of which both sides have
// proven who they are by then, is refused with RPC_S_SEC_PKG_ERROR (0x721).
func TestSignInBySSPIWithKerberos(t *testing.T) {
	config, address := os.Getenv("ADCS_SSPI_CA"), os.Getenv("ADCS_SSPI_ADDRESS")
	if config == "" {
		t.Skip("needs a CA outside: run by go test -tags e2ewindows")
	}
	host, port := splitPort(t, address)
	done := false
	c, err := New(Config{Name: "issuing", Config: config, Address: host, EndpointMapperPort: port,
		Mechanism: sspiSignIn{open: func(r sspi.Request) (sealer, error) {
			c, err := sspi.New(r)
			return stepped{c, &done}, err
		}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Issue(t.Context(), newRequest(t))
	if !done {
		t.Errorf("the sign-in did not end: %v", err)
	}
	if err != nil && (secret.Unchecked() == "" || !strings.Contains(err.Error(), "0x00000721")) {
		t.Errorf("issue: %v", err)
	}
}

func splitPort(t *testing.T, address string) (host string, port int) {
	t.Helper()
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	if port, err = strconv.Atoi(text); err != nil {
		t.Fatal(err)
	}
	return host, port
}
