//go:build e2e && e2ekeys

package e2e

import (
	"bytes"
	"crypto/rsa"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/certconnector/certconnector/agent/identity"
	"github.com/certconnector/certconnector/internal/keys/keystest"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// withHSM is the program with PKCS #11, which takes cgo.
func withHSM(t *testing.T) string {
	t.Helper()
	need(t, "gcc", "gcc libc6-dev")
	out := filepath.Join(t.TempDir(), "certconnector-pkcs11")
	build := exec.CommandContext(t.Context(), "go", "build", "-tags", "pkcs11", "-o", out, "../../certconnector")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building with PKCS #11: %v\n%s", err, text)
	}
	return out
}

// inventory is "certconnector certificates", by kind, of the first endpoint.
func (w *world) inventory() map[identity.Kind]identity.Item {
	w.t.Helper()
	out, _ := w.command("certificates", "--json") // exit code 1: something needs a person
	var list []identity.Item
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		w.t.Fatalf("certificates: %v: %.300s", err, out)
	}
	rows := map[identity.Kind]identity.Item{}
	for _, i := range list {
		if strings.HasSuffix(i.Name, " devices") || !strings.HasPrefix(i.Name, "endpoint ") {
			rows[i.Kind] = i
		}
	}
	return rows
}

// devicesEnrol has certmonger enrol, and one device of each other kind.
func (w *world) devicesEnrol() {
	w.t.Helper()
	w.certmongerProfile()
	w.certmongerOnce(w.url(intunePath), "")
	for i, platform := range []string{"windows", "ios", "macos", "android"} {
		key := testkeys.RSA2048(i)
		w.mustIssue(w.enrolled(platform, key), key)
	}
}

// tried has a device ask for a certificate with a fresh challenge.
func (w *world) tried(platform string, key *rsa.PrivateKey) (*scepclient.Reply, error) {
	w.t.Helper()
	d := w.device(platform, intunePath)
	m, err := d.Prepare(w.t.Context(), scepclient.EnrollRequest{
		Key: key, DER: w.csr(w.challenge(intunetest.Ask{Platform: platform}), key),
	})
	if err != nil {
		return nil, err
	}
	return d.Send(w.t.Context(), m.Message)
}

func (w *world) enrolled(platform string, key *rsa.PrivateKey) *scepclient.Reply {
	w.t.Helper()
	r, err := w.tried(platform, key)
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) mustBeIn(kind identity.Kind, place string) {
	w.t.Helper()
	if i := w.inventory()[kind]; string(i.Key) != place {
		w.t.Errorf("the key of %s is in %q, want %q: %+v", kind, i.Key, place, i)
	}
}

// TestRAKeysInTPM moves the RA's keys into a TPM by renewing them, and has
// devices enrol through them, also after a restart and after the TPM was away.
func TestRAKeysInTPM(t *testing.T) {
	device := keystest.NewTPM(t)
	w := newWorldOf(t, false)
	w.edit(func(text string) string { return text + "keys: {new: tpm, tpm: {device: " + device.Socket + "}}\n" })
	w.start()
	w.mustBeIn(identity.KindRASigning, "file")
	w.mustCommand("certificates", "renew", "endpoint devices")
	w.mustBeIn(identity.KindRASigning, "tpm")
	w.mustBeIn(identity.KindRAEncryption, "tpm")
	w.devicesEnrol()

	w.stop()
	w.start()
	w.mustBeIn(identity.KindRAEncryption, "tpm")
	key := testkeys.RSA2048(4)
	w.mustIssue(w.enrolled("windows", key), key)
	device.Stop()
	if r, err := w.tried("ios", testkeys.RSA2048(5)); err == nil && r.Status == scep.Success {
		t.Error("a certificate was issued without the RA's keys")
	}
	device.Start()
	w.mustIssue(w.enrolled("ios", testkeys.RSA2048(5)), testkeys.RSA2048(5))

	w.mustCommand("certificates", "renew", "endpoint devices") // TPM to TPM
	w.mustBeIn(identity.KindRAEncryption, "tpm")
	w.mustIssue(w.enrolled("android", testkeys.RSA2048(6)), testkeys.RSA2048(6))
	w.stop()
	w.onlyWrapped()
}

