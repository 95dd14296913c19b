// Package keystest runs devices that keep keys, for tests: a TPM 2.0 (swtpm)
// and a hardware security module (SoftHSM). Both are programs and libraries
// of the system; a test that lacks one fails and names its package.
package keystest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TPM is a simulated TPM 2.0 behind a unix socket.
type TPM struct {
	// Socket is where it is reached; Socket+".ctrl" is for tpm2-tss.
	Socket string

	t       testing.TB
	state   string
	process *exec.Cmd
}

// NewTPM starts a TPM that nobody has used yet. It ends with the test.
func NewTPM(t testing.TB) *TPM {
	t.Helper()
	if _, err := exec.LookPath("swtpm"); err != nil {
		t.Fatal("swtpm is not installed: apt-get install swtpm (make e2e-keys does it)")
	}
	// The path of a socket is short: not every test's folder would fit.
	folder, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	d := &TPM{Socket: filepath.Join(folder, "s"), t: t, state: folder}
	t.Cleanup(func() {
		d.Stop()
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	d.Start()
	return d
}

// Start starts it, again with what it remembers.
func (d *TPM) Start() {
	d.t.Helper()
	d.process = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+d.state,
		"--server", "type=unixio,path="+d.Socket, "--ctrl", "type=unixio,path="+d.Socket+".ctrl", "--flags", "not-need-init,startup-clear")
	d.process.Stderr = d.t.Output()
	if err := d.process.Start(); err != nil {
		d.t.Fatal(err)
	}
	for range 200 {
		if _, err := os.Stat(d.Socket); err == nil {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	d.t.Fatal("swtpm opened no socket within five seconds")
}

// Stop kills it, as a power failure does.
func (d *TPM) Stop() {
	if d.process == nil {
		return
	}
	_ = d.process.Process.Kill() // it may have ended
	_ = d.process.Wait()         // says that it was killed
	d.process = nil
	for _, path := range []string{d.Socket, d.Socket + ".ctrl"} {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			d.t.Error(err)
		}
	}
}

// modules is where Debian and Fedora keep SoftHSM.
var modules = []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so"}

// Token is a token of SoftHSM.
type Token struct {
	Module string
	Label  string
	PIN    string
	// Config is the file that SOFTHSM2_CONF names, for other processes.
	Config string
}

// NewToken makes an empty token, and has this process use the folder that it
// is in.
func NewToken(t testing.TB, label string) *Token {
	t.Helper()
	k := &Token{Label: label, PIN: "2468"}
	for _, path := range modules {
		if _, err := os.Stat(path); err == nil {
			k.Module = path
		}
	}
	if _, err := exec.LookPath("softhsm2-util"); err != nil || k.Module == "" {
		t.Fatal("SoftHSM is not installed: apt-get install softhsm2 (make e2e-keys does it)")
	}
	folder := t.TempDir()
	tokens := filepath.Join(folder, "tokens")
	k.Config = filepath.Join(folder, "softhsm2.conf")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(k.Config, []byte("directories.tokendir = "+tokens+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", k.Config)
	k.util(t, "--init-token", "--free", "--label", label, "--pin", k.PIN, "--so-pin", "13579")
	return k
}

// Import puts a private key from a PKCS #8 PEM file into the token.
func (k *Token) Import(t testing.TB, file, object, id string) {
	t.Helper()
	k.util(t, "--import", file, "--token", k.Label, "--label", object, "--id", id, "--pin", k.PIN)
}

// URI names a key of the token.
func (k *Token) URI(object string) string { return "pkcs11:token=" + k.Label + ";object=" + object }

func (k *Token) util(t testing.TB, args ...string) {
	t.Helper()
	if out, err := exec.Command("softhsm2-util", args...).CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util %s: %v\n%s", args[0], err, out)
	}
}
