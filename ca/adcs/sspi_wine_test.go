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
// ticket in a cache. The KDC and the CA that is reached over DCOM stay outside;
// inside the tests of SSPI run.
func TestSSPIWithKerberosInWine(t *testing.T) {
	winetest.Need(t, "ntlm_auth", "winbind")
	kdc := adcstest.StartKDC(t, "CORP.TEST", map[string]string{
		"enroll": adcstest.DefaultPassword, spn: "the CA's own", "HTTP/ca01.corp.test": "the web server's own",
	})
	l := newLab(t, kdc, adcstest.Options{})
	w := winetest.New(t)
	w.Env = append(w.Env, "KRB5_CONFIG="+kdc.ConfigFile, "KRB5CCNAME=FILE:"+kdc.TicketCache("enroll"), "CERTSRV_SSPI_KEYTAB="+w.Path(kdc.KeytabFile),
		"ADCS_SSPI_CA="+l.ca.Host()+`\`+l.ca.Name(), "ADCS_SSPI_ADDRESS="+net.JoinHostPort(l.rpc.Address(), strconv.Itoa(l.rpc.EndpointMapperPort())))
	for pkg, names := range map[string][]string{
		"../adcs":    {"TestIssueBySSPIWithNTLM", "TestSignInBySSPIWithKerberos"},
		"../certsrv": {"TestIssueBySSPIWithKerberos"},
	} {
		out, err := w.GoTest(t, pkg, "-count", "1", "-run", "SSPI", "-v", ".")
		for _, name := range names {
			if err != nil || !strings.Contains(out, "--- PASS: "+name+" ") {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
		}
	}
}
