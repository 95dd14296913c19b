package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/certconnector/certconnector/agent/control"
)

func (p *program) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show how the running service is: problems, who waits, what is owed",
		Long: `Shows whether the service can do its work, who waits for the keys of the
registration authority and for CAs, and what the outbox has to deliver. What
clouds and queues want done is shown by "certconnector jobs sources".

Exit codes: 0 ready, 1 not ready, 2 error.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.status(cmd.Context()) },
	}
}

func (p *program) status(ctx context.Context) error {
	client, err := p.dial()
	if err != nil {
		return err
	}
	st, err := client.Status(ctx)
	if err != nil {
		return answered(err)
	}
	if p.json {
		err = p.writeJSON(st)
	} else {
		err = p.statusPage(st)
	}
	if err == nil && !st.Ready {
		return &refused{}
	}
	return err
}

func (p *program) statusPage(st control.Status) error {
	p.printf("version %s, started %s\n", show(st.Version), st.StartedAt.Local().Format(time.DateTime))
	if st.Ready {
		p.printf("ready\n")
	}
	for _, text := range st.Problems {
		p.printf("PROBLEM: %s\n", show(text))
	}
	for _, text := range st.Warnings {
		p.printf("warning: %s\n", show(text))
	}
	rows := [][]string{{"WAITING FOR", "IN USE", "DEVICES", "JOBS", "LONGEST", "SENT AWAY"}}
	for _, q := range st.Queues {
		rows = append(rows, []string{
			show(q.Name), fmt.Sprintf("%d of %d", q.InUse, q.Slots), strconv.Itoa(q.Waiting), strconv.Itoa(q.Jobs),
			q.Oldest.Round(time.Millisecond).String(), sentAway(q.Shed),
		})
	}
	if err := p.table(rows); err != nil {
		return err
	}
	rows = [][]string{{"OWED", "NUMBER", "SINCE"}}
	for _, o := range st.Owed {
		rows = append(rows, []string{show(o.Kind), strconv.Itoa(o.N), moment(o.Oldest)})
	}
	if len(rows) == 1 {
		p.printf("nothing is owed\n")
		return nil
	}
	return p.table(rows)
}

// sentAway lists reasons and numbers.
func sentAway(shed map[string]uint64) string {
	if len(shed) == 0 {
		return "-"
	}
	var list []string
	for why, n := range shed {
		list = append(list, fmt.Sprintf("%d %s", n, show(why)))
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}
