package ndesimport

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits of an export. That of NDES is below 10 KiB; they leave room for one
// of everything around it.
const (
	// MaxBytes is the size of the largest file that is read.
	MaxBytes = 4 << 20

	maxLine     = 1 << 20 // characters of one value, its continuations included
	maxDepth    = 512     // levels of keys; the registry has no more
	maxName     = 255     // characters of a key's name; the registry has no more
	maxKeys     = 16384
	maxRemovals = 1024
)

type parser struct {
	tree    *Tree
	rest    string
	line    int
	wide    bool // texts in hex are UTF-16LE, as in version 5.00
	key     *Key
	skipped bool // what follows belongs to a key that was removed
}

// Parse reads a registry export: version 5.00 or REGEDIT4, in UTF-16, UTF-8
// or ANSI, with any line endings. A key or value that is named twice has the
// later content, as regedit would leave it. An error names the line.
func Parse(b []byte) (*Tree, error) {
	if len(b) > MaxBytes {
		return nil, fmt.Errorf("the file is larger than %d bytes; export only HKLM\\SOFTWARE\\Microsoft\\Cryptography\\MSCEP", MaxBytes)
	}
	text, err := decode(b)
	if err != nil {
		return nil, err
	}
	p := &parser{rest: text, tree: &Tree{index: map[string]*Key{}}}
	if err := p.header(); err != nil {
		return nil, err
	}
	for {
		line, ok := p.next()
		if !ok {
			p.tree.compact()
			return p.tree, nil
		}
		if err := p.read(strings.TrimSpace(line)); err != nil {
			return nil, fmt.Errorf("line %d: %w", p.line, err)
		}
	}
}

func (p *parser) next() (string, bool) {
	if p.rest == "" {
		return "", false
	}
	p.line++
	line, rest, _ := strings.Cut(p.rest, "\n")
	p.rest = rest
	return strings.TrimSuffix(line, "\r"), true
}

func (p *parser) header() error {
	for {
		line, ok := p.next()
		line = strings.TrimSpace(line)
		switch {
		case !ok:
			return errors.New("the file is empty")
		case line == "" || line[0] == ';':
		case strings.EqualFold(line, "Windows Registry Editor Version 5.00"):
			p.wide = true
			return nil
		case strings.EqualFold(line, "REGEDIT4"):
			return nil
		default:
			return fmt.Errorf("line %d: %.60q does not begin a registry export; want Windows Registry Editor Version 5.00 or REGEDIT4", p.line, line)
		}
	}
}

func (p *parser) read(line string) error {
	switch {
	case line == "" || line[0] == ';':
		return nil
	case line[0] == '[':
		return p.keyLine(line)
	case line[0] == '"' || line[0] == '@':
		return p.valueLine(line)
	}
	return fmt.Errorf("%.60q is neither a key, a value nor a comment", line)
}

func (p *parser) keyLine(line string) error {
	end := strings.LastIndexByte(line, ']') // a name may hold one
	if end < 0 {
		return fmt.Errorf("the key %.60q has no end", line)
	}
	path, removed := strings.CutPrefix(line[1:end], "-")
	path, err := keyPath(path)
	if err != nil {
		return err
	}
	p.skipped = removed
	if removed {
		return p.tree.removeKey(path)
	}
	p.key = p.tree.key(path)
	if len(p.tree.Keys) > maxKeys {
		return fmt.Errorf("the file has more than %d keys; export only HKLM\\SOFTWARE\\Microsoft\\Cryptography\\MSCEP", maxKeys)
	}
	return nil
}

// keyPath checks a path and writes its root in full.
func keyPath(path string) (string, error) {
	names := strings.Split(strings.TrimSpace(path), `\`)
	if len(names) > maxDepth {
		return "", fmt.Errorf("a key has more than %d levels", maxDepth)
	}
	for _, name := range names {
		if name == "" || utf8.RuneCountInString(name) > maxName {
			return "", fmt.Errorf("the key %.60q has a name that is empty or longer than %d characters", path, maxName)
		}
	}
	if strings.EqualFold(names[0], "HKLM") {
		names[0] = "HKEY_LOCAL_MACHINE"
	}
	return strings.Join(names, `\`), nil
}

func (p *parser) valueLine(line string) error {
	name, data := "", line[1:]
	if line[0] == '"' {
		var closed bool
		if name, data, closed = unquote(line[1:]); !closed {
			return fmt.Errorf("the name %.60q has no end", line)
		}
	}
	data, ok := strings.CutPrefix(strings.TrimSpace(data), "=")
	if !ok {
		return fmt.Errorf("the value %.60q has no =", line)
	}
	v, removed, err := p.value(strings.TrimSpace(data))
	switch {
	case err != nil:
		return fmt.Errorf("the value %.60q: %w", name, err)
	case p.skipped:
		return fmt.Errorf("the value %.60q stands in a key that is deleted", name)
	case p.key == nil:
		return fmt.Errorf("the value %.60q stands before the first key", name)
	}
	v.Name = name
	return p.tree.put(p.key, v, removed)
}
