package configfile

import (
	"fmt"
	"strings"
)

// Mistake is one thing that is wrong in a configuration.
type Mistake struct {
	Path string // key path, as "endpoints[0].policy"; "" when it concerns the whole file
	Line int    // line in the file, 0 when it is not known
	Text string // what is wrong and what would be right
}

// String returns "path: text (line n)".
func (m Mistake) String() string {
	var b strings.Builder
	if m.Path != "" {
		b.WriteString(m.Path + ": ")
	}
	b.WriteString(m.Text)
	if m.Line > 0 {
		fmt.Fprintf(&b, " (line %d)", m.Line)
	}
	return b.String()
}

// Mistakes is an error that lists everything that is wrong, so that an
// operator repairs a file once and not once per mistake.
type Mistakes []Mistake

// Error lists the mistakes, one a line.
func (m Mistakes) Error() string {
	lines := make([]string, len(m))
	for i, x := range m {
		lines[i] = x.String()
	}
	return strings.Join(lines, "\n")
}

// Add notes a mistake at a key path.
func (m *Mistakes) Add(path, format string, args ...any) {
	*m = append(*m, Mistake{Path: path, Text: fmt.Sprintf(format, args...)})
}

// Err returns the list as an error, nil when it is empty.
func (m Mistakes) Err() error {
	if len(m) == 0 {
		return nil
	}
	return m
}
