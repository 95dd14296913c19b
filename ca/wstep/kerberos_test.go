//go:build e2eca

package wstep_test

import (
	"testing"

	"github.com/certconnector/certconnector/ca/adcstest"
	"github.com/certconnector/certconnector/ca/wstep"
	"github.com/certconnector/certconnector/internal/negotiate"
)

// The service is reached by its address, so its principal is named.
func TestContractWithKerberos(t *testing.T) {
	const realm, service = "CORP.TEST", "HTTP/ca01.corp.test"
	kdc := adcstest.StartKDC(t, realm, map[string]string{"svc": adcstest.DefaultPassword, service: "a key of the web site"})
	contract(t, adcstest.SOAPKerberos, adcstest.SOAPOptions{Keytab: kdc.KeytabFile}, func(c *wstep.Config) {
		c.Kerberos = &negotiate.Kerberos{Principal: "svc@" + realm, Keytab: kdc.KeytabFile, Config: kdc.ConfigFile, SPN: service}
	})
}
