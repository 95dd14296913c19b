//go:build e2ewindows

package ndesdll_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/policymodule"
)

// HRESULTs, as winerror.h and winhttp.h have them.
const (
	sOK              = 0
	eNotImpl         = 0x80004001
	eInvalidArg      = 0x80070057
	notReady         = 0x80070015
	notFound         = 0x80070490
	badConfiguration = 0x8007064a
	requestRefused   = 0x800710e0
	cryptNotFound    = 0x80092004
	notTrusted       = 0x800b0004
	classMissing     = 0x80040154
	valueMissing     = 0x80070002
	statusForbidden  = 0x80190193
	statusRedirect   = 0x80190133
	winTimeout       = 0x80072ee2
	winCannotConnect = 0x80072efd
	winInvalidAnswer = 0x80072f78
)

// fixture is Windows with the module in it, and the registration point.
type fixture struct {
	*world
	*host
	wine       *wine
	thumbprint string
}

// TestPolicyModule drives the real DLL under Wine against the real
// registration point. One prefix serves all: making one takes many seconds.
func TestPolicyModule(t *testing.T) {
	f := &fixture{wine: newWine(t)}
	f.wine.build(t)
	f.world = newWorld(t)
	f.host = f.wine.host(t)
	f.want(sOK, "set", "LogFile", `C:\ndes\ndespolicy.log`)
	f.want(sOK, "setnumber", "LogLevel", "3")
	root := hex.EncodeToString(f.ca.Raw)
	f.want(sOK, "root", root)
	for _, s := range []struct {
		name string
		run  func(*testing.T, *fixture)
	}{
		{"another module stays", anotherModule},
		{"registered", registered},
		{"configuration", configuration},
		{"arguments", arguments},
		{"accept and tell", acceptAndTell},
		{"refuse", refuse},
		{"renewal", renewal},
		{"failure", failure},
		{"pending", pending},
		{"later", later},
		{"refused for good", refusedForGood},
		{"once more", onceMore},
		{"never taken", neverTaken},
		{"unknown", unknown},
		{"several requests of one transaction", severalRequests},
		{"recycled", recycled},
		{"impersonation", impersonation},
		{"threads", threads},
		{"wrong client certificate", wrongClient},
		{"pins", pins},
		{"untrusted server", untrusted},
		{"not there", notThere},
		{"odd servers", oddServers},
		{"the cloud is down", cloudDown},
		{"log", logged},
		{"unregistered", unregistered},
	} {
		if !t.Run(s.name, func(t *testing.T) { f.host.t = t; s.run(t, f) }) && s.name == "registered" {
			break
		}
	}
	f.host.t = t
}

func anotherModule(t *testing.T, f *fixture) {
	f.want(sOK, "setmodule", "Another.Module.1")
	if f.wine.regsvr32(t) == nil {
		t.Error("registered although NDES has another policy module")
	}
	f.want(classMissing, "create", "class")
	if f.wine.regsvr32(t, "/u") != nil {
		t.Error("cannot be unregistered beside another module")
	}
	// CLSIDFromProgID of a name that nobody registered.
	f.want(0x800401f3, "create")
	f.want(sOK, "setmodule", "-")
}

func registered(t *testing.T, f *fixture) {
	for range 2 { // again is no error: so an administrator repairs
		if err := f.wine.regsvr32(t); err != nil {
			t.Fatal(err)
		}
	}
	f.want(sOK, "create")
	if left := f.want(sOK, "release"); left != 0 {
		t.Errorf("%d references left", left)
	}
	f.want(sOK, "create")
}

func configuration(t *testing.T, f *fixture) {
	f.want(notReady, "verify", "00", "-", "T", "tx")
	f.want(notReady, "notify", "tx", "2", "0", "-")
	f.want(badConfiguration, "init")
	f.want(sOK, "set", "Endpoint", "corp")
	f.want(sOK, "setca", `ca01\Corp`)
	f.want(sOK, "set", "ClientCertThumbprint", strings.Repeat("ab", 20))
	f.want(sOK, "set", "Url", "http://"+f.address)
	f.want(badConfiguration, "init")
	f.want(sOK, "set", "Url", "https://"+f.address+"/")
	f.want(cryptNotFound, "init")
	f.want(notReady, "verify", "00", "-", "T", "tx")
	f.thumbprint = f.client(t, f.host, "ndes.corp.example", testkeys.RSA2048(1))
	f.want(sOK, "set", "ClientCertThumbprint", f.thumbprint)
	f.want(sOK, "set", "ServerPins", "nonsense")
	f.want(badConfiguration, "init")
	f.want(sOK, "set", "ServerPins", "-")
	f.want(sOK, "init")
}

