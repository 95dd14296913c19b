package static_test

import (
	"crypto/x509"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/policymodule/moduletest"
	"github.com/certconnector/certconnector/policymodule/static"
)

const good = secret.Text("0123456789abcdef0123456789abcdef")

func request(id string, challenge secret.Text) policymodule.Request {
	return policymodule.Request{
		Endpoint: "lab", TransactionID: id,
		CSR: &pkcs10.Request{Raw: []byte(id), ChallengePassword: challenge, PublicKey: testkeys.RSA2048(0).Public()},
	}
}

func TestContract(t *testing.T) {
	moduletest.Run(t, func(t *testing.T) moduletest.Subject {
		m, err := static.New(static.Config{Challenge: good, AllowStaticChallenge: true})
		if err != nil {
			t.Fatal(err)
		}
		var n atomic.Int64
		return moduletest.Subject{
			Module: m,
			Request: func(*testing.T) policymodule.Request {
				return request(fmt.Sprintf("request %d", n.Add(1)), good)
			},
			Spoil: func(_ *testing.T, r policymodule.Request) policymodule.Request {
				return request(r.TransactionID, good+"x")
			},
			Rename: func(*testing.T, policymodule.Request) policymodule.Request { return request("renamed", good) },
		}
	})
}

func TestNewIsFenced(t *testing.T) {
	for _, row := range []struct {
		name      string
		challenge secret.Text
		allow     bool
		want      string // in the error; "": none
	}{
		{"a good secret that is allowed", good, true, ""},
		{"32 hexadecimal digits are the least", good, true, ""},
		{"31 hexadecimal digits", good[1:], true, "can be guessed"},
		{"22 letters and digits of both cases", "a1B2c3D4e5F6g7H8i9J0kL", true, ""},
		{"21 letters and digits of both cases", "a1B2c3D4e5F6g7H8i9J0k", true, "can be guessed"},
		{"26 characters of base32", "ABCDEFGHIJKLMNOPQRSTUVWX23", true, ""},
		{"not allowed", good, false, "allow_static_challenge"},
		{"empty", "", true, "can be guessed"},
		{"a password", "Summer-2026!", true, "can be guessed"},
		{"long but simple", secret.Text(strings.Repeat("abcdefg", 20)), true, "can be guessed"},
		{"bytes are not characters", "ääääöööö", true, "can be guessed"},
	} {
		t.Run(row.name, func(t *testing.T) {
			_, err := static.New(static.Config{Challenge: row.challenge, AllowStaticChallenge: row.allow})
			switch {
			case row.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
				t.Errorf("error %v, want one about %q", err, row.want)
			case err != nil && row.challenge != "" && strings.Contains(err.Error(), row.challenge.Reveal()):
				t.Error("the error shows the secret")
			}
		})
	}
}

func TestNewWarns(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	if _, err := static.New(static.Config{Challenge: good, AllowStaticChallenge: true, Log: zap.New(core)}); err != nil {
		t.Fatal(err)
	}
	if logs.FilterLevelExact(zap.WarnLevel).Len() != 1 {
		t.Errorf("%d warnings at the start, want 1", logs.Len())
	}
}

func TestRenewals(t *testing.T) {
	for _, row := range []struct {
		name    string
		refuse  bool
		renewal *x509.Certificate
		granted bool
		rule    policymodule.Reason
	}{
		{"a renewal is granted", false, &x509.Certificate{}, true, ""},
		{"a renewal is refused where renewals are", true, &x509.Certificate{}, false, static.RuleRenewal},
		{"no challenge and no certificate of ours", false, nil, false, static.RuleMissing},
	} {
		t.Run(row.name, func(t *testing.T) {
			m, err := static.New(static.Config{Challenge: good, AllowStaticChallenge: true, RefuseRenewals: row.refuse})
			if err != nil {
				t.Fatal(err)
			}
			r := request("renewal", "")
			r.Renewal = row.renewal
			d, err := m.Verify(t.Context(), r)
			if err != nil || d.Granted != row.granted || d.Rule != row.rule {
				t.Errorf("decision %+v, error %v", d, err)
			}
		})
	}
}
