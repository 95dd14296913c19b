package intune_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha512"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/intune/intunetest"
)

const (
	thumb   = "9F1C000000000000000000000000000000000001"
	obrien  = "o'brien+x@contoso.example"
	brienID = "0b71e000-0000-4000-8000-000000000001"
)

// pfxWorld is a cloud whose application may import PFX certificates.
func pfxWorld(t *testing.T, options intunetest.Options) *world {
	t.Helper()
	tenant := intunetest.Contoso()
	tenant.Apps[0].Roles = append(tenant.Apps[0].Roles, intunetest.RolePFX, intunetest.RoleUsers)
	tenant.Users = []intunetest.User{{ID: brienID, Name: obrien}}
	options.Tenants = []intunetest.Tenant{tenant}
	return newWorld(t, options)
}

// userPFX is a certificate to import.
func userPFX(t *testing.T) intune.UserPFX {
	t.Helper()
	password, err := intune.SealPFXPassword(&testkeys.RSA2048(0).PublicKey, "", "secret~1")
	if err != nil {
		t.Fatal(err)
	}
	return intune.UserPFX{
		UserPrincipalName: obrien, Thumbprint: thumb, IntendedPurpose: "SmimeEncryption",
		Start: time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC), Expires: time.Date(2029, 3, 1, 0, 0, 0, 0, time.UTC),
		ProviderName: "Microsoft Software Key Storage Provider", KeyName: "PFXEncryptionKey",
		EncryptedPFX: []byte("a PFX"), EncryptedPassword: password,
	}
}

