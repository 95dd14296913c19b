// Package finding has the words in which checks of neighbours say how much
// what they found matters, so that all of them print and exit alike.
package finding

// Level says how much a finding matters.
type Level int

// The levels, the least first. A note tells what cannot be seen from here, or
// what is configured so; it asks for nothing.
const (
	OK Level = iota
	Note
	Warning
	Failure
)

// String returns the level's name, as tables and JSON have it.
func (l Level) String() string {
	switch l {
	case OK:
		return "ok"
	case Note:
		return "note"
	case Warning:
		return "warning"
	}
	return "failure"
}

// MarshalText implements encoding.TextMarshaler with String.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }
