package wstep_test

import (
	"testing"

	"github.com/certconnector/certconnector/ca/adcstest"
)

func TestContractWithUserName(t *testing.T) {
	contract(t, adcstest.SOAPUser, adcstest.SOAPOptions{}, nil)
}

func TestContractWithClientCertificate(t *testing.T) {
	contract(t, adcstest.SOAPCertificate, adcstest.SOAPOptions{}, nil)
}

func TestContractWithNTLM(t *testing.T) {
	contract(t, adcstest.SOAPKerberos, adcstest.SOAPOptions{NTLM: true}, nil)
}
