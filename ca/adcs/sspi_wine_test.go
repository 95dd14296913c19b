//go:build e2ewindows && linux

package adcs

import (
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/ca/adcstest"
	"github.com/certconnector/certconnector/installer/windows/winetest"
)

// TestSSPIWithKerberosInWine: Wine's Kerberos is that of the host, with a
// ticket in a cache. The CA and the KDC stay outside; inside the tests of SSPI
// run.
func TestSSPIWithKerberosInWine(t *testing.T) {
	winetest.Need(t, "ntlm_auth", "winbind")
	kdc := startKDC(t)
	l := newLab(t, kdc, adcstest.Options{})
	w := winetest.New(t)
	w.Env = append(w.Env, "KRB5_CONFIG="+kdc.ConfigFile, "KRB5CCNAME=FILE:"+kdc.TicketCache("enroll"),
		"ADCS_SSPI_CA="+l.ca.Host()+`\`+l.ca.Name(), "ADCS_SSPI_ADDRESS="+net.JoinHostPort(l.rpc.Address(), strconv.Itoa(l.rpc.EndpointMapperPort())))
	out, err := w.GoTest(t, ".", "-count", "1", "-run", "SSPI", "-v", ".")
	for _, name := range []string{"TestIssueBySSPIWithNTLM", "TestSignInBySSPIWithKerberos"} {
		if err != nil || !strings.Contains(out, "--- PASS: "+name+" ") {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
}
