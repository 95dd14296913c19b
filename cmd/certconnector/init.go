package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/installer/firstrun"
)

// initFlags are the flags of init that do not go to firstrun as they are.
type initFlags struct {
	ca, caKey, raKey string
	dryRun           bool
}

func (p *program) initCommand() *cobra.Command {
	var o firstrun.Options
	var f initFlags
	c := &cobra.Command{
		Use:   "init --dir DIR --policy static|intune [flags]",
		Short: "Make keys, certificates, journal and configuration",
		Long: `Makes everything that a first start needs in one folder: local key, journal,
embedded CA, registration authority, TLS certificate and certconnector.yaml.
Nothing that exists is replaced; when a step fails, those before it are undone.

With --state-dir, all but certconnector.yaml goes there. Where a package has
made /etc/certconnector and /var/lib/certconnector, both are the default. Run by
root, it gives what it makes to the account that owns the state folder.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.init(cmd.Context(), o, f) },
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
	set.StringVar(&f.ca, "ca", "embedded", "certificate authority: embedded")
	set.StringVar(&f.caKey, "ca-key", string(embedded.RSA3072), fmt.Sprintf("key of the CA: %v", embedded.KeyKinds()))
	set.StringVar(&f.raKey, "ra-key", string(embedded.RSA2048), "key of the registration authority: rsa2048, rsa3072 or rsa4096")
	set.BoolVar(&f.dryRun, "dry-run", false, "only show what would be done")
}

func (p *program) init(ctx context.Context, o firstrun.Options, f initFlags) error {
	if err := supportedCA(f.ca); err != nil {
		return err
	}
	if o.Dir == "" && o.StateDir == "" {
		o.Dir, o.StateDir = packageFolders(agent.DefaultConfigPath(), agent.DefaultStateDir())
	}
	o.CAKey, o.RAKey, o.Check = embedded.KeyKind(f.caKey), embedded.KeyKind(f.raKey), checkConfig
	plan, err := firstrun.New(o)
	if err != nil {
		return err
	}
	if f.dryRun {
		return p.showPlan(plan)
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt) // an interrupt undoes what was done
	defer stop()
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

// checkConfig is what validate does.
func checkConfig(file string) error {
	c, err := agent.LoadConfig(file)
	if err != nil {
		return err
	}
	return c.CheckFiles()
}

// supportedCA says no where a bridge is not there yet.
func supportedCA(ca string) error {
	switch ca {
	case "embedded":
		return nil
	case "adcs":
		return errors.New("--ca adcs: init does not write the part of a Microsoft CA.\n" +
			"Run it with --ca embedded, put the entry of cas in its place that docs/ca-adcs.md shows, and get the RA's certificates by \"certconnector ra enroll\"")
	}
	return fmt.Errorf("--ca %q is unknown, want embedded", ca)
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

// nextSteps tells what is left for a person. It never prints a challenge.
func (p *program) nextSteps(r firstrun.Result, o firstrun.Options) {
	p.printf("Configuration       %s\n", show(r.ConfigFile))
	p.printf("SCEP URL            %s\n", show(r.SCEPURL))
	p.printf("Root certificate    %s\n", show(r.RootCertificate))
	p.printf("  SHA-256           %s\n", r.RootSHA256)
	p.printf("  SHA-1             %s\n", r.RootSHA1)
	if r.ChallengeFile != "" {
		p.printf("Challenge in        %s\n", show(r.ChallengeFile))
	}
	p.printf("\nNext:\n")
	steps := []string{}
	if r.EntraCertificate != "" {
		steps = append(steps,
			"Upload "+show(r.EntraCertificate)+" to the app registration "+show(o.ClientID)+"\n   (Entra admin centre, App registrations, Certificates & secrets, Certificates).",
			"Give the app registration these application permissions and grant admin consent:\n   Intune: scep_challenge_provider; Microsoft Graph: Application.Read.All.",
			"In Intune, make a trusted certificate profile of the root certificate and a SCEP profile\n   with the SCEP URL above.")
	} else {
		steps = append(steps,
			"Have devices trust the root certificate, compare its fingerprint, and give them the\n   SCEP URL and the challenge.")
	}
	config := "--config " + show(r.ConfigFile)
	steps = append(steps, "Check with: certconnector validate "+config, "Start with: "+startCommand(r, o.Listen, o.PlainHTTP, config),
		"Keep a copy of "+show(strings.TrimSuffix(r.RootCertificate, embedded.ChainFile))+" in a safe place: whoever has its key is your CA.")
	for i, s := range steps {
		p.printf("%d. %s\n", i+1, s)
	}
}

// startCommand starts the package's service, or the program. Ports below 1024
// are opened by systemd: the service's account may not.
func startCommand(r firstrun.Result, listen string, plainHTTP bool, config string) string {
	if r.Account == "" || r.ConfigFile != agent.DefaultConfigPath() {
		return "certconnector run " + config
	}
	const start = "systemctl enable --now "
	switch {
	case listen == "" && plainHTTP:
		listen = ":80"
	case listen == "":
		listen = ":443"
	}
	_, port, _ := net.SplitHostPort(listen) // New has checked it
	switch n, err := strconv.Atoi(port); {
	case listen == ":443":
		return start + "certconnector.socket certconnector.service"
	case err == nil && n < 1024:
		return start + "certconnector.socket certconnector.service\n   (first set ListenStream= to " + show(strings.TrimPrefix(listen, ":")) + ": systemctl edit certconnector.socket)"
	}
	return start + "certconnector.service"
}
