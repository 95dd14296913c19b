// Command certconnector is a certificate connector compatible with Microsoft
// Intune: an SCEP service for devices, with Intune, challenges of its own or a
// shared secret to decide and a certificate authority behind it. Flags become calls; nothing
// is decided here.
package main

import (
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/certconnector/certconnector/agent"
)

// Exit codes.
const (
	exitOK      = 0
	exitRefused = 1 // warnings, or the service declined
	exitError   = 2
	exitPIN     = 3 // of "run": a token refuses the PIN; the unit does not start it again
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run carries out one command line.
func run(args []string, stdout, stderr io.Writer) int {
	p := &program{out: stdout, err: stderr}
	root := p.root()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return p.execute(root)
}

// execute runs a command, and says what went wrong.
func (p *program) execute(c *cobra.Command) int {
	err := c.Execute()
	if err == nil {
		return exitOK
	}
	code := exitError
	if _, locks := errors.AsType[*locking](err); locks {
		code = exitPIN
	}
	if r, ok := errors.AsType[*refused](err); ok {
		code, err = exitRefused, r.err
	}
	if _, said := errors.AsType[*reported](err); err != nil && !said {
		p.fail(err)
	}
	return code
}

// program is what all commands share.
type program struct {
	out, err io.Writer
	config   string // --config
	json     bool   // --json
}

// refused is a result with exit code 1. err may be nil when all is said.
type refused struct{ err error }

// Error returns the reason.
func (r *refused) Error() string {
	if r.err == nil {
		return "refused"
	}
	return r.err.Error()
}

// reported is an error that the operator has been told.
type reported struct{ error }

// Unwrap returns the error.
func (r *reported) Unwrap() error { return r.error }

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "certconnector",
		Short:         "A certificate connector compatible with Microsoft Intune",
		SilenceErrors: true,
		SilenceUsage:  true,
		Long: `A certificate connector compatible with Microsoft Intune: devices enrol by SCEP,
Intune decides, a certificate authority issues. Begin with "certconnector init".

Exit codes: 0 ok, 1 warnings or refused, 2 error.`,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().StringVar(&p.config, "config", agent.DefaultConfigPath(), "configuration file")
	root.PersistentFlags().BoolVar(&p.json, "json", false, "write results as JSON")
	root.AddCommand(p.initCommand(), p.runCommand(), p.validateCommand(), p.schemaCommand(),
		p.requestsCommand(), p.revokeCommand(), p.challengeCommand(), p.traceCommand(), p.raCommand(), p.versionCommand())
	root.AddCommand(p.importNDESCommand(), p.exportRootCommand(), p.caCommand(), p.jobsCommand(), p.importIssuedCommand(),
		p.certificatesCommand(), p.entraCommand(), p.intuneCommand(), p.csrCommand(), p.reconcileCommand(), p.statusCommand(), p.journalCommand(),
		p.serviceCommand(), p.generateCommand(), p.reloadCommand(), p.keysCommand())
	return root
}