// again reads the configuration anew, as a restart of IIS does.
func (f *fixture) again() {
	f.want(sOK, "uninit")
	f.want(sOK, "init")
}

func arguments(t *testing.T, f *fixture) {
	f.want(sOK, "nulls")
	if null := f.want(eNotImpl, "generate"); null != 1 {
		t.Error("GenerateChallenge returns a challenge")
	}
	for _, words := range [][]string{
		{"verify", "-", "-", "T", "tx"}, {"verify", "empty", "-", "T", "tx"}, {"verify", "huge", "-", "T", "tx"},
		{"verify", "hollow", "-", "T", "tx"}, {"verify", "00", "huge", "T", "tx"}, {"verify", "00", "-", "long", "tx"},
		{"verify", "00", "-", "T", "-"}, {"verify", "00", "-", "T", "long"}, {"verify", "00", "-", "T", "surrogate"},
		{"notify", "-", "2", "0", "-"}, {"notify", "tx", "0", "0", "-"}, {"notify", "tx", "0", "0", "huge"},
		{"notify", "tx", "0", "0", "3003020101"}, {"notify", "tx", "-1", "0", "-"}, {"notify", "tx", "7", "0", "-"},
	} {
		if ok := f.want(eInvalidArg, words...); ok != 0 {
			t.Errorf("%v: verified %d", words, ok)
		}
	}
}

// granted asks about a request that the cloud grants.
func (f *fixture) granted(t *testing.T) request {
	t.Helper()
	r := f.request(t)
	if ok := f.want(sOK, "verify", r.hex(), "-", "Device", r.transaction); ok != 1 {
		t.Fatal("a good request is not verified")
	}
	return r
}

func acceptAndTell(t *testing.T, f *fixture) {
	r := f.granted(t)
	if asked := f.asked.last(); asked.TransactionID != r.transaction || asked.Template != "Device" || asked.Endpoint != "corp" || asked.Renewal != nil {
		t.Errorf("asked about %q, %q, %q", asked.TransactionID, asked.Template, asked.Endpoint)
	}
	f.want(sOK, "notify", r.transaction, "0", "0", f.certificate(t, r))
	told := f.reporter.of(r.transaction)
	if len(told) != 1 || told[0].Certificate == nil || told[0].IssuingCA != `ca01\Corp` || !bytes.Equal(told[0].CSR, r.csr.Raw) {
		t.Errorf("told %d outcomes", len(told))
	}
	// What was told is forgotten.
	f.want(notFound, "notify", r.transaction, "0", "0", f.certificate(t, r))
}

func refuse(t *testing.T, f *fixture) {
	r := f.request(t, func(c *intunetest.Challenge) { c.Subject = "CN=somebody else" })
	if ok := f.want(sOK, "verify", r.hex(), "empty", "Device", r.transaction); ok != 0 {
		t.Fatal("a request for other names is verified")
	}
	f.want(sOK, "notify", r.transaction, "2", "80094800", "-")
	if told := f.reporter.of(r.transaction); len(told) != 0 {
		t.Error("the outcome of a refused request is told")
	}
}

func renewal(t *testing.T, f *fixture) {
	r := f.request(t)
	signer := f.certificate(t, r)
	if ok := f.want(sOK, "verify", r.hex(), signer, "-", r.transaction); ok != 1 {
		t.Fatal("a renewal is not verified")
	}
	if asked := f.asked.last(); asked.Renewal == nil || hex.EncodeToString(asked.Renewal.Raw) != signer || asked.Template != "" {
		t.Error("the signer's certificate is not shown")
	}
	f.want(sOK, "notify", r.transaction, "0", "0", f.certificate(t, r))
}

func failure(t *testing.T, f *fixture) {
	r := f.granted(t)
	f.want(sOK, "notify", r.transaction, "2", "80094800", "-")
	told := f.reporter.of(r.transaction)
	if len(told) != 1 || told[0].Certificate != nil || uint32(told[0].HResult) != 0x80094800 || told[0].Description == "" {
		t.Errorf("told %+v", told)
	}
}

