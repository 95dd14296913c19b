package main

import (
	"cmp"
	"net"
	"runtime"
	"strconv"
	"strings"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/installer/firstrun"
)

// nextSteps tells what is left for a person. It never prints a challenge.
func (p *program) nextSteps(r firstrun.Result, o firstrun.Options) {
	p.printf("Configuration       %s\n", show(r.ConfigFile))
	p.printf("SCEP URL            %s\n", show(r.SCEPURL))
	if r.RootCertificate != "" {
		p.printf("Root certificate    %s\n", show(r.RootCertificate))
		p.printf("  SHA-256           %s\n", r.RootSHA256)
		p.printf("  SHA-1             %s\n", r.RootSHA1)
	}
	if r.ChallengeFile != "" {
		p.printf("Challenge in        %s\n", show(r.ChallengeFile))
	}
	c := commands{config: " --config " + show(r.ConfigFile)}
	if r.ConfigFile == agent.DefaultConfigPath() {
		c.config = ""
	}
	if r.Account != "" {
		c.as = "runuser -u " + show(r.Account) + " -- "
	}
	steps := c.ca(r, o)
	if r.EntraCertificate != "" {
		steps = append(steps, firstrun.EntraSteps(show(o.ClientID), show(r.EntraCertificate), r.EntraSHA1)...)
		steps = append(steps, "Wait for the consent to count, and see whether all is there:\n   "+c.as+"certconnector intune check --wait 10m"+c.config)
		steps = append(steps, firstrun.IntuneSteps(show(r.SCEPURL), "certconnector export-root"+c.config)...)
	} else {
		steps = append(steps,
			"Have devices trust the root certificate, compare its fingerprint, and give them the\n   SCEP URL and the challenge.")
	}
	steps = append(steps, "Check with: certconnector validate"+c.config, "Start with: "+startCommand(runtime.GOOS, r, o.Listen, o.PlainHTTP, strings.TrimSpace("--config "+show(r.ConfigFile))))
	if r.CA == firstrun.CAEmbedded {
		steps = append(steps, "Keep a copy of "+show(strings.TrimSuffix(r.RootCertificate, embedded.ChainFile))+" in a safe place: whoever has its key is your CA.")
	}
	p.printf("\nNext:\n")
	for i, s := range steps {
		p.printf("%d. %s\n", i+1, s)
	}
}

// commands are further commands as a person types them.
type commands struct {
	as, config string // before and after
}

// ca is what a Microsoft CA is asked for: nothing of it was done by init.
func (c commands) ca(r firstrun.Result, o firstrun.Options) []string {
	if r.CA == firstrun.CAEmbedded {
		return nil
	}
	host := "NAME"
	if len(o.Hostnames) > 0 {
		host = show(o.Hostnames[0])
	}
	m := o.Microsoft
	templates := " --signing-template " + show(cmp.Or(m.SigningTemplate, "TEMPLATE"))
	if m.EncryptionTemplate != "" {
		templates += " --encryption-template " + show(m.EncryptionTemplate)
	}
	var steps []string
	if files := strings.TrimSpace(m.Keytab + " " + m.PasswordFile); files != "" && r.Account != "" {
		steps = append(steps, "Let the service's account alone read what it signs in with:\n   chown "+show(r.Account)+" "+show(files)+" && chmod 600 "+show(files))
	}
	steps = append(steps,
		"Ask the CA whether it lets the connector do its work:\n   "+c.as+"certconnector ca check"+c.config,
		"Get the registration authority's certificates from it:\n   "+c.as+"certconnector ra enroll --endpoint "+firstrun.EndpointName+
			" --hostname "+host+templates+c.config)
	if !o.PlainHTTP {
		steps = append(steps, "Get a server certificate from a CA that devices trust:\n   "+c.as+"certconnector csr tls --hostname "+host+c.config+
			"\n   "+c.as+"certconnector csr tls --complete ANSWER"+c.config)
	}
	return steps
}

// startCommand starts the package's service, or the program. Ports below 1024
// are opened by systemd: the service's account may not.
func startCommand(system string, r firstrun.Result, listen string, plainHTTP bool, config string) string {
	if system == "windows" && r.ConfigFile == agent.DefaultConfigPath() {
		return "certconnector service start\n   (where no package was installed, \"certconnector service install\" before it)"
	}
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
