package certsrv_test

import (
	"os"
	"testing"

	"github.com/certconnector/certconnector/ca/adcstest"
	"github.com/certconnector/certconnector/ca/certsrv"
	"github.com/certconnector/certconnector/internal/negotiate"
	"github.com/certconnector/certconnector/internal/secret"
)

// TestIssueBySSPIWithKerberos signs in with a ticket that the system has. Wine
// names no channel, so only Windows is asked for Extended Protection. The KDC is
// outside of Windows: see TestSSPIWithKerberosInWine in ca/adcs.
func TestIssueBySSPIWithKerberos(t *testing.T) {
	keytab := os.Getenv("CERTSRV_SSPI_KEYTAB")
	if keytab == "" {
		t.Skip("needs a KDC outside: run by go test -tags e2ewindows ./ca/adcs")
	}
	s := start(t, func(_ *testing.T, _ *adcstest.CA, o *adcstest.WebOptions, config *certsrv.Config) {
		o.Keytab, o.RequireChannelBinding = keytab, secret.Unchecked() == ""
		config.SSPI = &negotiate.SSPI{SPN: "HTTP/ca01.corp.test"}
	}, adcstest.WebOptions{})
	s.mustIssue(t)
	if s.web.SignedIn("Kerberos") == 0 {
		t.Error("nobody signed in by Kerberos")
	}
}