func pending(t *testing.T, f *fixture) {
	r := f.granted(t)
	f.want(sOK, "notify", r.transaction, "3", "0", "-")
	f.want(sOK, "notify", r.transaction, "11", "0", "-")
	if told := f.reporter.of(r.transaction); len(told) != 0 {
		t.Error("a pending request is told of")
	}
	f.want(sOK, "notify", r.transaction, "0", "0", f.certificate(t, r))
}

func later(t *testing.T, f *fixture) {
	f.reporter.set(false)
	defer f.reporter.set(true)
	r := f.granted(t)
	f.want(sOK, "notify", r.transaction, "0", "0", f.certificate(t, r))
	wantLog(t, f, "recorded and will be told")
}

func refusedForGood(t *testing.T, f *fixture) {
	f.reporter.set(false, policymodule.ErrNotifyRefused)
	defer f.reporter.set(true)
	r := f.granted(t)
	f.want(requestRefused, "notify", r.transaction, "0", "0", f.certificate(t, r))
	if told := f.reporter.of(r.transaction); len(told) != 1 {
		t.Errorf("told %d times, want once: a final refusal is not repeated", len(told))
	}
}

func onceMore(t *testing.T, f *fixture) {
	f.reporter.set(true, errors.New("the disk is full"))
	r := f.granted(t)
	f.want(sOK, "notify", r.transaction, "0", "0", f.certificate(t, r))
	if told := f.reporter.of(r.transaction); len(told) != 2 {
		t.Errorf("told %d times, want two", len(told))
	}
}

func neverTaken(t *testing.T, f *fixture) {
	f.want(sOK, "setnumber", "NotifyTimeoutMs", "1500")
	f.again()
	broken := errors.New("the disk is full")
	f.reporter.set(true, broken, broken, broken, broken)
	r := f.granted(t)
	f.want(winTimeout, "notify", r.transaction, "0", "0", f.certificate(t, r))
	wantLog(t, f, "it is kept and told later")
	f.reporter.set(true)
	f.want(sOK, "setnumber", "NotifyTimeoutMs", "60000")
	f.toldLater(t, r)
}

// toldLater restarts, as IIS does, and waits until what is owed is told.
func (f *fixture) toldLater(t *testing.T, r request) {
	t.Helper()
	before := len(f.reporter.of(r.transaction))
	f.again()
	for deadline := time.Now().Add(2 * time.Minute); len(f.reporter.of(r.transaction)) == before; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("what is owed is not told later")
		}
	}
	told := f.reporter.of(r.transaction)
	if last := told[len(told)-1]; last.Certificate == nil || !bytes.Equal(last.CSR, r.csr.Raw) {
		t.Error("something else is told later")
	}
}

func unknown(t *testing.T, f *fixture) {
	r := f.request(t)
	f.want(notFound, "notify", "never-seen", "0", "0", f.certificate(t, r))
	f.want(notFound, "notify", "never-seen", "2", "80094800", "-")
	granted := f.granted(t)
	other := hex.EncodeToString(issue(t, f.ca, testkeys.RSA2048(5), "device", 2).Raw)
	f.want(notFound, "notify", granted.transaction, "0", "0", other)
	wantLog(t, f, "is released, but not told")
}

func severalRequests(t *testing.T, f *fixture) {
	first, second := f.granted(t), f.request(t)
	if ok := f.want(sOK, "verify", second.hex(), "-", "Device", first.transaction); ok != 1 {
		t.Fatal("a second request of one transaction is not verified")
	}
	f.want(sOK, "notify", first.transaction, "0", "0", f.certificate(t, first))
	if told := f.reporter.of(first.transaction); len(told) != 1 || !bytes.Equal(told[0].CSR, second.csr.Raw) {
		t.Error("the newest request does not come first")
	}
}

