package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
)

// generateCommand is for those who make packages.
func (p *program) generateCommand() *cobra.Command {
	var date string
	c := &cobra.Command{
		Use:    "generate DIR",
		Short:  "Write man pages and shell completions into a folder, for packages",
		Args:   cobra.ExactArgs(1),
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			day, err := time.Parse(time.DateOnly, date)
			if err != nil {
				return fmt.Errorf("--date %q is no date as 2026-01-31", date)
			}
			return generate(cmd.Root(), args[0], day)
		},
	}
	c.Flags().StringVar(&date, "date", "", "date of the man pages, as 2026-01-31 (required)")
	return c
}

// generate writes man/*.8 and completions/* for every command.
func generate(root *cobra.Command, dir string, day time.Time) error {
	man, completions := filepath.Join(dir, "man"), filepath.Join(dir, "completions")
	for _, d := range []string{man, completions} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("making a folder: %w", err)
		}
	}
	root.InitDefaultHelpFlag()
	if err := writePages(root, man, day); err != nil {
		return err
	}
	for _, shell := range []struct {
		file  string
		write func(path string) error
	}{
		{"certconnector.bash", func(path string) error { return root.GenBashCompletionFileV2(path, true) }},
		{"_certconnector", root.GenZshCompletionFile},
		{"certconnector.fish", func(path string) error { return root.GenFishCompletionFile(path, true) }},
		{"certconnector.ps1", root.GenPowerShellCompletionFileWithDesc},
	} {
		if err := shell.write(filepath.Join(completions, shell.file)); err != nil {
			return fmt.Errorf("writing completions: %w", err)
		}
	}
	return nil
}

// writePages writes a page for a command and for each below it that is shown.
func writePages(c *cobra.Command, dir string, day time.Time) error {
	page := filepath.Join(dir, pageName(c)+".8")
	if err := os.WriteFile(page, []byte(manPage(c, day)), 0o644); err != nil {
		return fmt.Errorf("writing a man page: %w", err)
	}
	for _, sub := range documented(c) {
		if err := writePages(sub, dir, day); err != nil {
			return err
		}
	}
	return nil
}
