// Package logging builds the service's logger: JSON or console, operation and
// audit lines, a level that can change while it runs. Nothing is sampled: on
// a bad night the missing line is the one that matters. Types that hold keys,
// requests or tokens are redacted whatever field they end up in, and texts
// are made printable, because devices choose some of them.
package logging

import (
	"errors"
	"fmt"
	"io"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Audit is the name of the logger for audit lines: log.Named(logging.Audit).
// They are written whatever the level is.
const Audit = "audit"

// Config says what is logged and where.
type Config struct {
	Level     string    // debug, info, warn, error; "": info
	Format    string    // json, console; "": json
	File      string    // appended to; "": Stderr
	AuditFile string    // audit lines; "": with the others
	Rolling   bool      // File is put aside when it is full (RollBytes); for one that nobody chose
	Stderr    io.Writer // nil: os.Stderr
	EventLog  EventLog  // also gets warnings, errors and lines with an event number; nil: there is none
}

// Logs is an open log.
type Logs struct {
	Logger *zap.Logger
	Level  zap.AtomicLevel // of operation lines; may be changed at any time
	files  []logFile
}

// logFile is a file that lines go to.
type logFile interface {
	zapcore.WriteSyncer
	Close() error
}

// New opens the log. A file is made readable by its owner only.
func New(c Config) (*Logs, error) {
	level, err := zapcore.ParseLevel(orElse(c.Level, "info"))
	if err != nil {
		return nil, fmt.Errorf("log level: %w", err)
	}
	encoder, err := newEncoder(orElse(c.Format, "json"))
	if err != nil {
		return nil, err
	}
	l := &Logs{Level: zap.NewAtomicLevelAt(level)}
	sink, err := l.open(c.File, c.Rolling, c.Stderr)
	if err != nil {
		return nil, err
	}
	auditSink := sink
	if c.AuditFile != "" && c.AuditFile != c.File {
		if auditSink, err = l.open(c.AuditFile, false, nil); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	core := &router{
		operation: zapcore.NewCore(encoder, sink, l.Level),
		audit:     zapcore.NewCore(encoder.Clone(), auditSink, zapcore.DebugLevel),
		events:    newEvents(c.EventLog),
	}
	l.Logger = zap.New(core, zap.ErrorOutput(zapcore.Lock(zapcore.AddSync(stderr(c.Stderr)))))
	return l, nil
}

// Close writes out and closes the files.
func (l *Logs) Close() error {
	var errs []error
	for _, f := range l.files {
		errs = append(errs, f.Sync(), f.Close())
	}
	l.files = nil
	return errors.Join(errs...)
}

func (l *Logs) open(path string, roll bool, w io.Writer) (zapcore.WriteSyncer, error) {
	if path == "" {
		return zapcore.Lock(zapcore.AddSync(stderr(w))), nil
	}
	f, err := openFile(path, roll)
	if err != nil {
		return nil, err
	}
	l.files = append(l.files, f)
	return zapcore.Lock(f), nil
}

func openFile(path string, roll bool) (logFile, error) {
	if roll {
		return openRolling(path)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	return f, nil
}

func stderr(w io.Writer) io.Writer {
	if w == nil {
		return os.Stderr
	}
	return w
}

func newEncoder(format string) (zapcore.Encoder, error) {
	e := zapcore.EncoderConfig{
		TimeKey: "time", LevelKey: "level", NameKey: "logger", MessageKey: "message", StacktraceKey: "stack",
		LineEnding:     zapcore.DefaultLineEnding,
		EncodeTime:     zapcore.RFC3339NanoTimeEncoder,
		EncodeLevel:    zapcore.LowercaseLevelEncoder,
		EncodeDuration: zapcore.StringDurationEncoder,
	}
	switch format {
	case "json":
		return zapcore.NewJSONEncoder(e), nil
	case "console":
		e.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		return zapcore.NewConsoleEncoder(e), nil
	}
	return nil, fmt.Errorf("log format %q is unknown, want json or console", format)
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
