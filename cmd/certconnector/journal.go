package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/agent/control"
)

func (p *program) journalCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "journal",
		Short: "Back up the journal, restore it, and see what it holds",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(p.journalBackupCommand(), p.journalRestoreCommand(), p.journalInfoCommand())
	return c
}

func (p *program) journalBackupCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "backup FILE",
		Short: "Write a copy of the journal while the service runs",
		Long: `Has the running service write a copy of its journal to FILE, which must not be
there yet. The service writes it as its own account, with mode 0600, into a
folder that only its owner may write; where the unit restricts the service, that
is a folder below its state folder. The copy holds all that was durable when the
command was given, and is checked before it gets its name.

A copy holds what devices were issued and which challenges were used. The keys
are not in it: see "Backup" in docs/operations.md.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return p.journalBackup(cmd.Context(), args[0]) },
	}
}

func (p *program) journalBackup(ctx context.Context, file string) error {
	file, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	client, err := p.dial()
	if err != nil {
		return err
	}
	info, err := client.Backup(ctx, file)
	if err != nil {
		return answered(err)
	}
	if p.json {
		return p.writeJSON(info)
	}
	p.printf("%s holds %d enrolments and %d certificates of embedded CAs (%d bytes, schema version %d)\n",
		show(info.Path), info.Entries, info.Certificates, info.Bytes, info.Schema)
	return nil
}

func (p *program) journalInfoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "info [FILE]",
		Short: "Show what the journal holds, or a copy of it",
		Long: `Shows the schema version, how many enrolments a journal holds and of what time,
and when it was last restored: of the configured journal, whether the service
runs or not, or of a copy.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			info, err := p.inspect(cmd.Context(), args)
			if err != nil {
				return err
			}
			if p.json {
				return p.writeJSON(info)
			}
			return p.journalTable(info)
		},
	}
}

// inspect looks at a file, or asks the service; without one it looks at the
// configured journal.
func (p *program) inspect(ctx context.Context, args []string) (control.JournalInfo, error) {
	if len(args) == 1 {
		return (&agent.Config{}).InspectJournal(args[0])
	}
	if client, err := p.dial(); err == nil {
		info, err := client.JournalInfo(ctx)
		return info, answered(err)
	}
	c, err := agent.LoadConfig(p.config)
	if err != nil {
		return control.JournalInfo{}, err
	}
	return c.InspectJournal("")
}

func (p *program) journalTable(i control.JournalInfo) error {
	rows := [][]string{
		{"file", show(i.Path)},
		{"schema version", strconv.Itoa(i.Schema)},
		{"bytes", strconv.FormatInt(i.Bytes, 10)},
		{"enrolments", strconv.FormatInt(i.Entries, 10)},
		{"oldest", moment(i.Oldest)},
		{"newest", moment(i.Newest)},
		{"certificates of embedded CAs", strconv.FormatInt(i.Certificates, 10)},
		{"jobs", strconv.FormatInt(i.Jobs, 10)},
		{"restored", moment(i.RestoredAt)},
	}
	if !i.MadeAt.IsZero() {
		rows = append(rows, []string{"copied", moment(i.MadeAt) + " by " + show(i.MadeBy)})
	}
	return p.table(rows)
}

func (p *program) journalRestoreCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "restore FILE",
		Short: "Put a copy in the place of the journal; the service must not run",
		Long: `Puts a copy of the journal in its place. Stop the service first, and run this as
the service's account. FILE is what "journal backup" wrote, a copy of the file
(with the one ending in -wal beside it, if there was one), or a journal that an
earlier restore put away; it stays as it is. A copy that a newer program wrote
is refused.

Nothing is deleted: the present journal stays beside the new one, under a name
that is printed. The next start finds the restore, and refuses challenges that
were made before.

What happened since the copy was made is forgotten. Certificates that an
embedded CA has issued since are valid, but it does not know them, and
revocations since are undone: have a list of both, as from your logs.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return p.journalRestore(args[0]) },
	}
}

func (p *program) journalRestore(file string) error {
	c, err := agent.LoadConfig(p.config)
	if err != nil {
		return err
	}
	r, err := c.RestoreJournal(file)
	if err != nil {
		if r.Kept != "" {
			err = errors.Join(err, fmt.Errorf("the journal that was there is now %q", r.Kept))
		}
		return err
	}
	if p.json {
		return p.writeJSON(r)
	}
	p.restored(r)
	return nil
}

// restored says what was done, what that costs, and what comes next.
func (p *program) restored(r agent.RestoredJournal) {
	p.printf("%s holds %d enrolments now, the last of %s\n", show(r.Copy.Path), r.Copy.Entries, moment(r.Copy.Newest))
	if r.Kept != "" {
		p.printf("the journal that was there is kept: %s\n", show(r.Kept))
	}
	switch {
	case r.Damaged != "":
		p.printf("it could not be read: %s\n", show(r.Damaged))
	case r.Before.Entries > r.Copy.Entries:
		p.printf("WARNING: it held %d enrolments more, the last of %s; they are forgotten\n", r.Before.Entries-r.Copy.Entries, moment(r.Before.Newest))
	}
	if len(r.Embedded) > 0 {
		p.printf(`WARNING: certificates that %s issued since are valid, but unknown to it;
revocations since then are undone: revoke again what must stay revoked
`, show(strings.Join(r.Embedded, ", ")))
	}
	p.printf(`next:
  1. start the service: it refuses challenges that were made before, and its log says so
  2. "certconnector reconcile" says what differs
  3. see "Backup" in docs/operations.md for what a restored journal has forgotten
`)
}
