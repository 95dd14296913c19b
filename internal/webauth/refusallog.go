package webauth

import (
	"errors"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/certconnector/certconnector/internal/pace"
)

// refusalLines is how many lines a minute strangers may fill for each rule.
const refusalLines = 10

// RefusalLog keeps out of the log what strangers can repeat without an end. It
// is safe for concurrent use.
type RefusalLog struct {
	lines *pace.Buckets[string] // by rule, of which there are few
}

// NewRefusalLog returns one that has let nothing through yet.
func NewRefusalLog() *RefusalLog { return &RefusalLog{lines: pace.New[string](0)} }

// Level is that of the line about a caller who was not identified, for err.
// Callers without credentials are for debugging: most clients ask once
// without. So is a source that is limited, which was logged before, and
// whatever else comes more often than ten times a minute. Wrong passwords are
// limited by source already.
func (l *RefusalLog) Level(err error) zapcore.Level {
	rule := ""
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		rule = refusal.Rule
	}
	switch rule {
	case RuleNoCredentials, RuleMissing, RuleLimited:
		return zapcore.DebugLevel
	case RuleWrongCredentials:
		return zapcore.WarnLevel
	}
	if l.lines.TryTake(rule, refusalLines, time.Now()) > 0 {
		return zapcore.DebugLevel
	}
	return zapcore.WarnLevel
}
