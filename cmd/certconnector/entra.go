package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/agent/identity/entra"
	"github.com/certconnector/certconnector/internal/secret"
)

func (p *program) entraCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "entra",
		Short: "Make, show and replace the certificate that signs in at Entra ID",
		Long: `For tenants with "credential: {managed: {}}": the service signs in with a
certificate that it keeps in state_dir, and replaces it in time. These commands
work beside the running service and without it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var tenant string
	c.PersistentFlags().StringVar(&tenant, "tenant", "", "configured name of the tenant; may be left out where there is only one")
	c.AddCommand(&cobra.Command{
		Use:   "create",
		Short: "Make a certificate, and say where to upload it",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return p.entraCreate(cmd.Context(), tenant) },
	}, &cobra.Command{
		Use:   "show",
		Short: "Show the certificates of a tenant and what happens to them next",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return p.entraShow(tenant) },
	})
	c.AddCommand(&cobra.Command{
		Use:   "adopt CERTIFICATE KEY",
		Short: "Take over a certificate that was uploaded before, as that of init",
		Long: `Copies a certificate and its RSA key, PEM, into the tenant's folder: so a tenant
that named files is changed to "managed: {}" without another upload. The files
themselves stay; remove the key once the service signs in.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.entraAdopt(cmd.Context(), tenant, args[0], args[1])
		},
	})
	var within time.Duration
	rotate := &cobra.Command{
		Use:   "rotate",
		Short: "Replace the certificate now, through Microsoft Graph",
		Long: `Makes a new certificate, has it added to the app registration (addKey, with a
proof that a registered key is held), and waits until a token was had with it.
The old one serves meanwhile and is removed after the overlap. Where the tenant
refuses that, grant Application.ReadWrite.OwnedBy: docs/entra.md says how.
Exit code 1 when a person must upload it instead.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.entraRotate(cmd.Context(), tenant, within) },
	}
	rotate.Flags().DurationVar(&within, "within", 10*time.Minute, "how long to wait for Entra ID to know the new one")
	c.AddCommand(rotate)
	return c
}

// store opens the certificates of a tenant, to look at them or to change them.
func (p *program) store(tenant string, change bool) (s *entra.Store, clientID string, err error) {
	cfg, err := agent.LoadConfig(p.config)
	if err != nil {
		return nil, "", err
	}
	if tenant == "" {
		if len(cfg.Tenants) != 1 {
			return nil, "", fmt.Errorf("there are %d tenants; name one with --tenant", len(cfg.Tenants))
		}
		tenant = cfg.Tenants[0].Name
	}
	for _, t := range cfg.Tenants {
		if t.Name != tenant {
			continue
		}
		clientID = t.ClientID
		if m := t.Credential.Managed; m != nil {
			if err := ownFolder(m.Folder, change); err != nil {
				return nil, "", err
			}
		}
	}
	s, err = agent.OpenEntra(cfg, tenant, zap.NewNop())
	return s, clientID, err
}

// ownFolder refuses to make files that the service could not read: where the
// folder, or what it would be made in, belongs to another account. One that is
// there may be looked at.
func ownFolder(folder string, change bool) error {
	for path := folder; ; path = filepath.Dir(path) {
		_, err := os.Stat(path)
		switch {
		case err == nil && path == folder && !change:
			return nil
		case err == nil, !errors.Is(err, fs.ErrNotExist), path == filepath.Dir(path):
			return secret.CheckOwner(path)
		}
	}
}

func (p *program) entraCreate(ctx context.Context, tenant string) error {
	s, clientID, err := p.store(tenant, true)
	if err != nil {
		return err
	}
	u, err := s.Create(ctx)
	if err != nil {
		return err
	}
	return p.showUpload(u, clientID)
}

// showUpload says which certificate there is and what a person does with it.
func (p *program) showUpload(u entra.Upload, clientID string) error {
	if p.json {
		return p.writeJSON(u)
	}
	for line := range strings.SplitSeq(strings.TrimSpace(u.Guide(clientID)), "\n") {
		p.printf("%s\n", show(line))
	}
	return nil
}

func (p *program) entraAdopt(ctx context.Context, tenant, certificate, key string) error {
	s, _, err := p.store(tenant, true)
	if err != nil {
		return err
	}
	cfg, err := agent.LoadConfig(p.config)
	if err != nil {
		return err
	}
	made, err := agent.LoadEntraCredential(cfg, certificate, key)
	if err != nil {
		return err
	}
	if err := s.Adopt(ctx, made); err != nil {
		return err
	}
	return p.done("certificate %s is taken over", entra.Thumbprint(made.Certificate.Raw))
}

func (p *program) entraShow(tenant string) error {
	s, _, err := p.store(tenant, false)
	if err != nil {
		return err
	}
	items := s.Items()
	problems := len(items) == 0
	rows := [][]string{{"CERTIFICATE", "STATE", "THUMBPRINT", "ENDS", "NEXT"}}
	for _, i := range items {
		next := i.Next
		if i.Problem != "" {
			problems = true
			next = "PROBLEM: " + i.Problem + "; " + next
		}
		rows = append(rows, []string{show(i.Name), show(string(i.State)), i.SHA1, i.NotAfter.UTC().Format(time.DateOnly), show(next)})
	}
	switch {
	case p.json:
		err = p.writeJSON(append([]entra.Item{}, items...))
	case len(items) == 0:
		p.printf("there is no certificate yet: run \"certconnector entra create\"\n")
	default:
		err = p.table(rows)
	}
	if err == nil && problems {
		return &refused{}
	}
	return err
}

func (p *program) entraRotate(ctx context.Context, tenant string, within time.Duration) error {
	s, clientID, err := p.store(tenant, true)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	u, err := s.Rotate(ctx)
	if errors.Is(err, entra.ErrByHand) {
		if err := p.showUpload(u, clientID); err != nil {
			return err
		}
		return &refused{err: err}
	}
	if err != nil {
		return err
	}
	if p.json {
		return p.writeJSON(u)
	}
	p.printf("the certificate with thumbprint %s is in use; it ends %s\n", u.Thumbprint, u.NotAfter.UTC().Format(time.RFC3339))
	return nil
}
