//go:build e2ewindows

package ndesdll_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/certconnector/certconnector/internal/testkeys"
)

// wrongClient asks at another port: Wine keeps a connection, and with it the
// certificate it was made with, beyond the end of a WinHTTP session.
func wrongClient(t *testing.T, f *fixture) {
	other := f.client(t, f.host, "other.corp.example", testkeys.RSA2048(4))
	address, _ := f.serve(t, f.handler, f.ca)
	f.want(sOK, "set", "ClientCertThumbprint", other)
	if hr, ok := f.at(t, address); hr != statusForbidden || ok != 0 {
		t.Errorf("HRESULT 0x%08x, verified %d with a wrong client certificate", hr, ok)
	}
	wantLog(t, f, "rule client_certificate_name")
	f.want(sOK, "set", "ClientCertThumbprint", f.thumbprint)
	f.again()

	// An outcome that meets a wrong certificate is told once that is mended.
	granted := f.granted(t)
	again, _ := f.serve(t, f.handler, f.ca)
	f.want(sOK, "set", "Url", "https://"+again)
	f.want(sOK, "set", "ClientCertThumbprint", other)
	f.again()
	f.want(statusForbidden, "notify", granted.transaction, "0", "0", f.certificate(t, granted))
	f.want(sOK, "set", "Url", "https://"+f.address)
	f.want(sOK, "set", "ClientCertThumbprint", f.thumbprint)
	f.toldLater(t, granted)
}

func pins(t *testing.T, f *fixture) {
	whole, key := sha256.Sum256(f.server.Raw), sha256.Sum256(f.server.RawSubjectPublicKeyInfo)
	for _, row := range []struct {
		name, pins string
		want       uint32
	}{
		{"certificate", hex.EncodeToString(whole[:]), sOK},
		{"public key, second of two", strings.Repeat("00", 32) + "," + hex.EncodeToString(key[:]), sOK},
		{"another", strings.Repeat("00", 32), notTrusted},
	} {
		f.want(sOK, "set", "ServerPins", row.pins)
		f.again()
		r := f.request(t)
		ok := f.want(row.want, "verify", r.hex(), "-", "Device", r.transaction)
		if asked := f.asked.last().TransactionID == r.transaction; (ok == 1) != (row.want == sOK) || asked != (row.want == sOK) {
			t.Errorf("%s: verified %d, reached the server: %t", row.name, ok, asked)
		}
	}
	f.want(sOK, "set", "ServerPins", "-")
	f.again()
}

// at asks a server of the test's own.
func (f *fixture) at(t *testing.T, address string) (hr uint32, ok int) {
	t.Helper()
	f.want(sOK, "set", "Url", "https://"+address)
	f.again()
	r := f.request(t)
	hr, ok = f.call("verify", r.hex(), "-", "Device", r.transaction)
	f.want(sOK, "set", "Url", "https://"+f.address)
	f.again()
	return hr, ok
}

func untrusted(t *testing.T, f *fixture) {
	var served atomic.Int32
	address, _ := f.serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		served.Add(1)
		w.WriteHeader(http.StatusCreated)
		io.WriteString(w, `{"verdict":"granted"}`)
	}), selfSigned(t, "Nobody trusts me"))
	hr, ok := f.at(t, address)
	if hr>>16 != 0x8007 || ok != 0 || served.Load() != 0 {
		t.Errorf("HRESULT 0x%08x, verified %d, %d requests", hr, ok, served.Load())
	}
	wantLog(t, f, "Failed to send http request.")

	// A name that the certificate does not have.
	hr, ok = f.at(t, strings.Replace(f.address, "localhost", "127.0.0.1", 1))
	if hr>>16 != 0x8007 || ok != 0 {
		t.Errorf("another name: HRESULT 0x%08x, verified %d", hr, ok)
	}
}

func notThere(t *testing.T, f *fixture) {
	if hr, ok := f.at(t, "localhost:1"); hr != winCannotConnect || ok != 0 {
		t.Errorf("HRESULT 0x%08x, verified %d", hr, ok)
	}
	wantLog(t, f, "Error 12029 (ERROR_WINHTTP_CANNOT_CONNECT)")
}

func oddServers(t *testing.T, f *fixture) {
	var redirected atomic.Int32
	gaveUp := make(chan struct{})
	defer close(gaveUp)
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			io.WriteString(w, body)
		}
	}
	for _, row := range []struct {
		name  string
		want  uint32
		serve http.HandlerFunc
	}{
		{"a grant is one", sOK, answer(201, `{"verdict":"granted","later":[1,{"a":null}]}`)},
		{"status 200 is no verdict", 0x801900c8, answer(200, `{"verdict":"granted"}`)},
		{"no JSON", winInvalidAnswer, answer(201, `true`)},
		{"a verdict twice", winInvalidAnswer, answer(201, `{"verdict":"granted","verdict":"granted"}`)},
		{"another word", winInvalidAnswer, answer(201, `{"verdict":"GRANTED"}`)},
		{"no body", winInvalidAnswer, answer(201, ``)},
		{"too long", winInvalidAnswer, answer(201, `{"verdict":"granted","x":"`+strings.Repeat("x", 64<<10)+`"}`)},
		{"server error", 0x801901f4, answer(500, `oops`)},
		{"no redirect is followed", statusRedirect, func(w http.ResponseWriter, r *http.Request) {
			if redirected.Add(1); r.URL.Path == "/elsewhere" {
				w.WriteHeader(http.StatusCreated)
				io.WriteString(w, `{"verdict":"granted"}`)
				return
			}
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}},
		{"too slow", winTimeout, func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-gaveUp:
			}
		}},
	} {
		address, _ := f.serve(t, row.serve, f.ca)
		if row.want == winTimeout { // the others have the usual time: a handshake may take two seconds
			f.want(sOK, "setnumber", "TimeoutMs", "2000")
		}
		if hr, ok := f.at(t, address); hr != row.want || (ok == 1) != (row.want == sOK) {
			t.Errorf("%s: HRESULT 0x%08x, verified %d, want 0x%08x", row.name, hr, ok, row.want)
		}
	}
	if redirected.Load() != 1 {
		t.Errorf("%d requests, want one", redirected.Load())
	}
	f.want(sOK, "setnumber", "TimeoutMs", "30000")
	f.again()
}
