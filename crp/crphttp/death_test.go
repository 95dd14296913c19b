package crphttp_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/agent/journal/sqlite"
	"github.com/certconnector/certconnector/crp/crphttp"
	"github.com/certconnector/certconnector/internal/webserver"
	"github.com/certconnector/certconnector/policymodule"
)

// childFolder names the folder in which this test binary plays machine B.
const childFolder = "CRPHTTP_TEST_CHILD"

// TestDeathAtEachStep kills machine B, built with failpoints, at each step and
// starts it again on the same disk: the cloud is told at least once, never two
// things, and the front end gets its answer.
func TestDeathAtEachStep(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a binary")
	}
	binary := filepath.Join(t.TempDir(), "b.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-tags", "failpoint", "-o", binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, r := pond(t)
	o := issued(t, r, 1)
	told := "heard " + hex.EncodeToString(func() []byte { sum := thumbprint(o); return sum[:] }())
	for _, row := range []struct {
		failpoint string
		cloud     []string // what it saw in the end
	}{
		{"crphttp.asked", []string{"asked", "asked", told}},
		{"crphttp.granted-recorded", []string{"asked", told}},
		{"crphttp.notified", []string{"asked", told, told}},
		{"crphttp.settled", []string{"asked", told}},
	} {
		t.Run(row.failpoint, func(t *testing.T) {
			b := &machine{binary: binary, folder: t.TempDir()}
			if err := sqlite.Create(filepath.Join(b.folder, "journal.db")); err != nil {
				t.Fatal(err)
			}
			b.start(t, row.failpoint)
			b.until(t, crphttp.VerifyPath, question(t, r), http.StatusCreated)
			b.until(t, crphttp.NotifyPath, body(t, notifyMembers(o)), http.StatusNoContent)
			if b.deaths != 1 {
				t.Errorf("died %d times", b.deaths)
			}
			b.until(t, crphttp.NotifyPath, body(t, notifyMembers(o)), http.StatusNoContent)
			seen, err := os.ReadFile(filepath.Join(b.folder, "cloud"))
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Fields(strings.ReplaceAll(string(seen), "heard ", "heard_")); strings.Join(got, " ") != strings.ReplaceAll(strings.Join(row.cloud, " "), "heard ", "heard_") {
				t.Errorf("the cloud saw %q, want %q", got, row.cloud)
			}
		})
	}
}

// machine is a process that plays machine B.
type machine struct {
	binary, folder, url string
	deaths              int
	process             *exec.Cmd
}

func (m *machine) start(t *testing.T, failpoint string) {
	t.Helper()
	address := filepath.Join(m.folder, "address")
	if err := os.Remove(address); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	m.process = exec.CommandContext(t.Context(), m.binary, "-test.run", "^TestChild$")
	m.process.Env = append(os.Environ(), childFolder+"="+m.folder)
	if failpoint != "" {
		m.process.Env = append(m.process.Env, "CERTCONNECTOR_FAILPOINT="+failpoint)
	}
	if err := m.process.Start(); err != nil {
		t.Fatal(err)
	}
	process := m.process
	t.Cleanup(func() { _ = process.Process.Kill(); _ = process.Wait() })
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(5 * time.Millisecond) {
		if b, err := os.ReadFile(address); err == nil {
			m.url = "http://" + string(b)
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("machine B does not start")
		}
	}
}

// until sends a body until it is answered, starting B again when it dies.
func (m *machine) until(t *testing.T, path string, content []byte, status int) {
	t.Helper()
	for range 3 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, m.url+path, strings.NewReader(string(content)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Close = true
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			m.deaths++
			_ = m.process.Wait()
			m.start(t, "")
			continue
		}
		text, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if answer.StatusCode != status {
			t.Fatalf("%s: status %d: %s", path, answer.StatusCode, text)
		}
		return
	}
	t.Fatalf("%s: no answer", path)
}

// diary is a module that writes down what reaches the cloud.
type diary struct{ path string }

func (d diary) note(what string) error {
	f, err := os.OpenFile(d.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, what)
	return errors.Join(err, f.Close())
}

func (d diary) Verify(context.Context, policymodule.Request) (policymodule.Decision, error) {
	return d.Recall(policymodule.Verdict{ChallengeID: "challenge"}), d.note("asked")
}

func (d diary) Recall(v policymodule.Verdict) policymodule.Decision {
	return policymodule.Decision{Granted: true, Notify: true, ChallengeID: v.ChallengeID}
}

func (d diary) Notify(_ context.Context, o policymodule.Outcome) error {
	sum := thumbprint(o)
	return d.note("heard " + hex.EncodeToString(sum[:]))
}

// TestChild is no test: it is machine B in a process of its own.
func TestChild(t *testing.T) {
	folder := os.Getenv(childFolder)
	if folder == "" {
		t.Skip("only in the processes of TestDeathAtEachStep")
	}
	j, err := sqlite.Open(filepath.Join(folder, "journal.db"), sqlite.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h, err := crphttp.New(crphttp.Config{
		FrontEnds: []crphttp.FrontEnd{{Name: "scep", Tenants: []string{"contoso"}}}, Verdicts: j,
		Modules:  map[string]policymodule.Module{"contoso": diary{filepath.Join(folder, "cloud")}},
		Identify: func(*http.Request) (string, error) { return "scep", nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	server, err := webserver.Listen(webserver.Config{Address: "127.0.0.1:0", Handler: h})
	if err != nil {
		t.Fatal(err)
	}
	temporary := filepath.Join(folder, "address.new")
	if err := os.WriteFile(temporary, []byte(server.Addr().String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temporary, filepath.Join(folder, "address")); err != nil {
		t.Fatal(err)
	}
	t.Error(server.Serve(t.Context()))
}
