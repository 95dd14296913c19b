package main

import (
	"bytes"
	"crypto/x509/pkix"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/control"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// TestDeathDuringAReload kills the service in the middle of a reload and starts
// it again: what was issued before is still known, and devices enrol.
func TestDeathDuringAReload(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a binary")
	}
	binary := filepath.Join(t.TempDir(), "certconnector")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-tags", "failpoint", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, failpoint := range []string{"reload.built", "reload.switched"} {
		t.Run(failpoint, func(t *testing.T) {
			dir, port := t.TempDir(), freePort(t)
			if code := run([]string{"init", "--dir", dir, "--hostname", "127.0.0.1", "--listen", "127.0.0.1:" + port,
				"--plain-http", "--policy", "static", "--ca-key", "p256"}, io.Discard, io.Discard); code != 0 {
				t.Fatalf("init: exit code %d", code)
			}
			b, err := os.ReadFile(filepath.Join(dir, "challenge"))
			if err != nil {
				t.Fatal(err)
			}
			quirks, err := scepclient.Platform("linux")
			if err != nil {
				t.Fatal(err)
			}
			device := &scepclient.Client{URL: "http://127.0.0.1:" + port + "/certsrv/mscep/mscep.dll", Quirks: quirks, DelayScale: 0.01}
			prepare := func(key int) *scepclient.Transaction {
				sent, err := device.Prepare(t.Context(), scepclient.EnrollRequest{Key: testkeys.RSA2048(key), CSR: scepclient.CSR{
					Subject: pkix.Name{CommonName: "phone"}, Challenge: secret.Text(strings.TrimSpace(string(b))),
				}})
				if err != nil {
					t.Fatal(err)
				}
				return sent
			}
			send := func(what string, sent *scepclient.Transaction) []byte {
				reply, err := device.Send(t.Context(), sent.Message)
				if err != nil || reply.Status != scep.Success {
					t.Fatalf("%s: %+v, %v", what, reply, err)
				}
				return reply.Certificate.Raw
			}

			service := startBinary(t, binary, dir, port, failpoint)
			before := prepare(0)
			certificate := send("before", before)
			client, err := control.Dial(filepath.Join(dir, "control.sock"))
			if err != nil {
				t.Fatal(err)
			}
			if done, err := client.Reload(t.Context()); err == nil {
				t.Fatalf("it lives: %+v", done)
			}
			if err := service.Wait(); err == nil || !strings.Contains(err.Error(), "killed") {
				t.Fatalf("it ended with %v", err)
			}
			service = startBinary(t, binary, dir, port, "")
			if again := send("the same request", before); !bytes.Equal(again, certificate) {
				t.Error("the same request got another certificate")
			}
			send("after", prepare(1))
			if done, err := client.Reload(t.Context()); err != nil || !done.Applied {
				t.Errorf("%+v, %v", done, err)
			}
			if err := service.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			if err := service.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// startBinary runs the service and returns when it listens.
func startBinary(t *testing.T, binary, dir, port, failpoint string) *exec.Cmd {
	t.Helper()
	c := exec.Command(binary, "run", "--config", filepath.Join(dir, "certconnector.yaml"))
	c.Env = append(os.Environ(), "CERTCONNECTOR_FAILPOINT="+failpoint)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill() })
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if open, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			_ = open.Close()
			return c
		}
	}
	t.Fatal("it does not listen")
	return nil
}