// A certificate goes to Graph's beta as it is, is found again without its
// contents, and deleted, which may be said twice.
func TestPFX(t *testing.T) {
	w := pfxWorld(t, intunetest.Options{})
	id, err := w.client.UserID(t.Context(), obrien)
	if err != nil || id != brienID {
		t.Fatalf("user %q, %v", id, err)
	}
	if _, err := w.client.PFX(t.Context(), id, thumb); !errors.Is(err, intune.ErrNotFound) {
		t.Errorf("before: %v, want ErrNotFound", err)
	}
	p := userPFX(t)
	if err := w.client.CreatePFX(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	kept := w.cloud.PFX()[0]
	if kept.ID != "0b71e000000040008000000000000001-"+strings.ToLower(thumb) || !bytes.Equal(kept.Blob, p.EncryptedPFX) ||
		kept.IntendedPurpose != "smimeEncryption" || kept.PaddingScheme != "oaepSha512" || !kept.Expires.Equal(p.Expires) {
		t.Errorf("kept %+v", kept)
	}
	if plain, err := rsa.DecryptOAEP(sha512.New(), nil, testkeys.RSA2048(0), kept.Password, nil); err != nil || string(plain) != "secret~1" {
		t.Errorf("the password does not open: %v", err)
	}
	got, err := w.client.PFX(t.Context(), id, strings.ToLower(thumb))
	if err != nil {
		t.Fatal(err)
	}
	if got.UserPrincipalName != obrien || got.IntendedPurpose != intune.PFXSMIMEEncryption || got.PaddingScheme != intune.PFXPaddingSHA512 ||
		!got.Start.Equal(p.Start) || !got.Created.Equal(w.clock.Now()) || !bytes.Equal(got.EncryptedPFX, []byte{0}) || len(got.EncryptedPassword) != 0 {
		t.Errorf("read %+v", got)
	}
	if err := w.client.CreatePFX(t.Context(), p); !errors.Is(err, intune.ErrExists) {
		t.Errorf("twice: %v, want ErrExists", err)
	}
	for range 2 {
		if err := w.client.DeletePFX(t.Context(), id, thumb); err != nil {
			t.Fatal(err)
		}
	}
	if left := w.cloud.PFX(); len(left) != 0 {
		t.Errorf("left %+v", left)
	}
	if n := w.counts()[intunetest.Token]; n != 1 {
		t.Errorf("%d tokens, want Graph's alone", n)
	}
}

func TestUserIsUnknown(t *testing.T) {
	w := pfxWorld(t, intunetest.Options{})
	if _, err := w.client.UserID(t.Context(), "nobody@contoso.example"); !errors.Is(err, intune.ErrNotFound) {
		t.Errorf("error %v, want ErrNotFound", err)
	}
	for _, body := range []string{`{}`, `{"value":{}}`, `{"value":[{"id":"a"},{"id":"b"}]}`, `{"value":[{"id":"a/b"}]}`, `{"value":[{}]}`} {
		w.cloud.Fail(intunetest.Users, 1, intunetest.Fault{Body: body})
		_, err := w.client.UserID(t.Context(), obrien)
		if _, ok := errors.AsType[*intune.ProtocolError](err); !ok {
			t.Errorf("%s: %v, want a ProtocolError", body, err)
		}
	}
	p := userPFX(t)
	p.UserPrincipalName = "nobody@contoso.example"
	if err := w.client.CreatePFX(t.Context(), p); !intune.Final(err) {
		t.Errorf("a certificate for nobody: %v, want a final error", err)
	}
}

// What Graph would refuse is not sent, and no error shows a password.
func TestPFXArguments(t *testing.T) {
	w := pfxWorld(t, intunetest.Options{})
	for name, spoil := range map[string]func(*intune.UserPFX){
		"no user":                        func(p *intune.UserPFX) { p.UserPrincipalName = "" },
		"no provider":                    func(p *intune.UserPFX) { p.ProviderName = "" },
		"no key":                         func(p *intune.UserPFX) { p.KeyName = " " },
		"no PFX":                         func(p *intune.UserPFX) { p.EncryptedPFX = nil },
		"no password":                    func(p *intune.UserPFX) { p.EncryptedPassword = nil },
		"a short thumbprint":             func(p *intune.UserPFX) { p.Thumbprint = "9f1c" },
		"a purpose that is unknown":      func(p *intune.UserPFX) { p.IntendedPurpose = "email" },
		"a purpose that is unsupported":  func(p *intune.UserPFX) { p.IntendedPurpose = "vpn" },
		"a padding that is unsupported":  func(p *intune.UserPFX) { p.PaddingScheme = "pkcs1" },
		"no lifetime":                    func(p *intune.UserPFX) { p.Expires = time.Time{} },
		"an end that is before it began": func(p *intune.UserPFX) { p.Expires = p.Start },
	} {
		p := userPFX(t)
		spoil(&p)
		if err := w.client.CreatePFX(t.Context(), p); !errors.Is(err, intune.ErrArgument) {
			t.Errorf("%s: %v, want ErrArgument", name, err)
		}
	}
	for name, err := range map[string]error{
		"a user ID that is no GUID": w.client.DeletePFX(t.Context(), "../x", thumb),
		"a thumbprint of a path":    w.client.DeletePFX(t.Context(), brienID, "x')/y"),
		"no user principal name":    second(w.client.UserID(t.Context(), "")),
		"no user ID":                second(w.client.PFX(t.Context(), "", thumb)),
	} {
		if !errors.Is(err, intune.ErrArgument) {
			t.Errorf("%s: %v, want ErrArgument", name, err)
		}
	}
	if n := len(w.cloud.Calls()); n != 0 {
		t.Errorf("%d calls", n)
	}
}

// Graph's throttling: a short wait is waited for, in seconds or milliseconds,
// a long one is the caller's, and there is an end.
func TestPFXThrottled(t *testing.T) {
	for _, row := range []struct {
		name  string
		fault intunetest.Fault
		times int
		calls int
		after time.Duration // of the error; -1: there is none
	}{
		{"seconds", intunetest.Fault{Status: 429, RetryAfter: "0"}, 2, 3, -1},
		{"milliseconds", intunetest.Fault{Status: 429, RetryAfterMS: "20"}, 2, 3, -1},
		{"for ever", intunetest.Fault{Status: 429, RetryAfterMS: "1"}, intunetest.Always, 3, time.Millisecond},
		{"a minute", intunetest.Fault{Status: 429, RetryAfter: "60"}, 1, 1, time.Minute},
		{"a minute in milliseconds", intunetest.Fault{Status: 429, RetryAfterMS: "60000"}, 1, 1, time.Minute},
		{"seconds count before milliseconds", intunetest.Fault{Status: 429, RetryAfter: "60", RetryAfterMS: "1"}, 1, 1, time.Minute},
		{"nonsense", intunetest.Fault{Status: 429, RetryAfterMS: "-1"}, 1, 2, -1},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := pfxWorld(t, intunetest.Options{})
			w.cloud.Fail(intunetest.PFXes, row.times, row.fault)
			err := w.client.CreatePFX(t.Context(), userPFX(t))
			if (err == nil) != (row.after < 0) || err != nil && (intune.RetryAfter(err) != row.after || !intune.Retryable(err)) {
				t.Errorf("error %v, wait %v", err, intune.RetryAfter(err))
			}
			if n := w.counts()[intunetest.PFXes]; n != row.calls {
				t.Errorf("%d calls, want %d", n, row.calls)
			}
		})
	}
}