// recycled is a new object: what it knows of requests under way is on disk.
func recycled(t *testing.T, f *fixture) {
	r := f.granted(t)
	f.want(sOK, "uninit")
	f.want(sOK, "release")
	f.want(sOK, "create")
	f.want(sOK, "init")
	f.want(sOK, "notify", r.transaction, "0", "0", f.certificate(t, r))
	if told := f.reporter.of(r.transaction); len(told) != 1 || !bytes.Equal(told[0].CSR, r.csr.Raw) {
		t.Error("not told after a restart")
	}
	files, err := os.ReadDir(f.wine.Drive("ndes", "pending"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		sealed, err := os.ReadFile(f.wine.Drive("ndes", "pending", file.Name()))
		if err != nil || bytes.Contains(sealed, []byte(r.challenge[:32])) {
			t.Errorf("%s: a challenge is on disk in the clear (%v)", file.Name(), err)
		}
	}
}

func impersonation(t *testing.T, f *fixture) {
	r := f.request(t)
	if got := f.want(sOK, "impersonated", r.hex(), "-", "Device", r.transaction); got != 11 {
		t.Errorf("verified and still impersonating: %d, want 11", got)
	}
}

func threads(t *testing.T, f *fixture) {
	const each = 4
	var all []request
	for range 8 * each {
		all = append(all, f.request(t))
	}
	bad := f.request(t, func(c *intunetest.Challenge) { c.Subject = "CN=somebody else" })
	for i := 0; i < len(all); i += 8 {
		for _, r := range all[i : i+8] {
			f.line("job", "verify", r.hex(), "-", "Device", r.transaction)
		}
		f.line("job", "verify", bad.hex(), "-", "Device", bad.transaction)
		if failed, ok := f.call("run"); failed != 0 || ok != 8 {
			t.Fatalf("%d calls failed, %d verified, want 0 and 8", failed, ok)
		}
		for _, r := range all[i : i+8] {
			f.line("job", "notify", r.transaction, "0", "0", f.certificate(t, r))
		}
		if failed, _ := f.call("run"); failed != 0 {
			t.Fatalf("%d notifications failed", failed)
		}
	}
	for _, r := range all {
		if told := f.reporter.of(r.transaction); len(told) != 1 || !bytes.Equal(told[0].CSR, r.csr.Raw) {
			t.Errorf("%s told %d times", r.transaction, len(told))
		}
	}
}

func cloudDown(t *testing.T, f *fixture) {
	r := f.request(t)
	f.cloud.SetOutage(true)
	if ok := f.want(0x801901f7, "verify", r.hex(), "-", "Device", r.transaction); ok != 0 {
		t.Error("verified without the cloud")
	}
	f.cloud.SetOutage(false)
	if ok := f.want(sOK, "verify", r.hex(), "-", "Device", r.transaction); ok != 1 {
		t.Error("not verified when the cloud is back")
	}
}

func readLog(t *testing.T, f *fixture) string {
	t.Helper()
	text, err := os.ReadFile(f.wine.Drive("ndes", "ndespolicy.log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func wantLog(t *testing.T, f *fixture, part string) {
	t.Helper()
	if !strings.Contains(readLog(t, f), part) {
		t.Errorf("the log does not say %q", part)
	}
}

func logged(t *testing.T, f *fixture) {
	for _, part := range []string{
		"Calling VerifyRequest ...", "Sending request to certificate registration point.", "Verify challenge returns true",
		"Verify challenge returns false (rule intune_subject_mismatch)", "Exiting VerifyRequest with 0x0", "Calling Notifyrequest ...", "Exiting Notify with 0x0",
	} {
		wantLog(t, f, part)
	}
	r := f.granted(t)
	text := readLog(t, f)
	if strings.Contains(text, r.challenge[:24]) || strings.Contains(text, base64.StdEncoding.EncodeToString(r.csr.Raw)[:32]) {
		t.Error("a challenge or a request is in the log")
	}
	// A full file gives way to a new one.
	full := bytes.Repeat([]byte("x"), 5<<20)
	if err := os.WriteFile(f.wine.Drive("ndes", "ndespolicy.log"), full, 0o644); err != nil {
		t.Fatal(err)
	}
	f.granted(t)
	if old, err := os.Stat(f.wine.Drive("ndes", "ndespolicy.log.1")); err != nil || old.Size() < 5<<20 || len(readLog(t, f)) > 1<<20 {
		t.Errorf("the log is not rotated (%v)", err)
	}
}

func unregistered(t *testing.T, f *fixture) {
	f.want(sOK, "uninit")
	f.want(notReady, "verify", "00", "-", "T", "tx")
	f.want(sOK, "release")
	if err := f.wine.regsvr32(t, "/u"); err != nil {
		t.Fatal(err)
	}
	f.want(valueMissing, "create")
	f.want(classMissing, "create", "class")
}
