// Command certlab is the laboratory of certconnector: a simulated cloud,
// devices of every platform, load, and a demonstration that breaks things, all
// on the loopback interface. Flags become calls; the work is in the packages
// below.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/certconnector/certconnector/internal/logging"
)

// Exit codes.
const (
	exitOK      = 0
	exitRefused = 1 // refused, pending, or a demonstration that failed
	exitError   = 2
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run carries out one command line. An interrupt or SIGTERM ends it in order,
// a second one at once.
func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	p := &program{out: stdout, err: stderr}
	root := p.root()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errRefused):
		return exitRefused
	}
	p.fail(err)
	return exitError
}

// errRefused is a result with exit code 1 of which all is said.
var errRefused = errors.New("refused")

// program is what all commands share.
type program struct {
	out, err io.Writer
	json     bool // --json
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "certlab",
		Short:         "A laboratory for certconnector: a cloud, devices and load on this machine",
		SilenceErrors: true,
		SilenceUsage:  true,
		Long: `A laboratory for certconnector. Begin with "certlab demo".

Exit codes: 0 ok, 1 refused, pending or failed, 2 error.`,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().BoolVar(&p.json, "json", false, "write results as JSON")
	root.AddCommand(p.demoCommand(), p.enrollCommand(), p.loadCommand(), p.cloudCommand(), p.adcsCommand(), p.benchCommand())
	return root
}

// printf writes to standard output. What comes from a neighbour goes through
// show first.
func (p *program) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(p.out, format, args...) // nobody is left to tell when standard output is closed
}

// show makes a text fit for a terminal.
func show(s string) string { return logging.Printable(s) }

// writeJSON writes a result for programs.
func (p *program) writeJSON(v any) error {
	e := json.NewEncoder(p.out)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	return nil
}

// fail writes an error, each of its lines made fit for a terminal.
func (p *program) fail(err error) {
	if p.json {
		if b, err := json.Marshal(map[string]string{"error": err.Error()}); err == nil {
			_, _ = fmt.Fprintf(p.err, "%s\n", b) // nobody is left to tell
		}
		return
	}
	lines := strings.Split(err.Error(), "\n")
	for i := range lines {
		lines[i] = show(lines[i])
	}
	_, _ = fmt.Fprintf(p.err, "certlab: %s\n", strings.Join(lines, "\n  ")) // nobody is left to tell
}
