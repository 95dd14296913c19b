package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/installer/servercert"
	"github.com/certconnector/certconnector/internal/certfiles"
	"github.com/certconnector/certconnector/internal/keys"
)

// csrFlags are the flags of "csr tls".
type csrFlags struct {
	listener        string
	hostnames       []string
	kind, where     string
	organization    string
	out             string
	complete, chain string
}

func (p *program) csrCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "csr",
		Short: "Ask a CA of your own for certificates that the connector needs",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(p.csrTLSCommand())
	return c
}

func (p *program) csrTLSCommand() *cobra.Command {
	var f csrFlags
	c := &cobra.Command{
		Use:   "tls [--hostname NAME...] | tls --complete FILE",
		Short: "Make a request for a listener's server certificate, and install the answer",
		Long: `Makes a key, which stays on this host, and a request (PKCS #10) for the
certificate of the listener; any CA that devices trust may sign it. What serves
now is not touched.

With --complete, checks what the CA answered (PEM, DER or PKCS #7, in any order;
"-" is standard input): that it is for this key, has the names, is in force and
good for servers. Then it is put where listeners[].tls names it, with its key; the
former pair stays beside it as .old. A running service takes it within a minute.
Run both as the account of the service, or as root where root owns the folder:
root gives the files to that account.

Exit codes: 0 installed, 1 installed with warnings, 2 not installed.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return p.csrTLS(f) },
	}
	set := c.Flags()
	set.StringVar(&f.listener, "listener", "", "name of the listener; may be left out where only one has certificate files")
	set.StringSliceVar(&f.hostnames, "hostname", nil, "host name or IP address that devices use; repeat for more (default: those of the present certificate; with --complete, of the request, or of the present certificate where the key is the same)")
	set.StringVar(&f.kind, "key", "", `kind of the new key: rsa2048, rsa3072, rsa4096, p256 or p384 (default "rsa2048")`)
	set.StringVar(&f.where, "place", "", "where the new key is made: file, tpm or dpapi (default: where the present one is, or as keys.new)")
	set.StringVar(&f.organization, "organization", "", "organization for the subject (default: none)")
	set.StringVar(&f.out, "out", "", "another file for the request, new or with an earlier one (it is always beside the certificate, with the suffix .csr.pem, until the answer is installed)")
	set.StringVar(&f.complete, "complete", "", "file with what the CA answered")
	set.StringVar(&f.chain, "chain", "", "with --complete: file with certificates of issuers that the answer lacks")
	return c
}

func (p *program) csrTLS(f csrFlags) (err error) {
	cfg, err := agent.LoadConfig(p.config)
	if err != nil {
		return err
	}
	files, err := tlsFiles(cfg, f.listener)
	if err != nil {
		return err
	}
	known := cfg.Keys.Open(zap.NewNop())
	defer func() { err = errors.Join(err, known.Close()) }()
	place := servercert.Place{Certificate: files.Certificate, Key: files.Key, Keys: known, StateDir: cfg.StateDir}
	if f.complete != "" {
		return p.completeTLS(place, f)
	}
	if f.chain != "" {
		return errors.New("--chain belongs to --complete")
	}
	request := servercert.Request{Names: f.hostnames, Where: keys.Place(f.where), Organization: f.organization, Out: f.out}
	if _, err := os.Lstat(files.Key); errors.Is(err, fs.ErrNotExist) && request.Where == "" {
		request.Where = keys.Place(cfg.Keys.New)
	}
	if f.kind != "" {
		if request.Kind, err = keys.ParseKind(f.kind); err != nil {
			return fmt.Errorf("--key: %w", err)
		}
	}
	made, err := place.Ask(request)
	if err != nil {
		return err
	}
	if p.json {
		return p.writeJSON(made)
	}
	if made.Again {
		p.printf("The key waited already; this request is for the same one.\n")
	}
	p.printf("Request   %s\nKey       %s, which stays here\nNames     %s\n", show(made.Request), show(made.Key), show(strings.Join(made.Names, ", ")))
	p.printf("\nNext:\n1. Have a CA sign the request as that of a web server (Server Authentication). At a\n   Microsoft CA: certreq -submit -attrib \"CertificateTemplate:WebServer\" FILE\n")
	p.printf("2. certconnector csr tls --complete ANSWER --config %s\n", show(p.config))
	return nil
}

// tlsFiles finds the listener whose certificate is in files.
func tlsFiles(cfg agent.Config, name string) (agent.KeyPair, error) {
	var found []agent.Listener
	for _, l := range cfg.Listeners {
		switch {
		case name != "" && l.Name != name:
		case l.TLS != nil && l.TLS.IssuedBy == "":
			found = append(found, l)
		case name != "" && l.TLS != nil:
			return agent.KeyPair{}, fmt.Errorf("the certificate of listener %q is issued by %q, and renewed by the service", name, l.TLS.IssuedBy)
		case name != "":
			return agent.KeyPair{}, fmt.Errorf("listener %q serves without TLS", name)
		}
	}
	switch {
	case len(found) == 0 && name != "":
		return agent.KeyPair{}, fmt.Errorf("no listener is called %q", name)
	case len(found) == 0:
		return agent.KeyPair{}, errors.New(`no listener has certificate files: set "tls: {certificate: …, key: …}" first`)
	case len(found) > 1:
		return agent.KeyPair{}, fmt.Errorf("%d listeners have certificate files; name one with --listener", len(found))
	}
	return agent.KeyPair{Certificate: found[0].TLS.Certificate, Key: found[0].TLS.Key}, nil
}

// certificatesFrom reads a file, or standard input.
func certificatesFrom(file string) ([]*x509.Certificate, error) {
	if file != "-" {
		return certfiles.Load(file)
	}
	b, err := io.ReadAll(io.LimitReader(os.Stdin, 2<<20))
	if err != nil {
		return nil, fmt.Errorf("reading standard input: %w", err)
	}
	return certfiles.Parse(b)
}

func (p *program) completeTLS(place servercert.Place, f csrFlags) error {
	answer := servercert.Answer{Names: f.hostnames, Now: time.Now()}
	for _, file := range []string{f.complete, f.chain} {
		if file == "" {
			continue
		}
		certs, err := certificatesFrom(file)
		if err != nil {
			return err
		}
		answer.Certificates = append(answer.Certificates, certs...)
	}
	installed, err := place.Complete(answer)
	if err != nil {
		return err
	}
	if p.json {
		if err := p.writeJSON(installed); err != nil {
			return err
		}
	} else {
		p.printf("%s: %s, by %s, until %s, %d in the chain\n", show(installed.Certificate), show(installed.Subject), show(installed.Issuer),
			installed.NotAfter.UTC().Format(time.RFC3339), installed.Chain)
		for _, w := range installed.Warnings {
			p.printf("warning: %s\n", show(w))
		}
		p.printf("a running service takes it within a minute\n")
	}
	if len(installed.Warnings) > 0 {
		return &refused{}
	}
	return nil
}
