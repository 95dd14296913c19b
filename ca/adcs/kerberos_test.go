package adcs

import (
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oiweiwei/go-msrpc/ssp/krb5"
	"github.com/oiweiwei/gokrb5.fork/v9/credentials"
	"github.com/oiweiwei/gokrb5.fork/v9/iana/etypeID"
	"github.com/oiweiwei/gokrb5.fork/v9/iana/nametype"
	"github.com/oiweiwei/gokrb5.fork/v9/keytab"
	"github.com/oiweiwei/gokrb5.fork/v9/messages"
	"github.com/oiweiwei/gokrb5.fork/v9/types"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/adcstest"
	"github.com/certconnector/certconnector/internal/negotiate"
)

func TestKerberosCredentials(t *testing.T) {
	kdc := startKDC(t)
	l := newLab(t, kdc, adcstest.Options{})
	for _, k := range []struct {
		name string
		who  negotiate.Kerberos
		ok   bool
	}{
		{"keytab", negotiate.Kerberos{Keytab: kdc.KeytabFile}, true},
		{"credential cache", negotiate.Kerberos{CCache: kdc.TicketCache("svc")}, true},
		{"password", negotiate.Kerberos{Password: adcstest.DefaultPassword}, true},
		{"wrong password", negotiate.Kerberos{Password: "open sesame"}, false},
		{"cache of somebody else", negotiate.Kerberos{CCache: kdc.TicketCache("low")}, false},
		{"service that the realm does not know", negotiate.Kerberos{Keytab: kdc.KeytabFile, SPN: "host/other.corp.test"}, false},
	} {
		k.who.Principal, k.who.Config = "svc@CORP.TEST", kdc.ConfigFile
		c, err := New(Config{Name: "issuing", Config: l.ca.Host() + `\` + l.ca.Name(), Address: l.rpc.Address(),
			EndpointMapperPort: l.rpc.EndpointMapperPort(), Kerberos: &k.who})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Issue(t.Context(), newRequest(t))
		if (err == nil) != k.ok {
			t.Errorf("%s: %v", k.name, err)
		}
		if err != nil && (!errors.Is(err, ca.ErrUnavailable) || strings.Contains(err.Error(), "sesame")) {
			t.Errorf("%s: %v, want ErrUnavailable without a password", k.name, err)
		}
		c.Close()
	}
}

func TestOneTicketServesAllConnections(t *testing.T) {
	kdc := startKDC(t)
	now := time.Now()
	k, err := newKerberos(negotiate.Kerberos{Principal: "svc@CORP.TEST", Keytab: kdc.KeytabFile, Config: kdc.ConfigFile}, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	fetched := func() time.Time {
		t.Helper()
		ticket, err := k.ticket(t.Context(), spn)
		if err != nil {
			t.Fatal(err)
		}
		return ticket.fetched
	}
	first := fetched()
	if now = now.Add(ticketAge - time.Second); !fetched().Equal(first) {
		t.Error("a ticket that is fresh was fetched again")
	}
	if now = now.Add(2 * time.Second); fetched().Equal(first) {
		t.Error("an old ticket was used")
	}
	was := fetched()
	k.Refused()
	if now = now.Add(time.Second); fetched().Equal(was) {
		t.Error("a refused ticket was used again")
	}
}

// Connections that sign in at the same time are not taken for replays of each
// other: their authenticators have times of their own.
func TestNoTwoSignInsAtOneTime(t *testing.T) {
	keys := keytab.New()
	if err := keys.AddEntry(spn, "CORP.TEST", "the CA's own", time.Now(), 1, etypeID.AES256_CTS_HMAC_SHA1_96); err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	ticket, key, err := messages.NewTicket(types.NewPrincipalName(nametype.KRB_NT_PRINCIPAL, "svc"), "CORP.TEST",
		types.NewPrincipalName(nametype.KRB_NT_SRV_HST, spn), "CORP.TEST", types.NewKrbFlags(), keys,
		etypeID.AES256_CTS_HMAC_SHA1_96, 1, now, now, now.Add(time.Hour), now.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	held := serviceTicket{ticket: ticket, key: key, client: credentials.New("svc", "CORP.TEST"), turn: new(sync.Mutex)}
	var mu sync.Mutex
	seen := map[time.Time]bool{}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 1000 {
				c := &ticketContext{Mechanism: &krb5.Mechanism{Authentifier: &krb5.Authentifier{Config: &krb5.Config{}}}, ticket: held}
				if _, err := c.request(); err != nil {
					t.Error(err)
					return
				}
				sent := c.APReq.Authenticator
				mu.Lock()
				seen[sent.CTime.Add(time.Duration(sent.Cusec)*time.Microsecond)] = true
				mu.Unlock()
			}
		})
	}
	all.Wait()
	if len(seen) != 4000 {
		t.Errorf("4000 authenticators have %d times", len(seen))
	}
}

func TestRealmsWithoutAFile(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	t.Setenv("KRB5_CONFIG", missing)
	if _, err := realms(negotiate.Kerberos{Principal: "svc@CORP.TEST"}, missing); err == nil {
		t.Error("a file that is named and missing is no error")
	}
	t.Setenv("KRB5_CONFIG", "")
	conf, err := realms(negotiate.Kerberos{Principal: "svc@CORP.TEST"}, missing)
	if err != nil || conf.LibDefaults.DefaultRealm != "CORP.TEST" || !conf.LibDefaults.DNSLookupKDC {
		t.Errorf("%+v, %v; want the principal's realm, and KDCs by DNS", conf, err)
	}
}