// onlyWrapped looks for plain keys among those that were made.
func (w *world) onlyWrapped() {
	w.t.Helper()
	files, err := filepath.Glob(w.path("identity/ra-devices/0*/*.key.pem"))
	if err != nil || len(files) < 4 {
		w.t.Fatalf("%d key files, %v", len(files), err)
	}
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(b, []byte("TSS2 PRIVATE KEY")) || bytes.Contains(b, []byte("BEGIN PRIVATE")) {
			w.t.Errorf("%s holds a key that can be copied, or %v", filepath.Base(path), err)
		}
	}
}

// TestRAKeysInHSM has the RA's keys in a token, and nowhere else.
func TestRAKeysInHSM(t *testing.T) {
	program := withHSM(t)
	token := keystest.NewToken(t, "ra")
	w := newWorldOf(t, false)
	for i, role := range []string{"signing", "encryption"} {
		file := w.path("ra/" + role + ".key.pem")
		token.Import(t, file, role, []string{"01", "02"}[i])
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, w.path("pin"), []byte(token.PIN+"\n"))
	w.edit(func(text string) string {
		for _, role := range []string{"signing", "encryption"} {
			text = strings.ReplaceAll(text, "key: ra/"+role+".key.pem", `key: "`+token.URI(role)+`"`)
		}
		return text + "keys: {pkcs11: {module: " + token.Module + ", pin: {file: pin}}}\n"
	})
	if out := must(t, w.dir, program, "keys", "check", token.URI("encryption"), "--config", w.path("certconnector.yaml")); !strings.Contains(out, "decrypts, in") {
		t.Errorf("keys check says %q", out)
	}
	if o := execute(t, w.dir, nil, built.release, "validate", "--config", w.path("certconnector.yaml")); o.err == nil || !strings.Contains(o.stdout+o.stderr, "this build has no PKCS #11") {
		t.Errorf("the plain build: %v\n%s%s", o.err, o.stdout, o.stderr)
	}
	w.startAs(program, nil)
	w.mustBeIn(identity.KindRASigning, "pkcs11")
	w.mustBeIn(identity.KindRAEncryption, "pkcs11")
	if i := w.inventory()[identity.KindRASigning]; i.Managed || !strings.Contains(i.Next, "a person renews") {
		t.Errorf("who renews: %+v", i)
	}
	w.devicesEnrol()
	w.stop()

	forbidDecryption(t, token, "encryption")
	o := execute(t, w.dir, nil, program, "run", "--config", w.path("certconnector.yaml"))
	if o.err == nil || !strings.Contains(o.stdout+o.stderr, "CKA_DECRYPT") {
		t.Errorf("with a key that may not decrypt: %v\n%s%s", o.err, o.stdout, o.stderr)
	}
}

// forbidDecryption takes a right from a key, as its owner may have done from
// the beginning.
func forbidDecryption(t *testing.T, token *keystest.Token, object string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	p := pkcs11.New(token.Module)
	if p == nil {
		t.Fatal("SoftHSM cannot be loaded; these tests need CGO_ENABLED=1")
	}
	defer p.Destroy()
	must(p.Initialize())
	defer p.Finalize() //nolint:errcheck // the test is over
	slots, err := p.GetSlotList(true)
	must(err)
	session, err := p.OpenSession(slots[0], pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	must(err)
	must(p.Login(session, pkcs11.CKU_USER, token.PIN))
	must(p.FindObjectsInit(session, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), pkcs11.NewAttribute(pkcs11.CKA_LABEL, object),
	}))
	found, _, err := p.FindObjects(session, 2)
	must(err)
	must(p.FindObjectsFinal(session))
	if len(found) != 1 {
		t.Fatalf("%d keys are called %q", len(found), object)
	}
	must(p.SetAttributeValue(session, found[0], []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, false)}))
}
