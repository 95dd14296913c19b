package main

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/certconnector/certconnector/internal/keys"
)

func (p *program) keysSealCommand() *cobra.Command {
	var scope string
	c := &cobra.Command{
		Use:   "seal FILE",
		Short: "On Windows: have DPAPI seal a private key's file",
		Long: `Replaces the private key in a PEM file by the same key, sealed with DPAPI
(CryptProtectData). The service goes on with it; the configuration stays as it is.

A key sealed for the machine opens for every account that may read the file, on
this machine only: it protects copies of the file, as in backups. A key sealed for
the user opens for the account that sealed it: run the command as the service's
account. Administrators of the running machine can open both.

The old content is overwritten and removed, but volume snapshots and backups may
have it still. A sealed key cannot be moved to another machine: keep what you need
to enrol a new one.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return p.keysSeal(args[0], scope) },
	}
	c.Flags().StringVar(&scope, "scope", string(keys.ScopeMachine), "who can open it: machine or user")
	return c
}

func (p *program) keysSeal(file, scopeName string) error {
	scope, err := keys.ParseScope(scopeName)
	if err != nil {
		return err
	}
	if file, err = filepath.Abs(file); err != nil {
		return err
	}
	if err := keys.Seal(file, scope); err != nil {
		return err
	}
	if p.json {
		return p.writeJSON(map[string]string{"file": file, "scope": string(scope)})
	}
	p.printf("%s is sealed for this %s\n", show(file), scope)
	return nil
}
