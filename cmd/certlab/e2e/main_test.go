//go:build e2e

// Package e2e drives the built program as an operator and as devices do:
// with SCEP clients that others wrote (certmonger, strongSwan, micromdm), with
// emulated platforms, with kill -9 and with strace. A simulated cloud runs in
// the test process; everything else is separate processes on the loopback
// interface. What a test needs on the machine it names when it is missing.
//
//	go test -tags e2e ./cmd/certlab/e2e/...
package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/certconnector/certconnector/intune/intunetest"
)

// The binaries under test and a folder that "init" has prepared, made once.
var built struct {
	release   string // as it is shipped
	failpoint string // with the named places to die
	aes       string // micromdm's library in AES
	micromdm  string // micromdm's scepclient as it is
	folder    string // of "certconnector init"; tests copy it
}

func TestMain(m *testing.M) {
	code, err := prepareAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func prepareAndRun(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	const program, client = "../../certconnector", "github.com/micromdm/scep/v2/cmd/scepclient"
	for _, b := range []struct {
		out  *string
		name string
		dir  string
		args []string
	}{
		{&built.release, "certconnector", ".", []string{"-trimpath", "-ldflags", "-s -w", program}},
		{&built.failpoint, "certconnector-failpoint", ".", []string{"-tags", "failpoint", program}},
		{&built.aes, "micromdm", "micromdm", []string{"."}},
		{&built.micromdm, "scepclient", "micromdm", []string{client}},
	} {
		*b.out = filepath.Join(dir, b.name)
		build := exec.Command("go", append([]string{"build", "-o", *b.out}, b.args...)...)
		build.Dir = b.dir
		if out, err := build.CombinedOutput(); err != nil {
			return 1, fmt.Errorf("%v: %w\n%s", build.Args, err, out)
		}
	}
	built.folder = filepath.Join(dir, "connector")
	// Addresses are put in when a test copies the folder.
	out, err := exec.Command(built.release, "init", "--dir", built.folder, "--policy", "intune",
		"--hostname", "127.0.0.1", "--listen", "127.0.0.1:1", "--plain-http",
		"--tenant", intunetest.ContosoID, "--client-id", intunetest.ContosoClient, "--cloud", "custom",
		"--authority-url", "https://authority.invalid/", "--graph-url", "https://graph.invalid/",
		"--resource-url", "https://resource.invalid/", "--ca-key", "rsa2048").CombinedOutput()
	if err != nil {
		return 1, fmt.Errorf("init: %w\n%s", err, out)
	}
	return m.Run(), nil
}
