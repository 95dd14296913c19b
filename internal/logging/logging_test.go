package logging_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/certconnector/certconnector/internal/logging"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/testkeys"
)

// lines runs log against a logger and returns what it wrote.
func lines(t *testing.T, c logging.Config, log func(*logging.Logs)) string {
	t.Helper()
	var b bytes.Buffer
	c.Stderr = &b
	l, err := logging.New(c)
	if err != nil {
		t.Fatal(err)
	}
	log(l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestJSON(t *testing.T) {
	out := lines(t, logging.Config{}, func(l *logging.Logs) {
		l.Logger.Debug("unseen")
		l.Logger.Named("enroll").Info("certificate issued", zap.String("serial", "0A"))
	})
	var got map[string]any
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	if got["message"] != "certificate issued" || got["serial"] != "0A" || got["level"] != "info" || got["logger"] != "enroll" || got["time"] == nil {
		t.Errorf("got %v", got)
	}
}

func TestLevelChangesWhileRunning(t *testing.T) {
	out := lines(t, logging.Config{Level: "error", Format: "console"}, func(l *logging.Logs) {
		l.Logger.Info("before")
		l.Level.SetLevel(zapcore.DebugLevel)
		l.Logger.Debug("after")
	})
	if strings.Contains(out, "before") || !strings.Contains(out, "after") {
		t.Errorf("got %q", out)
	}
}

func TestAuditLines(t *testing.T) {
	t.Run("are written whatever the level is", func(t *testing.T) {
		out := lines(t, logging.Config{Level: "error"}, func(l *logging.Logs) {
			l.Logger.Named("control").Named(logging.Audit).Info("request approved")
			l.Logger.Info("operation")
		})
		if !strings.Contains(out, "request approved") || strings.Contains(out, "operation") {
			t.Errorf("got %q", out)
		}
	})
	t.Run("go to a file of their own", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "audit.log")
		out := lines(t, logging.Config{AuditFile: path}, func(l *logging.Logs) {
			l.Logger.Named(logging.Audit).Info("request approved")
			l.Logger.Named("auditor").Info("operation")
		})
		audit, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out, "approved") || !strings.Contains(string(audit), "approved") || !strings.Contains(out, "operation") {
			t.Errorf("operation %q, audit %q", out, audit)
		}
	})
}

func TestNothingSecretIsWritten(t *testing.T) {
	const hidden = "hunter2"
	key := testkeys.RSA2048(0)
	for _, row := range []struct {
		name  string
		field zap.Field
	}{
		{"a secret text", zap.Any("x", secret.Text(hidden))},
		{"a secret text inside a struct", zap.Any("x", struct{ P secret.Text }{hidden})},
		{"bytes", zap.ByteString("x", []byte(hidden))},
		{"binary", zap.Binary("x", []byte(hidden))},
		{"a URL with its query", zap.Any("x", &url.URL{RawQuery: hidden})},
		{"a header", zap.Any("x", http.Header{"Authorization": {hidden}})},
		{"a request", zap.Any("x", &http.Request{Host: hidden})},
		{"a private key", zap.Any("x", key)},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, format := range []string{"json", "console"} {
				out := lines(t, logging.Config{Format: format}, func(l *logging.Logs) {
					l.Logger.Info("m", row.field)
					l.Logger.With(row.field).Info("m")
				})
				if strings.Contains(out, hidden) || strings.Contains(out, key.D.String()) || !strings.Contains(out, `"x"`) {
					t.Errorf("got %s", out)
				}
			}
		})
	}
}

type stringer struct{ s string }

func (s *stringer) String() string { return s.s }

func TestDeviceTextCannotSteerATerminal(t *testing.T) {
	evil := "a\x1b[2Jb\u009bc\u202ed\nlevel=fake"
	out := lines(t, logging.Config{Format: "console"}, func(l *logging.Logs) {
		l.Logger.Info("m", zap.String("s", evil), zap.Error(errors.New(evil)), zap.Stringer("t", &stringer{evil}), zap.Stringer("n", (*stringer)(nil)))
	})
	if strings.ContainsAny(out, "\x1b\u009b\u202e") || strings.Count(out, "\n") != 1 {
		t.Errorf("got %q", out)
	}
}

func TestPrintable(t *testing.T) {
	for _, row := range []struct{ name, in, want string }{
		{"plain text", "CN=Pümpernickel, 東京 🙂", "CN=Pümpernickel, 東京 🙂"},
		{"control characters", "a\x00\x1b\n", `a\x00\x1b\n`},
		{"C1 and direction marks", "\u009b\u202e\u200b", `\u009b\u202e\u200b`},
		{"no text", "a\xffb", `a\xffb`},
		{"a replacement character that was sent", "\uFFFD", "\uFFFD"},
	} {
		if got := logging.Printable(row.in); got != row.want {
			t.Errorf("%s: got %q, want %q", row.name, got, row.want)
		}
	}
}

func TestNewRefusesNonsense(t *testing.T) {
	for _, c := range []logging.Config{{Level: "loud"}, {Format: "xml"}, {File: filepath.Join(t.TempDir(), "no", "folder")}} {
		if _, err := logging.New(c); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}

func TestARollingFileIsPutAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "certconnector.log")
	big := strings.Repeat("x", logging.RollBytes/2+1)
	for _, mark := range []string{"first", "second", "third", "fourth", "fifth", "sixth"} {
		l, err := logging.New(logging.Config{File: path, Rolling: true}) // a restart changes nothing
		if err != nil {
			t.Fatal(err)
		}
		l.Logger.Info(mark, zap.String("x", big))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{path: "sixth", path + ".1": "fifth", path + ".4": "second"} {
		b, err := os.ReadFile(name)
		if err != nil || !strings.Contains(string(b[:200]), want) || len(b) > logging.RollBytes {
			t.Errorf("%s: %v, %d bytes, begins with %.100s", name, err, len(b), b)
		}
	}
	if _, err := os.Stat(path + ".5"); err == nil {
		t.Error("more is kept than should be")
	}
}