// After a lost answer the certificate is not sent twice by itself; asking
// again tells that it is there.
func TestPFXAnswerLost(t *testing.T) {
	w := pfxWorld(t, intunetest.Options{})
	w.cloud.Fail(intunetest.PFXes, 1, intunetest.Fault{Lose: true})
	err := w.client.CreatePFX(t.Context(), userPFX(t))
	if _, ok := errors.AsType[*intune.NetworkError](err); !ok {
		t.Fatalf("error %v", err)
	}
	if err := w.client.CreatePFX(t.Context(), userPFX(t)); !errors.Is(err, intune.ErrExists) {
		t.Errorf("again: %v, want ErrExists", err)
	}
	w.cloud.Fail(intunetest.PFXes, 1, intunetest.Fault{Lose: true})
	if err := w.client.DeletePFX(t.Context(), brienID, thumb); err != nil {
		t.Errorf("deleting: %v", err)
	}
}

// Each permission that is missing is named, and sought again after consent.
func TestPFXPermissions(t *testing.T) {
	w := newWorld(t, intunetest.Options{})
	for permission, call := range map[string]func() error{
		"User.Read.All": func() error { _, err := w.client.UserID(t.Context(), "user1@contoso.example"); return err },
		"DeviceManagementConfiguration.ReadWrite.All": func() error { _, err := w.client.PFX(t.Context(), brienID, thumb); return err },
	} {
		err := call()
		if e, ok := errors.AsType[*intune.HTTPError](err); !ok || e.Status != http.StatusForbidden || !strings.Contains(err.Error(), "grant "+permission) {
			t.Errorf("error %v, want one that names %s", err, permission)
		}
	}
	p := userPFX(t)
	p.UserPrincipalName = "user1@contoso.example"
	if err := w.client.CreatePFX(t.Context(), p); err == nil || !strings.Contains(err.Error(), "DeviceManagementConfiguration.ReadWrite.All") {
		t.Errorf("error %v", err)
	}
	_ = w.cloud.SetRoles(intunetest.ContosoID, intunetest.ContosoClient, intunetest.RoleGraph, intunetest.RolePFX, intunetest.RoleUsers)
	w.clock.Advance(time.Minute)
	if err := w.client.CreatePFX(t.Context(), p); err != nil {
		t.Errorf("after consent: %v", err)
	}
}

// The version of Graph is configured, for beta may end.
func TestPFXVersion(t *testing.T) {
	w := pfxWorld(t, intunetest.Options{})
	w.client = w.newClient(t, func(c *intune.Config) { c.Endpoints.PFXVersion = "v1.0" })
	if err := w.client.CreatePFX(t.Context(), userPFX(t)); !errors.Is(err, intune.ErrNotFound) {
		t.Errorf("v1.0 does not have them yet: %v", err)
	}
	for _, body := range []string{`{}`, `null`, `{"thumbprint":"x"}`, `[]`} {
		w.client = w.newClient(t)
		w.cloud.Fail(intunetest.PFXes, 1, intunetest.Fault{Body: body})
		_, err := w.client.PFX(t.Context(), brienID, thumb)
		if _, ok := errors.AsType[*intune.ProtocolError](err); !ok {
			t.Errorf("%s: %v, want a ProtocolError", body, err)
		}
	}
	w.cloud.Fail(intunetest.PFXes, 1, intunetest.Fault{Body: `{"thumbprint":"` + thumb + `","intendedPurpose":"Vpn","paddingScheme":"OaepSha1","createdDateTime":null}`})
	if p, err := w.client.PFX(t.Context(), brienID, thumb); err != nil || p.IntendedPurpose != "Vpn" || p.PaddingScheme != "OaepSha1" || !p.Created.IsZero() {
		t.Errorf("an old one: %+v, %v", p, err)
	}
}
