package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// manPage is a command's page for section 8, in the man(7) macros.
func manPage(c *cobra.Command, day time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 8 %s \"certconnector\" \"certconnector\"\n", strings.ToUpper(pageName(c)), day.Format(time.DateOnly))
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(pageName(c)), roff(c.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(synopsis(c)))
	b.WriteString(".SH DESCRIPTION\n" + paragraphs(description(c)))
	if c.Example != "" {
		b.WriteString(".SH EXAMPLES\n.nf\n" + roff(c.Example) + "\n.fi\n")
	}
	writeFlags(&b, "OPTIONS", c.NonInheritedFlags())
	writeFlags(&b, "OPTIONS OF EVERY COMMAND", c.InheritedFlags())
	if !c.HasParent() {
		b.WriteString(".SH FILES\n")
		b.WriteString(".TP\n.I /etc/certconnector/certconnector.yaml\nThe configuration.\n")
		b.WriteString(".TP\n.I /var/lib/certconnector\nKeys, certificates and journal of the packaged service.\n")
	}
	writeSeeAlso(&b, c)
	return b.String()
}

// pageName is a command's name as its page has it: certconnector-ra-enroll.
func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

// documented are the commands below one that people are shown.
func documented(c *cobra.Command) []*cobra.Command {
	var shown []*cobra.Command
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "help" {
			shown = append(shown, sub)
		}
	}
	return shown
}

func synopsis(c *cobra.Command) string {
	if !c.Runnable() {
		return c.CommandPath() + " COMMAND"
	}
	return c.UseLine()
}

func description(c *cobra.Command) string {
	if c.Long != "" {
		return c.Long
	}
	return c.Short + "."
}

func writeFlags(b *strings.Builder, head string, flags *pflag.FlagSet) {
	if !flags.HasAvailableFlags() {
		return
	}
	b.WriteString(".SH " + head + "\n")
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		if value != "" {
			name += " " + value
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" && f.DefValue != "0s" && !strings.Contains(usage, "(default") {
			usage += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(b, ".TP\n.B %s\n%s.\n", roff(name), roff(usage))
	})
}

func writeSeeAlso(b *strings.Builder, c *cobra.Command) {
	var names []string
	if c.HasParent() {
		names = append(names, pageName(c.Parent()))
	}
	for _, sub := range documented(c) {
		names = append(names, pageName(sub))
	}
	if len(names) == 0 {
		return
	}
	for i, n := range names {
		names[i] = "\n.BR " + roff(n) + " (8)"
	}
	b.WriteString(".SH SEE ALSO" + strings.Join(names, " ,") + "\n")
}

// paragraphs keeps the lines of a help text that are set apart by indentation
// and lets the others flow.
func paragraphs(text string) string {
	var b strings.Builder
	for i, block := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		if strings.Contains("\n"+block, "\n ") {
			b.WriteString(".nf\n" + roff(block) + "\n.fi\n")
			continue
		}
		b.WriteString(roff(block) + "\n")
	}
	return b.String()
}

// roff escapes what the formatter would take for its own.
func roff(s string) string {
	s = strings.ReplaceAll(s, `\`, `\e`)
	s = strings.ReplaceAll(s, "-", `\-`)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}
