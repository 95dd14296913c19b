package osservice

import (
	"errors"
	"fmt"
	"io/fs"

	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/windows"
	"golang.org/x/sys/windows/registry"
	"golang.org/x/sys/windows/svc/eventlog"
)

// sources is the registry key of the sources of the Application log.
const sources = `SYSTEM\CurrentControlSet\Services\EventLog\Application\`

// EventLog writes to the Application log of Windows.
type EventLog struct{ log *eventlog.Log }

// OpenEventLog opens the log for a source; one that is not registered can
// write, and its events are shown without a description.
func OpenEventLog(source string) (*EventLog, error) {
	l, err := eventlog.Open(source)
	if err != nil {
		return nil, fmt.Errorf("opening the event log: %w", err)
	}
	return &EventLog{l}, nil
}

// Write writes one event: an error, a warning, or information for lower
// levels. The text may have 31,839 characters.
func (e *EventLog) Write(level zapcore.Level, id uint32, text string) error {
	write := e.log.Info
	switch {
	case level >= zapcore.ErrorLevel:
		write = e.log.Error
	case level == zapcore.WarnLevel:
		write = e.log.Warning
	}
	if err := write(id, text); err != nil {
		return fmt.Errorf("writing to the event log: %w", err)
	}
	return nil
}

// Close closes the log.
func (e *EventLog) Close() error { return e.log.Close() }

// EventSource returns the file with the messages of a source; "": the source
// is not registered.
func (Manager) EventSource(name string) (messageFile string, err error) {
	k, err := registry.OpenKey(registry.LOCAL_MACHINE, sources+name, registry.QUERY_VALUE)
	if errors.Is(err, registry.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", explain("looking for the event source", err)
	}
	defer func() { _ = k.Close() }() // only read
	file, _, err := k.GetStringValue("EventMessageFile")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", explain("reading the event source", err)
	}
	return file, nil
}

// RegisterEventSource registers a source whose messages are in a program, or
// gives one that is registered that program.
func (Manager) RegisterEventSource(name, messageFile string) error {
	k, _, err := registry.CreateKey(registry.LOCAL_MACHINE, sources+name, registry.SET_VALUE)
	if err != nil {
		return explain("registering the event source", err)
	}
	const types = windows.EVENTLOG_ERROR_TYPE | windows.EVENTLOG_WARNING_TYPE | windows.EVENTLOG_INFORMATION_TYPE
	err = errors.Join(k.SetExpandStringValue("EventMessageFile", messageFile), k.SetDWordValue("TypesSupported", types), k.Close())
	return explain("registering the event source", err)
}

// UnregisterEventSource removes a source; one that is not there is fine. Its
// events stay and lose their description.
func (Manager) UnregisterEventSource(name string) error {
	err := registry.DeleteKey(registry.LOCAL_MACHINE, sources+name)
	if errors.Is(err, registry.ErrNotExist) {
		return nil
	}
	return explain("removing the event source", err)
}
