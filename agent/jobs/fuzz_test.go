package jobs_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"math/big"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/jobs"
	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/ca"
)

// ledger knows one certificate of this tenant, one of another, and one import.
type ledger struct{}

func (ledger) Issued(_ context.Context, _, serial string) (journal.Entry, error) {
	switch serial {
	case "4711":
		return journal.Entry{Intent: journal.Intent{Tenant: tenant}}, nil
	case "4712":
		return journal.Entry{Intent: journal.Intent{Tenant: "fabrikam"}}, nil
	}
	return journal.Entry{}, journal.ErrNotFound
}

func (ledger) Imported(_ context.Context, _, serial string) ([]string, error) {
	if serial == "0BAD" {
		return []string{tenant}, nil
	}
	return nil, nil
}

// lastRevoked is a CA that keeps the last serial number that it revoked.
type lastRevoked struct {
	chain  []*x509.Certificate
	serial *big.Int
}

func (*lastRevoked) Issue(context.Context, ca.Request) (*ca.Issued, error) {
	return nil, ca.ErrUnavailable
}
func (c *lastRevoked) Chain(context.Context) ([]*x509.Certificate, error) { return c.chain, nil }
func (c *lastRevoked) Revoke(_ context.Context, n *big.Int, _ ca.Reason) error {
	c.serial = n
	return nil
}

// FuzzRevocation: whatever a request says, nothing but the tenant's own
// certificates is revoked, and each request comes to an end.
func FuzzRevocation(f *testing.F) {
	for _, seed := range []string{
		`{"serial":"4711","issuer":"issuing"}`, `{"serial":"0x47:11"}`, `{"serial":"18193","issuer":"CN=x"}`, `{"serial":"4712"}`,
		`{"serial":"BAD","issuer":"/DC=example/CN=Contoso Issuing CA","ca_configuration":"a\\b"}`, `[]`, `null`, `{"serial":{}}`, ``,
		`{"serial":"4711","issuer":"O=\"Contoso, Ltd.\"+CN=\\2C;DC=\\"}`,
	} {
		f.Add([]byte(seed))
	}
	authority := &lastRevoked{}
	r := jobs.NewRevoker(jobs.RevokerConfig{
		Entries: ledger{}, Imported: ledger{}, Log: zap.NewNop(), Audit: zap.NewNop(),
		CAs:     []jobs.RevocationCA{{Name: "issuing", Authority: authority}},
		Tenants: map[string]jobs.RevocationTenant{"s": {Name: tenant}},
	})
	f.Fuzz(func(t *testing.T, content []byte) {
		if authority.chain == nil {
			authority.chain = chainOf(t, "Contoso Issuing CA")
		}
		authority.serial = nil
		end := r.Do(context.Background(), journal.Job{Source: "s", AcceptedAt: time.Now(), NewJob: journal.NewJob{Kind: journal.RevokeJob, Context: "r", Content: content}})
		if end.Result == nil || end.Later != nil || end.Save != nil {
			t.Fatalf("no end: %+v", end)
		}
		if end.Result.Succeeded != (authority.serial != nil) {
			t.Errorf("told %t, revoked %v", end.Result.Succeeded, authority.serial)
		}
		if authority.serial != nil {
			if s := fmt.Sprintf("%X", authority.serial); s != "4711" && s != "BAD" {
				t.Errorf("revoked %s", s)
			}
		}
		if !end.Result.Succeeded && (end.Result.Code == 0 || end.Result.Text == "") {
			t.Errorf("a failure without code or text: %+v", end.Result)
		}
	})
}
