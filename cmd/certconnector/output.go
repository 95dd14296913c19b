package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/certconnector/certconnector/internal/configfile"
	"github.com/certconnector/certconnector/internal/logging"
)

// printf writes to standard output. What comes from a device or a neighbour
// goes through show first.
func (p *program) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(p.out, format, args...) // nobody is left to tell when standard output is closed
}

// show makes a text fit for a terminal.
func show(s string) string { return logging.Printable(s) }

// writeJSON writes a result for programs.
func (p *program) writeJSON(v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	if _, err := p.out.Write(append(plain(b), '\n')); err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	return nil
}

// plain escapes what JSON leaves as it is and a terminal obeys: DEL, C1
// controls, and marks that turn the direction of writing.
func plain(b []byte) []byte {
	var out []byte
	for _, r := range string(b) {
		if r == '\n' || unicode.IsPrint(r) {
			out = utf8.AppendRune(out, r)
			continue
		}
		for _, unit := range utf16.AppendRune(nil, r) {
			out = fmt.Appendf(out, `\u%04x`, unit)
		}
	}
	return out
}

// table writes rows in columns; the first row is the head.
func (p *program) table(rows [][]string) error {
	w := tabwriter.NewWriter(p.out, 0, 4, 2, ' ', 0)
	for _, row := range rows {
		if _, err := fmt.Fprintln(w, strings.Join(row, "\t")); err != nil {
			return fmt.Errorf("writing the list: %w", err)
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("writing the list: %w", err)
	}
	return nil
}

// fail writes an error, each of its lines made fit for a terminal.
func (p *program) fail(err error) {
	if p.json {
		v := struct {
			Error    string    `json:"error"`
			Mistakes []mistake `json:"mistakes,omitempty"`
		}{err.Error(), mistakesIn(err)}
		if b, err := json.Marshal(v); err == nil {
			_, _ = fmt.Fprintf(p.err, "%s\n", plain(b)) // nobody is left to tell
		}
		return
	}
	lines := strings.Split(err.Error(), "\n")
	for i := range lines {
		lines[i] = show(lines[i])
	}
	_, _ = fmt.Fprintf(p.err, "certconnector: %s\n", strings.Join(lines, "\n  ")) // nobody is left to tell
}

// mistake is a configfile.Mistake for programs.
type mistake struct {
	Path string `json:"path"`
	Line int    `json:"line,omitempty"`
	Text string `json:"text"`
}

func mistakesIn(err error) []mistake {
	found, ok := errors.AsType[configfile.Mistakes](err)
	if !ok {
		return nil
	}
	list := make([]mistake, len(found))
	for i, m := range found {
		list[i] = mistake{Path: m.Path, Line: m.Line, Text: m.Text}
	}
	return list
}
