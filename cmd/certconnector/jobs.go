package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/certconnector/certconnector/agent/control"
)

func (p *program) jobsCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "jobs",
		Short: "Show the work that a cloud or a queue handed us, and steer it",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(p.jobsListCommand(), p.jobsSourcesCommand(), p.jobsResumeCommand())
	return c
}

func (p *program) jobsListCommand() *cobra.Command {
	var f control.JobFilter
	c := &cobra.Command{
		Use:   "list",
		Short: "List jobs, newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, err := p.dial()
			if err != nil {
				return err
			}
			list, err := client.Jobs(cmd.Context(), f)
			if err != nil {
				return answered(err)
			}
			if p.json {
				return p.writeJSON(list)
			}
			return p.jobTable(list)
		},
	}
	c.Flags().StringSliceVar(&f.States, "state", nil, "only these states: open, owed, over; repeat for more")
	c.Flags().StringVar(&f.Source, "source", "", "only this source, as revocations/contoso")
	c.Flags().IntVar(&f.Limit, "limit", 100, "at most so many")
	return c
}

func (p *program) jobTable(list []control.Job) error {
	rows := [][]string{{"ID", "KIND", "STATE", "RESULT", "SOURCE", "WHAT", "CHANGED", "REASON"}}
	for _, j := range list {
		rows = append(rows, []string{
			show(j.ID), show(j.Kind), show(j.State), show(j.Result), show(j.Source), show(j.Summary),
			j.UpdatedAt.Local().Format(time.DateTime), show(j.Reason),
		})
	}
	return p.table(rows)
}

func (p *program) jobsSourcesCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "sources",
		Short: "Show how each source of jobs stands",
		Long: `Shows each source of jobs: which instance asks it, when it was last asked, how
many jobs are open and how many results are owed, and since when. Exit code 1
when one is paused.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.jobsSources(cmd.Context()) },
	}
}

func (p *program) jobsSources(ctx context.Context) error {
	client, err := p.dial()
	if err != nil {
		return err
	}
	list, err := client.Sources(ctx)
	if err != nil {
		return answered(err)
	}
	paused := false
	rows := [][]string{{"SOURCE", "ASKED BY", "LAST ASKED", "OPEN", "SINCE", "OWED", "SINCE", "PAUSED"}}
	for _, s := range list {
		paused = paused || !s.PausedAt.IsZero()
		rows = append(rows, []string{
			show(s.Name), show(s.Leader), moment(s.LastPoll), strconv.Itoa(s.Open), moment(s.OldestOpen),
			strconv.Itoa(s.Owed), moment(s.OldestOwed), show(s.PausedWhy),
		})
	}
	if p.json {
		err = p.writeJSON(list)
	} else {
		err = p.table(rows)
	}
	if err == nil && paused {
		return &refused{}
	}
	return err
}

// moment shows a time that may not have come yet.
func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Local().Format(time.DateTime)
}

func (p *program) jobsResumeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "resume SOURCE",
		Short: "Let the work of a paused source go on",
		Long: `A source is paused when it has more certificates revoked within an hour than
revocation.at_most_per_hour: then either many devices were wiped, or somebody
speaks for the tenant who should not. Look at "certconnector jobs list --source
SOURCE --state open" first. Counting begins anew.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := p.dial()
			if err != nil {
				return err
			}
			if err := client.ResumeSource(cmd.Context(), args[0]); err != nil {
				return answered(err)
			}
			return p.done("source %s goes on", args[0])
		},
	}
}

// importAtOnce is how many serial numbers go to the service in one call.
const importAtOnce = 500

func (p *program) importIssuedCommand() *cobra.Command {
	var tenant, caName string
	c := &cobra.Command{
		Use:   "import-issued --tenant NAME --ca NAME FILE",
		Short: "Let a tenant revoke certificates that another system issued for it",
		Long: `Records certificates that another connector issued for a tenant, so that the
tenant's revocations of them are carried out here: without that only
certificates of this journal are revoked.

FILE holds PEM certificates, or one hexadecimal serial number a line (further
columns after a comma, and lines that begin with #, are left out); "-" reads
standard input. A list comes from the CA, as by "certutil -view -restrict
RequesterName=CORP\ndes$ -out SerialNumber csv". Importing twice is harmless.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.importIssued(cmd.Context(), tenant, caName, args[0], cmd.InOrStdin())
		},
	}
	c.Flags().StringVar(&tenant, "tenant", "", "configured name of the tenant (needed)")
	c.Flags().StringVar(&caName, "ca", "", "configured name of the CA (needed)")
	for _, needed := range []string{"tenant", "ca"} {
		_ = c.MarkFlagRequired(needed) // the flag exists
	}
	return c
}

func (p *program) importIssued(ctx context.Context, tenant, caName, file string, stdin io.Reader) error {
	content, err := readInput(file, stdin)
	if err != nil {
		return err
	}
	serials, err := readSerials(content)
	if err != nil {
		return fmt.Errorf("%q: %w; nothing was imported", file, err)
	}
	client, err := p.dial()
	if err != nil {
		return err
	}
	added := 0
	for rest := serials; len(rest) > 0; {
		n := min(len(rest), importAtOnce)
		more, err := client.ImportIssued(ctx, control.Import{Tenant: tenant, CA: caName, Serials: rest[:n]})
		if err != nil {
			return answered(fmt.Errorf("after %d of %d (run it again, it goes on): %w", len(serials)-len(rest), len(serials), err))
		}
		added, rest = added+more, rest[n:]
	}
	if p.json {
		return p.writeJSON(map[string]int{"named": len(serials), "added": added})
	}
	p.printf("%d certificates named, %d of them new\n", len(serials), added)
	return nil
}

// maxInput bounds what a command reads from a file.
const maxInput = 256 << 20

func readInput(file string, stdin io.Reader) ([]byte, error) {
	from := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // only read
		from = f
	}
	b, err := io.ReadAll(io.LimitReader(from, maxInput+1))
	if err == nil && len(b) > maxInput {
		err = fmt.Errorf("%q is longer than %d MiB; import it in parts", file, maxInput>>20)
	}
	return b, err
}

// readSerials reads serial numbers from PEM certificates or from lines.
func readSerials(content []byte) ([]string, error) {
	if bytes.Contains(content, []byte("-----BEGIN CERTIFICATE-----")) {
		return serialsOfCertificates(content)
	}
	var serials []string
	lines := bufio.NewScanner(bytes.NewReader(content))
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(strings.TrimPrefix(lines.Text(), "\ufeff"), ",")
		text = strings.ToLower(strings.NewReplacer(" ", "", ":", "", `"`, "", "\r", "").Replace(text))
		text = strings.TrimPrefix(text, "0x")
		if text == "" || text[0] == '#' || n == 1 && strings.Contains(text, "serial") {
			continue // a comment, or the head of a table
		}
		if len(text) > 64 || strings.Trim(text, "0123456789abcdef") != "" {
			return nil, fmt.Errorf("line %d does not begin with a hexadecimal serial number", n)
		}
		serials = append(serials, text)
	}
	return serials, lines.Err()
}

func serialsOfCertificates(content []byte) ([]string, error) {
	var serials []string
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(serials)+1, err)
		}
		serials = append(serials, fmt.Sprintf("%x", cert.SerialNumber))
	}
	return serials, nil
}
