package logging

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"go.uber.org/zap/zapcore"

	"github.com/certconnector/certconnector/internal/eventid"
)

// EventLog is where a system keeps events: the Application log of Windows.
type EventLog interface {
	// Write writes one event. It is called from several goroutines.
	Write(level zapcore.Level, id uint32, text string) error
}

// Bounds of what the event log is given: it is small, slow, and shared with
// the whole computer. The log has all lines.
const (
	// EventsPerMinute is how many events are written in a minute; then the
	// number of those left out is.
	EventsPerMinute = 600
	// EventBytes is how long an event's text may be; Windows takes 31,839
	// characters.
	EventBytes = 8 << 10
)

// events writes lines that somebody watches for into the event log: warnings,
// errors, and lines with an event number.
type events struct {
	log  EventLog
	pace *pace
	with []zapcore.Field // of the logger; cleaned
}

func newEvents(log EventLog) *events {
	if log == nil {
		return nil
	}
	return &events{log: log, pace: &pace{}}
}

// carrying returns events whose lines carry the fields.
func (v *events) carrying(fields []zapcore.Field) *events {
	if v == nil {
		return nil
	}
	return &events{log: v.log, pace: v.pace, with: slices.Concat(v.with, fields)}
}

// write writes a line, if it is one for the event log. The fields are clean.
func (v *events) write(e zapcore.Entry, fields []zapcore.Field) error {
	if v == nil {
		return nil
	}
	all := slices.Concat(v.with, fields)
	id, ok := number(e.Level, all)
	if !ok {
		return nil
	}
	may, left := v.pace.take(e.Time)
	var err error
	if left > 0 {
		text := fmt.Sprintf("%d events of the minutes before were left out; the log has them", left)
		err = v.log.Write(zapcore.WarnLevel, uint32(eventid.LeftOut), text)
	}
	if !may {
		return err
	}
	return errors.Join(err, v.log.Write(e.Level, id, eventText(e, all)))
}

// number is a line's number in the event log; false: it is not for it.
func number(level zapcore.Level, fields []zapcore.Field) (id uint32, ok bool) {
	for _, key := range eventid.Fields() {
		for _, f := range fields {
			if f.Key == key && f.Type == zapcore.Int64Type {
				return uint32(f.Integer), true
			}
		}
	}
	switch {
	case level >= zapcore.ErrorLevel:
		return uint32(eventid.Error), true
	case level == zapcore.WarnLevel:
		return uint32(eventid.Warning), true
	}
	return 0, false
}

// eventText is a line for a person: what happened, then a fact a line.
func eventText(e zapcore.Entry, fields []zapcore.Field) string {
	facts := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(facts)
	}
	var b strings.Builder
	b.WriteString(e.Message)
	if e.LoggerName != "" {
		b.WriteString("\r\n\r\nlogger: " + e.LoggerName)
	} else {
		b.WriteString("\r\n")
	}
	for _, key := range slices.Sorted(maps.Keys(facts.Fields)) {
		b.WriteString("\r\n" + key + ": " + fact(facts.Fields[key]))
	}
	return EventText(b.String())
}

// fact is a value as the log writes it. Printing a struct by reflection would
// show what its types hide.
func fact(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case time.Duration:
		return v.String()
	case time.Time:
		return v.Format(time.RFC3339Nano)
	}
	b, err := json.Marshal(v)
	if err != nil {
		return redacted
	}
	return Printable(string(b))
}

// EventText makes a text fit for the event log: bounded, and without "%1" and
// the like, which Windows would replace (ReportEventW, lpStrings).
func EventText(text string) string {
	var b strings.Builder
	for i, r := range text {
		if b.Len() > EventBytes-utf8.UTFMax {
			b.WriteString("…")
			break
		}
		if r == 0 {
			r = utf8.RuneError
		}
		b.WriteRune(r)
		if next := i + 1; r == '%' && next < len(text) && strings.IndexByte("%0123456789", text[next]) >= 0 {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// pace counts events by minutes.
type pace struct {
	mu      sync.Mutex
	minute  time.Time
	written int
	left    int
}

// take tells whether one more event may be written now, and how many were left
// out before, which is told once.
func (p *pace) take(now time.Time) (may bool, left int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if minute := now.Truncate(time.Minute); !minute.Equal(p.minute) {
		p.minute, p.written = minute, 0
		left, p.left = p.left, 0
	}
	if p.written >= EventsPerMinute {
		p.left++
		return false, left
	}
	p.written++
	return true, left
}
