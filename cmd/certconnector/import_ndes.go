package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/certconnector/certconnector/installer/ndesimport"
	"github.com/certconnector/certconnector/internal/durable"
)

func (p *program) importNDESCommand() *cobra.Command {
	var o ndesimport.Options
	var output string
	c := &cobra.Command{
		Use:   "import-ndes FILE.reg [flags]",
		Short: "Make an endpoint of a registry export of NDES",
		Long: `Makes an endpoint for certconnector.yaml of a registry export of Microsoft's
NDES. On that server: reg export HKLM\SOFTWARE\Microsoft\Cryptography\MSCEP ndes.reg

The endpoint goes to standard output, or to a new file. What became of each
value goes to standard error. Nothing else is read or changed.

Exit codes: 0 everything was taken over, 1 something needs a person, 2 error.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return p.importNDES(args[0], output, o) },
	}
	c.Flags().StringVar(&o.Endpoint, "endpoint", "ndes", "name of the endpoint")
	c.Flags().StringVar(&o.CA, "ca", "", "name in cas of the CA that issues (default: left to fill in)")
	c.Flags().StringVar(&o.Tenant, "tenant", "", "name in tenants, where Intune decides (default: left to fill in)")
	c.Flags().StringVar(&output, "output", "", "new file for the endpoint (default: standard output)")
	return c
}

func (p *program) importNDES(file, output string, o ndesimport.Options) error {
	result, err := readNDES(file, o)
	if err != nil {
		return fmt.Errorf("reading %s: %w", file, err)
	}
	if output != "" {
		if err := durable.Create(output, []byte(result.YAML), 0o600); err != nil {
			return fmt.Errorf("writing the endpoint: %w", err)
		}
	}
	switch {
	case p.json:
		err = p.writeJSON(struct {
			File string `json:"file,omitempty"`
			ndesimport.Result
			NeedsPerson bool `json:"needs_person"`
		}{output, result, result.NeedsPerson()})
	default:
		if output == "" {
			_, err = io.WriteString(p.out, result.YAML)
		}
		if err == nil {
			err = p.findings(result.Findings)
		}
	}
	if err == nil && result.NeedsPerson() {
		return &refused{}
	}
	return err
}

func readNDES(file string, o ndesimport.Options) (ndesimport.Result, error) {
	b, err := durable.ReadFile(file, ndesimport.MaxBytes)
	if err != nil {
		return ndesimport.Result{}, err
	}
	tree, err := ndesimport.Parse(b)
	if err != nil {
		return ndesimport.Result{}, err
	}
	return ndesimport.Import(tree, o)
}

// findings writes the report beside the endpoint, which may go into a pipe.
func (p *program) findings(list []ndesimport.Finding) error {
	w := tabwriter.NewWriter(p.err, 0, 4, 2, ' ', 0)
	row := func(cells ...string) {
		for i, c := range cells {
			if cells[i] = show(c); c == "" {
				cells[i] = "-"
			}
		}
		_, _ = fmt.Fprintln(w, strings.Join(cells, "\t")) // Flush returns what went wrong
	}
	row("KIND", "VALUE", "WAS", "BECAME", "WHY")
	for _, f := range list {
		row(string(f.Kind), f.Value, f.Was, f.Became, f.Why)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("writing the findings: %w", err)
	}
	return nil
}
