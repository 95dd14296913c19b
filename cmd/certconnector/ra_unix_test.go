//go:build unix

package main

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/certconnector/certconnector/ca/adcstest"
)

// TestRAForAnotherAccount: in a folder of root's own root gets the pairs that
// the service reads.
func TestRAForAnotherAccount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	const service = 12345
	issuer, err := adcstest.New(adcstest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	rpc, err := issuer.ServeRPC(adcstest.RPCOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rpc.Close() })
	base := t.TempDir()
	path := func(name string) string { return filepath.Join(base, name) }
	for _, folder := range []string{"etc", "var", "etc/ra"} {
		if err := os.Mkdir(path(folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(path("var"), service, service); err != nil {
		t.Fatal(err)
	}
	var chain bytes.Buffer
	for _, der := range [][]byte{issuer.Certificate().Raw, issuer.Root().Raw} {
		chain.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("chain.pem", chain.String())
	write("password", adcstest.DefaultPassword)
	must := func(args ...string) {
		t.Helper()
		var said bytes.Buffer
		if code := run(args, io.Discard, &said); code != 0 {
			t.Fatalf("%v: exit code %d: %s", args, code, said.String())
		}
	}
	must("init", "--dir", path("etc"), "--state-dir", path("var"), "--hostname", "scep.corp.test", "--listen", "127.0.0.1:0", "--policy", "static",
		"--ca", "adcs", "--ca-config", issuer.Config(), "--ca-chain", path("chain.pem"), "--template", "IntuneDevice", "--ca-user", `CORP\svc`, "--ca-password-file", path("password"))
	config, err := os.ReadFile(path("etc/certconnector.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	write("etc/certconnector.yaml", strings.NewReplacer(
		path("var/ra"), path("etc/ra"),
		"adcs:\n", fmt.Sprintf("adcs:\n      address: %q\n      endpoint_mapper_port: %d\n", rpc.Address(), rpc.EndpointMapperPort()),
	).Replace(string(config)))
	must("ra", "enroll", "--endpoint", "devices", "--hostname", "scep.corp.test", "--signing-template", "IntuneDevice", "--config", path("etc/certconnector.yaml"))
	entries, err := os.ReadDir(path("etc/ra"))
	if err != nil || len(entries) != 4 {
		t.Fatalf("%v, %v: want two pairs", entries, err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if s := info.Sys().(*syscall.Stat_t); s.Uid != service || s.Gid != service {
			t.Errorf("%s belongs to %d:%d, and the service is %d", e.Name(), s.Uid, s.Gid, service)
		}
	}
}
