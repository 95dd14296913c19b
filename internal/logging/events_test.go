package logging_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/certconnector/certconnector/internal/eventid"
	"github.com/certconnector/certconnector/internal/logging"
	"github.com/certconnector/certconnector/internal/secret"
)

// windowsLog plays the Application log.
type windowsLog struct {
	mu     sync.Mutex
	events []string // "level id text"
	broken error
}

func (w *windowsLog) Write(level zapcore.Level, id uint32, text string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.events = append(w.events, fmt.Sprintf("%s %d %s", level, id, text))
	return w.broken
}

func eventsOf(t *testing.T, use func(*logging.Logs)) []string {
	t.Helper()
	w := &windowsLog{}
	lines(t, logging.Config{EventLog: w}, use)
	return w.events
}

func TestEventLogGetsWhatSomebodyWatchesFor(t *testing.T) {
	for _, row := range []struct {
		name string
		line func(*zap.Logger)
		want string // "": no event
	}{
		{"information is for the log alone", func(l *zap.Logger) { l.Info("m") }, ""},
		{"a warning", func(l *zap.Logger) { l.Warn("m") }, "warn 110 m"},
		{"an error", func(l *zap.Logger) { l.Error("m", zap.Error(errors.New("full"))) }, "error 111 m\r\n\r\nerror: full"},
		{"information with a number", func(l *zap.Logger) { l.Info("m", eventid.Verified.Field()) }, "info 4004 m"},
		{"a warning keeps its number", func(l *zap.Logger) { l.Warn("m", eventid.NotifyFailed.Field()) }, "warn 4009 m"},
		{
			"the connector's number goes before that of NDES",
			func(l *zap.Logger) { l.Info("m", eventid.ChallengeRefused.Field(), eventid.VerifyFailed.Field()) }, "info 4005 m",
		},
		{"an audit line", func(l *zap.Logger) { l.Named(logging.Audit).Info("m", eventid.Issued.Field()) }, "info 4006 m\r\n\r\nlogger: audit"},
		{"fields of the logger", func(l *zap.Logger) { l.With(zap.String("endpoint", "corp")).Warn("m") }, "warn 110 m\r\n\r\nendpoint: corp"},
		{"a debug line below the level", func(l *zap.Logger) { l.Debug("m", eventid.Verified.Field()) }, ""},
	} {
		got := eventsOf(t, func(l *logging.Logs) { row.line(l.Logger) })
		switch {
		case row.want == "" && len(got) == 0:
		case len(got) != 1 || !strings.HasPrefix(got[0], row.want) || row.want == "":
			t.Errorf("%s: got %q, want %q", row.name, got, row.want)
		}
	}
}

func TestEventsAreCleanAndBounded(t *testing.T) {
	got := eventsOf(t, func(l *logging.Logs) {
		l.Logger.With(zap.Any("p", secret.Text("hunter2"))).Warn("m", zap.Any("inside", struct{ p secret.Text }{"hunter2"}),
			zap.Duration("delay", time.Second), zap.ByteString("b", []byte("hunter2")),
			zap.String("device", "a\nb%1 %%2"), zap.String("most", strings.Repeat("ü", 50_000)))
	})
	if len(got) != 1 || strings.Contains(got[0], "hunter2") || strings.Contains(got[0], "%1") || strings.Contains(got[0], "%%") {
		t.Errorf("got %.300q", got)
	}
	if n := len(got[0]); n > logging.EventBytes+50 || !strings.HasSuffix(got[0], "…") {
		t.Errorf("an event has %d bytes", n)
	}
	if !strings.Contains(got[0], `a\nb% 1`) || !strings.Contains(got[0], "delay: 1s") {
		t.Errorf("what the device said is not there: %.300q", got)
	}
}

func TestEventsOfAMinuteAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := eventsOf(t, func(l *logging.Logs) {
			for range logging.EventsPerMinute + 7 {
				l.Logger.Warn("m")
			}
			time.Sleep(time.Minute)
			l.Logger.Warn("after")
		})
		if n := len(got); n != logging.EventsPerMinute+2 {
			t.Fatalf("%d events", n)
		}
		if last := got[len(got)-2:]; !strings.HasPrefix(last[0], "warn 112 7 events") || !strings.HasPrefix(last[1], "warn 110 after") {
			t.Errorf("got %q", last)
		}
	})
}

func TestABrokenEventLogStopsNothing(t *testing.T) {
	w := &windowsLog{broken: errors.New("RPC server unavailable")}
	out := lines(t, logging.Config{EventLog: w}, func(l *logging.Logs) { l.Logger.Warn("m") })
	if !strings.Contains(out, `"message":"m"`) || len(w.events) != 1 {
		t.Errorf("got %s and %q", out, w.events)
	}
}
