package adcs

import (
	"crypto"
	"crypto/x509"
	"strconv"
	"testing"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/adcstest"
	"github.com/certconnector/certconnector/internal/negotiate"
	"github.com/certconnector/certconnector/internal/testkeys"
)

// Templates of the CA for tests.
const (
	issuing   = "IntuneDevice"
	parking   = "IntuneManual"
	forbidden = "IntuneForbidden"
)

const spn = "host/ca01.corp.test"

// lab is a CA for tests behind its RPC faces.
type lab struct {
	ca  *adcstest.CA
	rpc *adcstest.RPC
	kdc *adcstest.KDC // nil: NTLM
}

func newLab(t testing.TB, kdc *adcstest.KDC, o adcstest.Options) *lab {
	t.Helper()
	authority, err := adcstest.New(o)
	if err != nil {
		t.Fatal(err)
	}
	rpc := adcstest.RPCOptions{}
	if kdc != nil {
		rpc.Keytab, rpc.NoNTLM = kdc.KeytabFile, true
	}
	l := &lab{ca: authority, kdc: kdc}
	if l.rpc, err = authority.ServeRPC(rpc); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.rpc.Close() })
	return l
}

// startKDC starts a KDC that knows the CA and its accounts.
func startKDC(t testing.TB) *adcstest.KDC {
	t.Helper()
	return adcstest.StartKDC(t, "CORP.TEST", map[string]string{
		"svc": adcstest.DefaultPassword, "enroll": adcstest.DefaultPassword, "low": adcstest.DefaultPassword, spn: "the CA's own",
	})
}

// connect makes a bridge that signs in as an account.
func (l *lab) connect(t testing.TB, account string, cfg Config) *CA {
	t.Helper()
	cfg.Name, cfg.Config = "issuing", l.ca.Host()+`\`+l.ca.Name()
	cfg.Address, cfg.EndpointMapperPort = l.rpc.Address(), l.rpc.EndpointMapperPort()
	if l.kdc != nil {
		cfg.Kerberos = &negotiate.Kerberos{Principal: account + "@" + l.kdc.Realm, Keytab: l.kdc.KeytabFile, Config: l.kdc.ConfigFile}
	} else {
		cfg.NTLM = &negotiate.NTLM{User: l.ca.Domain() + `\` + account, Password: adcstest.DefaultPassword}
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (l *lab) approve(requestID string) error { return l.officer(requestID, l.ca.Approve) }

func (l *lab) deny(requestID string) error { return l.officer(requestID, l.ca.Deny) }

func (l *lab) officer(requestID string, decide func(officer string, id uint32) int32) error {
	id, err := strconv.ParseUint(requestID, 10, 32)
	if err != nil {
		return err
	}
	if hr := decide("officer", uint32(id)); hr != 0 {
		return &ca.Denied{HResult: hr, Text: "by the CA"}
	}
	return nil
}

func chainOf(l *lab) []*x509.Certificate {
	return []*x509.Certificate{l.ca.Certificate(), l.ca.Root()}
}

func catestKey(i int) crypto.Signer { return testkeys.RSA2048(i) }
