package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/internal/configfile"
)

func (p *program) validateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "validate",
		Short: "Check the configuration file and every file that it names",
		Long: `Checks the configuration file as "run" does, and every file that it names.
Nothing is changed and no neighbour is asked; it may run beside the service.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return p.validate() },
	}
}

func (p *program) validate() error {
	c, err := agent.LoadConfig(p.config)
	if err == nil {
		err = c.CheckFiles()
	}
	if _, ok := errors.AsType[configfile.Mistakes](err); err != nil && !ok {
		return err // the file cannot be read
	}
	warnings := []string{}
	if err == nil {
		warnings = append(warnings, c.Warnings()...)
	}
	if p.json {
		found := mistakesIn(err)
		if found == nil {
			found = []mistake{}
		}
		if err := p.writeJSON(map[string]any{"file": p.config, "mistakes": found, "warnings": warnings}); err != nil {
			return err
		}
	}
	switch {
	case err != nil && p.json:
		return errors.New("the configuration is wrong")
	case err != nil:
		return fmt.Errorf("%s is wrong:\n%w", p.config, err)
	}
	if !p.json {
		for _, w := range warnings {
			p.printf("warning: %s\n", show(w))
		}
		p.printf("%s is in order\n", show(p.config))
	}
	if len(warnings) > 0 {
		return &refused{}
	}
	return nil
}

func (p *program) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Write the JSON Schema of the configuration file, for editors",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := agent.ConfigSchema()
			if err != nil {
				return err
			}
			p.printf("%s", s)
			return nil
		},
	}
}
