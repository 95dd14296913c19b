package osservice

import (
	"errors"
	"strings"
	"testing"

	"go.uber.org/zap/zapcore"
)

// Wine takes events and shows none: that they are written without an error is
// all that can be seen there.
func TestEventLogTakesEveryLevel(t *testing.T) {
	const source = "certconnector-test"
	m := Manager{}
	if file, err := m.EventSource(source); err != nil || file != "" {
		t.Fatalf("before: %q, %v", file, err)
	}
	for _, program := range []string{`C:\old\certconnector.exe`, `C:\new\certconnector.exe`} {
		if err := m.RegisterEventSource(source, program); err != nil {
			t.Fatal(err)
		}
		if file, err := m.EventSource(source); err != nil || file != program {
			t.Errorf("registered: %q, %v", file, err)
		}
	}
	log, err := OpenEventLog(source)
	if err != nil {
		t.Fatal(err)
	}
	for level, id := range map[zapcore.Level]uint32{zapcore.InfoLevel: 4006, zapcore.WarnLevel: 110, zapcore.ErrorLevel: 102} {
		if err := log.Write(level, id, "certificate issued\r\n\r\nentry: 1"+strings.Repeat(" ü", 4000)); err != nil {
			t.Errorf("%s: %v", level, err)
		}
	}
	if err := log.Write(zapcore.InfoLevel, 1, "a\x00b"); err == nil {
		t.Error("a text with an end inside was written")
	}
	if err := errors.Join(log.Close(), m.UnregisterEventSource(source), m.UnregisterEventSource(source)); err != nil {
		t.Error(err)
	}
}

func TestAServiceThatIsNotThere(t *testing.T) {
	m := Manager{}
	const name = "certconnector-none"
	if _, err := m.Status(name); !errors.Is(err, ErrNotInstalled) {
		t.Errorf("status: %v", err)
	}
	if err := m.Start(t.Context(), name); !errors.Is(err, ErrNotInstalled) {
		t.Errorf("start: %v", err)
	}
	if err := m.Stop(t.Context(), name); !errors.Is(err, ErrNotInstalled) {
		t.Errorf("stop: %v", err)
	}
	if err := m.Uninstall(name); err != nil {
		t.Errorf("removing nothing: %v", err)
	}
	if is, err := m.Packaged("{0F4C2C60-7E9E-4C0B-9F5D-3E2A4E6B5CFF}"); is || err != nil {
		t.Errorf("a package that nobody installed: %v, %v", is, err)
	}
}
