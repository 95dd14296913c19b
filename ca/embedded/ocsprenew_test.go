package embedded_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/catest"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/secret"
)

// signerOf is the certificate of whoever answers about a serial number that
// nobody has: such an answer is never kept.
func signerOf(t testing.TB, r *embedded.Responder, authority *embedded.CA) *x509.Certificate {
	t.Helper()
	return wantOCSP(t, r, big.NewInt(99), rootCert(t, authority), ocsp.Unknown).Certificate
}

func TestOCSPSignerIsRenewed(t *testing.T) {
	at := startOf2031()
	authority, reg := publishingCA(t, at, nil)
	r := newResponder(t, embedded.ResponderConfig{CAs: []*embedded.CA{authority}})
	root := rootCert(t, authority)
	renew := func() {
		t.Helper()
		if err := r.Renew(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	serial := issueOne(t, authority).SerialNumber
	first := signerOf(t, r, authority)
	at.at = at.at.Add(4 * day)
	renew()
	if got := signerOf(t, r, authority); !got.Equal(first) {
		t.Error("renewed with half of its life left")
	}
	wantOCSP(t, r, serial, root, ocsp.Good)
	at.at = at.at.Add(17 * time.Hour)
	renew()
	second := signerOf(t, r, authority)
	if second.Equal(first) || bytes.Equal(second.RawSubjectPublicKeyInfo, first.RawSubjectPublicKeyInfo) {
		t.Error("not renewed, or with the old key")
	}
	if overlap := first.NotAfter.Sub(second.NotBefore); overlap < 2*day {
		t.Errorf("both are valid for %v", overlap)
	}

	// A signer that is revoked is replaced with the next look.
	if err := authority.Revoke(t.Context(), second.SerialNumber, ca.KeyCompromise); err != nil {
		t.Fatal(err)
	}
	renew()
	third := signerOf(t, r, authority)
	if third.Equal(second) {
		t.Error("a revoked signer answers")
	}

	// The CA cannot record another: this one goes on to its end, and no longer.
	at.at = third.NotAfter.Add(-30 * time.Minute)
	reg.Break(catest.AddCertificate, errDisk, false)
	if err := r.Renew(t.Context()); !errors.Is(err, ca.ErrOutcomeUnknown) {
		t.Errorf("Renew: %v", err)
	}
	if got := wantOCSP(t, r, serial, root, ocsp.Good); got.NextUpdate.After(third.NotAfter) {
		t.Errorf("a response until %v, its signer until %v", got.NextUpdate, third.NotAfter)
	}
	at.at = third.NotAfter
	_, err := post(t, r, ocspRequest(t, serial, root, crypto.SHA1), root)
	if got, ok := errors.AsType[ocsp.ResponseError](err); !ok || got.Status != ocsp.TryLater {
		t.Errorf("%v without a signer, want tryLater", err)
	}
	renew()
	wantOCSP(t, r, serial, root, ocsp.Good)
}

func TestOCSPRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		authority, _ := publishingCA(t, &clock{time.Now()}, func(cfg *embedded.Config) { cfg.Clock = time.Now })
		r, err := embedded.NewResponder(embedded.ResponderConfig{CAs: []*embedded.CA{authority}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = post(t, r, ocspRequest(t, big.NewInt(99), rootCert(t, authority), crypto.SHA1), nil)
		if got, ok := errors.AsType[ocsp.ResponseError](err); !ok || got.Status != ocsp.TryLater {
			t.Errorf("%v before the first signer, want tryLater", err)
		}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.Run(ctx) }()
		synctest.Wait()
		first := signerOf(t, r, authority)
		time.Sleep(30 * day)
		synctest.Wait()
		if last := signerOf(t, r, authority); last.Equal(first) || time.Until(last.NotAfter) < 2*day {
			t.Errorf("after 30 days the signer ends %v", last.NotAfter)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestOCSPSignerOverARestart(t *testing.T) {
	other, err := secret.NewSealer(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	for name, sealer := range map[string]*secret.Sealer{"sealed": newSealer(t), "as PEM": nil} {
		t.Run(name, func(t *testing.T) {
			at := startOf2031()
			dir := filepath.Join(t.TempDir(), "ocsp")
			authority, _ := publishingCA(t, at, func(cfg *embedded.Config) { cfg.Name = "../elsewhere" })
			start := func(with *secret.Sealer) *x509.Certificate {
				t.Helper()
				r := newResponder(t, embedded.ResponderConfig{CAs: []*embedded.CA{authority}, Store: embedded.NewSignerFolder(dir, with)})
				return signerOf(t, r, authority)
			}
			first := start(sealer)
			if again := start(sealer); !again.Equal(first) {
				t.Error("another signer after a restart")
			}
			files, err := os.ReadDir(dir)
			if err != nil || len(files) != 1 {
				t.Fatalf("%d files, %v", len(files), err)
			}
			path := filepath.Join(dir, files[0].Name())
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(b, []byte("PRIVATE KEY")) != (sealer == nil) {
				t.Error("a sealed key is readable, or PEM is not")
			}
			if info, err := files[0].Info(); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
				t.Errorf("mode %v, %v", info.Mode(), err)
			}
			if sealer != nil {
				if got := start(other); got.Equal(first) {
					t.Error("opened with another local key")
				}
			}
			// What does not read, and what has ended, is replaced, whatever a
			// crash left beside it.
			if err := os.WriteFile(path+".new", []byte("half"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte("-----BEGIN"), 0o600); err != nil {
				t.Fatal(err)
			}
			second := start(sealer)
			if again := start(sealer); second.Equal(first) || !again.Equal(second) {
				t.Error("a damaged file was used, or not replaced")
			}
			at.at = at.at.Add(8 * day)
			if third := start(sealer); third.Equal(second) {
				t.Error("a signer that has ended answers")
			}
			// So is one that was revoked while the service was down.
			fourth := start(sealer)
			if err := authority.Revoke(t.Context(), fourth.SerialNumber, ca.KeyCompromise); err != nil {
				t.Fatal(err)
			}
			if fifth := start(sealer); fifth.Equal(fourth) {
				t.Error("a revoked signer answers after a restart")
			}
		})
	}
}

// TestOCSPKeepsFewResponses asks for two where one is kept.
func TestOCSPKeepsFewResponses(t *testing.T) {
	at := startOf2031()
	authority, _ := publishingCA(t, at, nil)
	r := newResponder(t, embedded.ResponderConfig{CAs: []*embedded.CA{authority}, MaxKept: 1})
	root := rootCert(t, authority)
	one, two := issueOne(t, authority).SerialNumber, issueOne(t, authority).SerialNumber
	first := wantOCSP(t, r, one, root, ocsp.Good)
	at.at = at.at.Add(time.Second)
	if again := wantOCSP(t, r, one, root, ocsp.Good); !again.ThisUpdate.Equal(first.ThisUpdate) {
		t.Error("one response is not kept")
	}
	wantOCSP(t, r, two, root, ocsp.Good)
	if again := wantOCSP(t, r, one, root, ocsp.Good); again.ThisUpdate.Equal(first.ThisUpdate) {
		t.Error("two responses are kept")
	}
}

// TestOCSPDuringRevocations asks without pause while certificates are revoked:
// once Revoke has returned, nobody hears "good" any more. In a bubble, where the
// four seconds for which a request waits for its turn do not pass.
func TestOCSPDuringRevocations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		authority, _ := publishingCA(t, startOf2031(), nil)
		r := newResponder(t, embedded.ResponderConfig{CAs: []*embedded.CA{authority}, MaxKept: 3})
		root := rootCert(t, authority)
		var running sync.WaitGroup
		for range 4 {
			serial := issueOne(t, authority).SerialNumber
			request := ocspRequest(t, serial, root, crypto.SHA1)
			var revoked atomic.Bool
			for range 3 {
				running.Go(func() {
					for range 100 {
						before := revoked.Load()
						got, err := post(t, r, request, root)
						if err != nil || before && got.Status != ocsp.Revoked {
							t.Errorf("revoked %t, answered %+v, %v", before, got, err)
							return
						}
					}
				})
			}
			running.Go(func() {
				if err := authority.Revoke(t.Context(), serial, ca.Superseded); err != nil {
					t.Error(err)
				}
				revoked.Store(true)
			})
		}
		running.Wait()
	})
}
