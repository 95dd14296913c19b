package main

import (
	"cmp"
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/agent/identity/ownenroll"
	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/internal/secret"
)

// raFlags are the flags of "ra enroll".
type raFlags struct {
	endpoint               string
	signing, encryption    string // templates
	hostname, organization string
	keyBits                int
}

func (p *program) raCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "ra",
		Short: "Get the registration authority's certificates from a Microsoft CA",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(p.raEnrollCommand())
	return c
}

func (p *program) raEnrollCommand() *cobra.Command {
	var f raFlags
	c := &cobra.Command{
		Use:   "enroll --endpoint NAME [flags]",
		Short: "Enrol or renew an endpoint's RA certificates at its CA",
		Long: `Makes new keys, has the endpoint's CA sign certificates for them, checks these,
and puts both pairs in the places that the configuration names; the old files
stay beside them with the suffix .old. A running service takes the new ones
within a minute and goes on opening what was encrypted for the old ones. Run it
as the account of the service, or as root where root owns the folder: root gives
the files to that account.

A CA whose template wants approval parks the requests: approve them there and
run the command again. Until both certificates are there nothing is replaced.

The templates must take the subject from the request, and the account needs
Read and Enroll. NDES uses copies of "CEP Encryption" (key usage key
encipherment) and of a signing template; the RA needs no right of an enrolment
agent here.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.raEnroll(cmd.Context(), f) },
	}
	set := c.Flags()
	set.StringVar(&f.endpoint, "endpoint", "", "name of the endpoint (needed)")
	set.StringVar(&f.hostname, "hostname", "", "host name for the subject, as scep.corp.example (needed)")
	set.StringVar(&f.organization, "organization", "", "organization for the subject; default none")
	set.StringVar(&f.signing, "signing-template", "", "common name of the template for signing, or for both in the combined shape (needed)")
	set.StringVar(&f.encryption, "encryption-template", "", "common name of the template for encryption; default the signing template")
	set.IntVar(&f.keyBits, "key-bits", 2048, "size of the RSA keys")
	for _, needed := range []string{"endpoint", "hostname", "signing-template"} {
		_ = c.MarkFlagRequired(needed) // the flag exists
	}
	return c
}

func (p *program) raEnroll(ctx context.Context, f raFlags) (err error) {
	cfg, err := agent.LoadConfig(p.config)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(cfg.Endpoints, func(e agent.Endpoint) bool { return e.Name == f.endpoint })
	if i < 0 {
		return fmt.Errorf("%q is no name in endpoints", f.endpoint)
	}
	if f.keyBits < 2048 {
		return fmt.Errorf("%d bits are weak, want 2048 or more", f.keyBits)
	}
	e := cfg.Endpoints[i]
	for _, r := range roles(e, f) {
		if err := ownPair(r.Certificate, r.Key); err != nil {
			return err
		}
	}
	bridge, done, err := agent.OpenBridge(cfg, e.CA, zap.NewNop())
	if err != nil {
		return fmt.Errorf("endpoint %q: %w (certificates of an embedded CA are made by init)", e.Name, err)
	}
	defer func() { err = errors.Join(err, done()) }()
	chain, err := bridge.Chain(ctx)
	if err != nil {
		return err
	}
	subject := pkix.Name{CommonName: f.hostname}
	if f.organization != "" {
		subject.Organization = []string{f.organization}
	}
	devices := cfg.Keys.Open(zap.NewNop())
	defer func() { err = errors.Join(err, devices.Close()) }()
	result, err := ownenroll.Run(ctx, ownenroll.Config{CA: bridge, Chain: chain, Subject: subject, Roles: roles(e, f), KeyBits: f.keyBits, Keys: devices, StateDir: cfg.StateDir})
	if err != nil {
		return err
	}
	return p.raResult(result)
}

// ownPair refuses to make a pair that the service could not read. What root
// makes in a folder of its own is handed over.
func ownPair(certificate, key string) error {
	var folders []string
	for _, path := range []string{certificate, key} {
		if !keys.IsURI(path) {
			folders = append(folders, filepath.Dir(path))
		}
	}
	return secret.CheckMaker(folders...)
}

// roles are the certificates that the endpoint's shape has.
func roles(e agent.Endpoint, f raFlags) []ownenroll.Role {
	role := func(name string, files agent.KeyPair, template string, usage x509.KeyUsage) ownenroll.Role {
		return ownenroll.Role{Name: name, Certificate: files.Certificate, Key: files.Key, Template: template, KeyUsage: usage}
	}
	if e.RA.Shape == agent.ShapeCombined {
		return []ownenroll.Role{role("combined", e.RA.Signing, f.signing, x509.KeyUsageDigitalSignature|x509.KeyUsageKeyEncipherment)}
	}
	return []ownenroll.Role{
		role("signing", e.RA.Signing, f.signing, x509.KeyUsageDigitalSignature),
		role("encryption", e.RA.Encryption, cmp.Or(f.encryption, f.signing), x509.KeyUsageKeyEncipherment),
	}
}

func (p *program) raResult(result ownenroll.Result) error {
	if p.json {
		if err := p.writeJSON(result); err != nil {
			return err
		}
	} else {
		for _, i := range result.Installed {
			p.printf("%s: %s, until %s, in %s\n", i.Role, show(i.Subject), i.NotAfter.UTC().Format(time.RFC3339), show(i.File))
		}
		for _, w := range result.Parked {
			p.printf("%s: request %s waits for approval at the CA; approve it there and run this command again\n", w.Role, show(w.RequestID))
		}
		if len(result.Installed) > 0 {
			p.printf("a running service takes them within a minute\n")
		}
	}
	if len(result.Parked) > 0 {
		return &refused{}
	}
	return nil
}
