package scephttp

import (
	"net/http"
	"strconv"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/certconnector/certconnector/scep"
)

// access writes the one line of an exchange; for one that a limit refused at most
// a line a second, which says how many got none. The operations have messages of
// their own, so that "the device asked for capabilities and never came back"
// can be seen. The query is never logged: it carries the message.
func (x *exchange) access() {
	level := zapcore.InfoLevel
	switch {
	case x.event.HTTPStatus >= http.StatusInternalServerError && x.event.HTTPStatus != http.StatusServiceUnavailable:
		level = zapcore.ErrorLevel
	case x.event.HTTPStatus == http.StatusServiceUnavailable:
		level = zapcore.WarnLevel
	case x.endpoint == nil:
		level = zapcore.DebugLevel // somebody looks for other things
	}
	line := x.log.Check(level, x.title())
	if line == nil {
		return
	}
	fields := make([]zap.Field, 0, 13)
	if x.event.Limited != "" {
		unlogged, ok := x.quiet.speaks(x.event.Endpoint+"\x00"+x.event.Limited, x.start)
		if !ok {
			return
		}
		if unlogged > 0 {
			fields = append(fields, zap.Int("unlogged", unlogged))
		}
	}
	if x.id == "" && x.endpoint != nil { // else the logger has it
		fields = append(fields, zap.String("endpoint", x.event.Endpoint))
	}
	fields = append(fields, zap.Stringer("source", x.source), zap.String("method", x.r.Method), zap.Int("http_status", x.event.HTTPStatus))
	if x.event.Operation != "" {
		fields = append(fields, zap.String("operation", x.event.Operation))
	}
	if x.event.MessageType != 0 {
		fields = append(fields, zap.Stringer("message_type", x.event.MessageType))
	}
	if x.event.Replied {
		fields = append(fields, zap.Stringer("status", x.event.Status))
		if x.event.Status == scep.Failure {
			fields = append(fields, zap.Stringer("fail_info", x.event.FailInfo))
		}
	}
	if x.reason != "" {
		fields = append(fields, zap.String("reason", printable(x.reason)))
	}
	if x.ndes != 0 {
		fields = append(fields, x.ndes.Field())
	}
	if x.event.Operation != pkiOperation {
		fields = append(fields, zap.String("user_agent", printable(x.r.UserAgent())))
	}
	line.Write(append(fields, zap.Duration("duration", x.event.Duration))...)
}

// title is the constant message of the line.
func (x *exchange) title() string {
	switch {
	case x.endpoint == nil:
		return "scep path unknown"
	case x.event.Operation == getCACaps:
		return "scep capabilities asked"
	case x.event.Operation == getCACert:
		return "scep CA certificates asked"
	case x.event.Operation == getNextCACert:
		return "scep next CA certificate asked"
	case x.event.Operation == pkiOperation:
		return "scep message answered"
	}
	return "scep URL opened"
}

// printable returns device text as it is when it is plain ASCII, and quoted and
// cut off when it could play with a terminal or a log.
func printable(s string) string {
	const most = 256
	plain := len(s) <= most
	for i := 0; plain && i < len(s); i++ {
		plain = 0x20 <= s[i] && s[i] < 0x7f
	}
	if plain {
		return s
	}
	return strconv.QuoteToASCII(s[:min(len(s), most)])
}
