package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/installer/firstrun"
)

// initFlags are the flags of init that do not go to firstrun as they are.
type initFlags struct {
	caKey, raKey string
	dryRun       bool
	given        func(flag string) bool
}

func (p *program) initCommand() *cobra.Command {
	var o firstrun.Options
	var f initFlags
	c := &cobra.Command{
		Use:   "init [--dir DIR] --policy static|intune [--ca embedded|adcs|certsrv] [flags]",
		Short: "Make keys, certificates, journal and configuration",
		Long: `Makes everything that a first start needs in one folder: local key, journal,
embedded CA, registration authority, TLS certificate and certconnector.yaml.
Nothing that exists is replaced; when a step fails, those before it are undone.

At a terminal it asks for what is needed and was not given by flags, shows what
it will do, and does it when that is confirmed. Without a terminal it never asks.

With --ca adcs or certsrv a Microsoft CA issues: the configuration is written,
and what is then to be asked of that CA stands at the end of the output.

With --state-dir, all but certconnector.yaml goes there. Where a package has
made /etc/certconnector and /var/lib/certconnector, both are the default. Run by
root, it gives what it makes to the account that owns the state folder.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.given = cmd.Flags().Changed
			return p.init(cmd.Context(), o, f)
		},
	}
	declareInit(c.Flags(), &o, &f)
	return c
}

func declareInit(set *pflag.FlagSet, o *firstrun.Options, f *initFlags) {
	set.StringVar(&o.Dir, "dir", "", "folder for the configuration and, without --state-dir, for everything (required without a package's folders)")
	set.StringVar(&o.StateDir, "state-dir", "", "folder for keys, certificates and journal (default: as --dir)")
	set.StringSliceVar(&o.Hostnames, "hostname", nil, "host name or IP address that devices use; repeat for more (default: this host's name)")
	set.StringVar(&o.Listen, "listen", "", `address for devices (default ":443", or ":80" with --plain-http)`)
	set.BoolVar(&o.PlainHTTP, "plain-http", false, "serve without TLS: a proxy on this host ends it, or this is a laboratory")
	set.StringVar(&o.Policy, "policy", "", "who decides: intune, or static for one shared challenge (required)")
	set.StringVar(&o.ChallengeFile, "challenge-file", "", "static: file with the challenge (default: a strong one is made)")
	set.StringVar(&o.Tenant, "tenant", "", "intune: Entra tenant ID or *.onmicrosoft.com name")
	set.StringVar(&o.ClientID, "client-id", "", "intune: application (client) ID of the app registration")
	set.StringVar(&o.Cloud, "cloud", "", `intune: public, usgov, dod, china or custom (default "public")`)
	set.StringVar(&o.AuthorityURL, "authority-url", "", "intune: address that issues tokens (required with --cloud custom)")
	set.StringVar(&o.GraphURL, "graph-url", "", "intune: address of Microsoft Graph (required with --cloud custom)")
	set.StringVar(&o.ResourceURL, "resource-url", "", "intune: resource of Intune's tokens (required with --cloud custom)")
	set.StringVar(&o.CloudCAFile, "cloud-ca-file", "", "intune: PEM file with further roots for the cloud's certificates")
	set.StringVar(&o.CA, "ca", firstrun.CAEmbedded, "certificate authority: embedded, adcs (Microsoft CA over DCOM and RPC) or certsrv (over web enrolment)")
	set.StringVar(&f.caKey, "ca-key", string(embedded.RSA3072), fmt.Sprintf("embedded: key of the CA: %v", embedded.KeyKinds()))
	set.StringVar(&f.raKey, "ra-key", string(embedded.RSA2048), "embedded: key of the registration authority: rsa2048, rsa3072 or rsa4096")
	declareMicrosoft(set, &o.Microsoft)
	set.BoolVar(&f.dryRun, "dry-run", false, "only show what would be done")
}

func declareMicrosoft(set *pflag.FlagSet, m *firstrun.MicrosoftCA) {
	set.StringVar(&m.Config, "ca-config", "", `adcs: the CA as certutil prints it, host\name`)
	set.StringVar(&m.URL, "ca-url", "", "certsrv: address of web enrolment, as https://ca01.corp.example/certsrv/")
	set.StringVar(&m.Chain, "ca-chain", "", "adcs, certsrv: file with the CA's certificate and those above it (PEM, DER or PKCS #7)")
	set.StringVar(&m.Template, "template", "", "adcs, certsrv: common name of the certificate template for devices")
	set.StringVar(&m.SigningTemplate, "ra-signing-template", "", "adcs, certsrv: template of the registration authority's signing certificate")
	set.StringVar(&m.EncryptionTemplate, "ra-encryption-template", "", "adcs, certsrv: and of its encryption certificate (default: the same)")
	set.StringVar(&m.Principal, "ca-principal", "", "adcs, certsrv: account for Kerberos, user@REALM")
	set.StringVar(&m.Keytab, "ca-keytab", "", "adcs, certsrv: file with the keys of --ca-principal")
	set.StringVar(&m.User, "ca-user", "", `adcs, certsrv: account for NTLM, DOMAIN\user; it proves nothing of the server`)
	set.BoolVar(&m.SSPI, "ca-sspi", false, "adcs, certsrv: on Windows, sign in as the account of the service; no secret is stored")
	set.StringVar(&m.PasswordFile, "ca-password-file", "", "adcs, certsrv: file with the password of --ca-principal or --ca-user")
}

func (p *program) init(ctx context.Context, o firstrun.Options, f initFlags) error {
	if o.Dir == "" && o.StateDir == "" {
		o.Dir, o.StateDir = packageFolders(agent.DefaultConfigPath(), agent.DefaultStateDir())
	}
	o.CAKey, o.RAKey, o.Check = embedded.KeyKind(f.caKey), embedded.KeyKind(f.raKey), checkConfig(o.CA)
	ctx, stop := untilStopped(ctx)
	defer stop()
	var person *firstrun.Interview
	if o.Open() && !p.json && !f.dryRun && isTerminal(os.Stdin) {
		// Questions go where a redirected output does not take them.
		person = firstrun.NewInterview(os.Stdin, p.err, f.given)
		if err := person.Ask(ctx, &o); err != nil {
			return err
		}
		o.Check = checkConfig(o.CA)
	}
	plan, err := firstrun.New(o)
	if err != nil {
		return err
	}
	if f.dryRun {
		return p.showPlan(plan)
	}
	if person != nil {
		if err := person.Confirm(ctx, plan); errors.Is(err, firstrun.ErrNotConfirmed) {
			return &refused{err: err}
		} else if err != nil {
			return err
		}
	}
	result, err := plan.Run(ctx, nil)
	if err != nil {
		return err
	}
	if p.json {
		return p.writeJSON(result)
	}
	p.nextSteps(result, o)
	return nil
}

// packageFolders are the folders that a package has made, if both are there.
func packageFolders(configFile, state string) (config, stateDir string) {
	config = filepath.Dir(configFile)
	for _, folder := range []string{config, state} {
		if info, err := os.Stat(folder); err != nil || !info.IsDir() {
			return "", ""
		}
	}
	return config, state
}

// checkConfig does what validate does. With a Microsoft CA certificates are
// still to come.
func checkConfig(ca string) func(file string) error {
	return func(file string) error {
		c, err := agent.LoadConfig(file)
		if err != nil || ca != firstrun.CAEmbedded && ca != "" {
			return err
		}
		return c.CheckFiles()
	}
}

func (p *program) showPlan(plan *firstrun.Plan) error {
	if p.json {
		return p.writeJSON(plan.Steps())
	}
	for i, s := range plan.Steps() {
		p.printf("%2d. %s\n", i+1, show(s))
	}
	return nil
}
