package adcs

import (
	"crypto/x509"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/adcstest"
	"github.com/certconnector/certconnector/internal/negotiate"
)

func account() *negotiate.NTLM { return &negotiate.NTLM{User: `CORP\svc`, Password: "a password"} }

func TestConfigErrorsNameTheWayOut(t *testing.T) {
	for _, c := range []struct {
		name, want string
		cfg        Config
	}{
		{"no host", `host\CA name`, Config{Config: "Corp Issuing CA", NTLM: account()}},
		{"no CA name", `host\CA name`, Config{Config: `ca01.corp.test\`, NTLM: account()}},
		{"nothing to sign in with", "exactly one", Config{Config: `ca01.corp.test\CA`}},
		{"two ways to sign in", "exactly one", Config{Config: `ca01.corp.test\CA`, NTLM: account(), Kerberos: &negotiate.Kerberos{}}},
		{"address with Kerberos", "full DNS name", Config{Config: `10.0.0.1\CA`, Kerberos: &negotiate.Kerberos{}}},
		{"short name with Kerberos", "full DNS name", Config{Config: `ca01\CA`, Kerberos: &negotiate.Kerberos{}}},
		{"unknown road", "dcom, icpr", Config{Config: `ca01.corp.test\CA`, NTLM: account(), Issue: []Road{"smoke"}}},
		{"road named twice", "once", Config{Config: `ca01.corp.test\CA`, NTLM: account(), Issue: []Road{DCOM, DCOM}}},
		{"revoking over an issuing road", "csra", Config{Config: `ca01.corp.test\CA`, NTLM: account(), Revoke: DCOM}},
		{"approving without revoking", "officer", Config{Config: `ca01.corp.test\CA`, NTLM: account(), Approve: true}},
		{"plain RPC without a chain", "chain", Config{Config: `ca01.corp.test\CA`, NTLM: account(), Issue: []Road{ICPR}}},
		{"NTLM without a password", "password", Config{Config: `ca01.corp.test\CA`, NTLM: &negotiate.NTLM{User: `CORP\svc`}}},
	} {
		c.cfg.Name = "issuing"
		_, err := New(c.cfg)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "issuing") {
			t.Errorf("%s: error %v, want one with %q and the name of the CA", c.name, err, c.want)
		}
	}
}

func TestBridgeHasWhatIsConfigured(t *testing.T) {
	for _, c := range []struct {
		name                                    string
		cfg                                     Config
		revoke, check, find, publish, approving bool
	}{
		{"DCOM alone", Config{}, false, false, false, true, false},
		{"revoking", Config{Revoke: CSRA}, true, true, false, true, false},
		{"searching", Config{Find: CSRA}, false, false, true, true, false},
		{"revoking and searching", Config{Revoke: CSRA, Find: CSRA}, true, true, true, true, false},
		{"officer", Config{Revoke: CSRA, Approve: true}, true, true, false, true, true},
		{"everything", Config{Revoke: CSRA, Find: CSRA, Approve: true}, true, true, true, true, true},
	} {
		c.cfg.Config, c.cfg.NTLM = `ca01.corp.test\CA`, account()
		made, err := New(c.cfg)
		if err != nil {
			t.Fatal(err)
		}
		b := made.Bridge()
		_, revoke := b.(ca.Revoker)
		_, check := b.(ca.Checker)
		_, find := b.(ca.Finder)
		_, publish := b.(ca.Publisher)
		_, approve := b.(ca.Approver)
		_, collect := b.(ca.Collector)
		if revoke != c.revoke || check != c.check || find != c.find || publish != c.publish || approve != c.approving || !collect {
			t.Errorf("%s: revoke %t, check %t, find %t, publish %t, approve %t, collect %t", c.name, revoke, check, find, publish, approve, collect)
		}
	}
}

func TestFIPSOnlyIsRefusedAtStart(t *testing.T) {
	was := fipsEnforced
	defer func() { fipsEnforced = was }()
	fipsEnforced = func() bool { return true }
	_, err := New(Config{Name: "issuing", Config: `ca01.corp.test\CA`, NTLM: account()})
	if !errors.Is(err, ErrFIPS) {
		t.Errorf("error %v, want ErrFIPS", err)
	}
}

func TestErrorsHoldNoPassword(t *testing.T) {
	conf := filepath.Join(t.TempDir(), "krb5.conf")
	if err := os.WriteFile(conf, []byte("[libdefaults]\n default_realm = CORP.TEST\n[realms]\n CORP.TEST = {\n  kdc = 127.0.0.1:1\n }\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{Name: "issuing", Config: `localhost.corp.test\CA`, Address: "127.0.0.1", EndpointMapperPort: 1,
		Kerberos: &negotiate.Kerberos{Principal: "svc@CORP.TEST", Password: "open sesame", Config: conf}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Chain(t.Context())
	if !errors.Is(err, ca.ErrUnavailable) || strings.Contains(err.Error(), "sesame") || !strings.Contains(err.Error(), "issuing") {
		t.Errorf("error %v, want ErrUnavailable with the name of the CA and no password", err)
	}
}

func TestKnownChainServesWhileTheCAIsAway(t *testing.T) {
	l := newLab(t, nil, adcstest.Options{})
	pinned := l.connect(t, "svc", Config{Certificates: chainOf(l)})
	read := l.connect(t, "svc", Config{})
	if _, err := read.Chain(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.rpc.Close()
	if chain, err := pinned.Chain(t.Context()); err != nil || len(chain) != 2 || !chain[0].Equal(l.ca.Certificate()) {
		t.Errorf("configured chain: %d certificates, %v", len(chain), err)
	}
	if chain, err := read.chain(t.Context(), 0); err != nil || len(chain) != 2 {
		t.Errorf("chain read before: %d certificates, %v", len(chain), err)
	}
	nothing := l.connect(t, "svc", Config{})
	if _, err := nothing.Chain(t.Context()); !errors.Is(err, ca.ErrUnavailable) {
		t.Errorf("no chain known: %v, want ErrUnavailable", err)
	}
	l.rpc, _ = l.ca.ServeRPC(adcstest.RPCOptions{})
}

func TestListMustBeTheCAsAndNotOlder(t *testing.T) {
	l := newLab(t, nil, adcstest.Options{PublishOnRevoke: true})
	c := l.connect(t, "svc", Config{Revoke: CSRA})
	got := mustIssue(t, c)
	p := publisher{c}
	if _, err := p.CRL(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := (revoker{c}).Revoke(t.Context(), got.Certificate.SerialNumber, ca.Superseded); err != nil {
		t.Fatal(err)
	}
	der, err := p.CRL(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(der)
	if err != nil || len(list.RevokedCertificateEntries) != 1 {
		t.Fatalf("list: %v", err)
	}
	c.lists.number = new(big.Int).Add(list.Number, big.NewInt(1))
	if _, err := p.CRL(t.Context()); err == nil || !strings.Contains(err.Error(), "older") {
		t.Errorf("a list older than the last: %v", err)
	}
	c.lists.number = nil
	other := newLab(t, nil, adcstest.Options{})
	c.chains.list = chainOf(other)
	c.chains.read = c.now()
	if _, err := p.CRL(t.Context()); err != nil {
		t.Errorf("after the CA renewed its key: %v", err)
	}
}
