//go:build !windows

package osservice

import "go.uber.org/zap/zapcore"

// EventLog is for Windows.
type EventLog struct{}

// OpenEventLog fails.
func OpenEventLog(string) (*EventLog, error) { return nil, errNotWindows }

// Write fails.
func (*EventLog) Write(zapcore.Level, uint32, string) error { return errNotWindows }

// Close does nothing.
func (*EventLog) Close() error { return nil }
