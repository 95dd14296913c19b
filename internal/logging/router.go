package logging

import (
	"errors"
	"strings"

	"go.uber.org/zap/zapcore"
)

// router sends audit lines one way and operation lines the other; some of
// both are events too.
type router struct {
	operation, audit zapcore.Core
	events           *events // nil: there is no event log
}

// Enabled lets every level of audit lines pass; Check knows the logger's name.
func (r *router) Enabled(level zapcore.Level) bool {
	return r.operation.Enabled(level) || r.audit.Enabled(level)
}

// With returns a router whose lines carry the fields.
func (r *router) With(fields []zapcore.Field) zapcore.Core {
	fields = clean(fields)
	return &router{operation: r.operation.With(fields), audit: r.audit.With(fields), events: r.events.carrying(fields)}
}

// Check chooses the way by the logger's name.
func (r *router) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if r.way(e).Enabled(e.Level) {
		return ce.AddCore(e, r)
	}
	return ce
}

// Write writes one line.
func (r *router) Write(e zapcore.Entry, fields []zapcore.Field) error {
	fields = clean(fields)
	return errors.Join(r.way(e).Write(e, fields), r.events.write(e, fields))
}

// Sync writes out both ways.
func (r *router) Sync() error { return errors.Join(r.operation.Sync(), r.audit.Sync()) }

func (r *router) way(e zapcore.Entry) zapcore.Core {
	if e.LoggerName == Audit || strings.HasSuffix(e.LoggerName, "."+Audit) {
		return r.audit
	}
	return r.operation
}
