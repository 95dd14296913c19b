package main

import (
	"bytes"
	"crypto/sha1" // Windows and Intune show certificates by SHA-1; nothing is verified with it
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/durable"
)

func (p *program) exportRootCommand() *cobra.Command {
	var name, out string
	c := &cobra.Command{
		Use:   "export-root [flags]",
		Short: "Write the root certificate that devices must trust",
		Long: `Writes the root certificate of a CA as a DER file, which a trusted certificate
profile of Intune takes, and shows its fingerprints to compare on a device. It
reads the configuration file and the CA's chain file; the service need not run.
A file that is there is never replaced by another certificate.

Exit codes: 0 written, 1 written with a warning, 2 error.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return p.exportRoot(name, out) },
	}
	c.Flags().StringVar(&name, "ca", "", "name in cas of the CA (needed where there are several)")
	c.Flags().StringVar(&out, "out", "", "file to write (default: the CA's name with -root.cer, here)")
	return c
}

func (p *program) exportRoot(name, out string) error {
	config, err := agent.LoadConfig(p.config)
	if err != nil {
		return err
	}
	chosen, err := chooseCA(config.CAs, name)
	if err != nil {
		return err
	}
	file, err := chainFile(chosen)
	if err != nil {
		return err
	}
	chain, err := embedded.LoadChain(file)
	if err != nil {
		return fmt.Errorf("CA %q: %w", chosen.Name, err)
	}
	root, warnings := topOf(chain)
	warnings = append(warnings, outsideLife(root, time.Now())...)
	if out == "" {
		out = chosen.Name + "-root.cer" // Validate allows no separators in names
	}
	if err := writeSame(out, root.Raw); err != nil {
		return err
	}
	if err := p.showRoot(chosen.Name, out, root, warnings); err != nil {
		return err
	}
	if len(warnings) > 0 {
		return &refused{}
	}
	return nil
}

// chooseCA finds a CA by name, or the only one.
func chooseCA(cas []agent.CA, name string) (agent.CA, error) {
	names := make([]string, len(cas))
	for i, c := range cas {
		if names[i] = c.Name; c.Name == name || name == "" && len(cas) == 1 {
			return c, nil
		}
	}
	if name == "" {
		return agent.CA{}, fmt.Errorf("choose one with --ca: %s", strings.Join(names, ", "))
	}
	return agent.CA{}, fmt.Errorf("no CA is called %q; there are: %s", name, strings.Join(names, ", "))
}

// chainFile is where a CA's certificates are.
func chainFile(c agent.CA) (string, error) {
	switch {
	case c.Embedded != nil:
		return c.Embedded.Certificate, nil
	case c.Chain != "":
		return c.Chain, nil
	}
	return "", fmt.Errorf("the certificates of CA %q are in no file; export its root at the CA", c.Name)
}

// topOf climbs from the first certificate, the CA's, to the last issuer that
// the file has. Former certificates may stand in it too.
func topOf(chain []*x509.Certificate) (top *x509.Certificate, warnings []string) {
	top = chain[0]
	for range chain { // each step uses up one
		next := issuerIn(chain, top)
		if next == nil {
			break
		}
		top = next
	}
	if !selfSigned(top) {
		warnings = append(warnings, fmt.Sprintf(
			"this is no root: it was issued by %q, whose certificate the file lacks. Devices trust a root; add its certificate to the file", top.Issuer))
	}
	return top, warnings
}

// issuerIn finds the issuer of a certificate; nil for a root.
func issuerIn(chain []*x509.Certificate, cert *x509.Certificate) *x509.Certificate {
	if bytes.Equal(cert.RawIssuer, cert.RawSubject) {
		return nil
	}
	for _, c := range chain {
		if bytes.Equal(cert.RawIssuer, c.RawSubject) && signedBy(cert, c) {
			return c
		}
	}
	return nil
}

func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) && signedBy(c, c)
}

// signedBy checks a signature. Roots from before 2016 are often signed with
// SHA-1, which crypto/x509 does not check any more; nobody relies on a root's
// own signature, and a name and a key identifier that agree will do.
func signedBy(cert, issuer *x509.Certificate) bool {
	err := issuer.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature)
	if _, insecure := errors.AsType[x509.InsecureAlgorithmError](err); insecure {
		return len(cert.AuthorityKeyId) == 0 || bytes.Equal(cert.AuthorityKeyId, issuer.SubjectKeyId)
	}
	return err == nil
}

func outsideLife(c *x509.Certificate, now time.Time) []string {
	switch {
	case now.After(c.NotAfter):
		return []string{"the certificate has expired: devices will not trust it"}
	case now.Before(c.NotBefore):
		return []string{"the certificate is not valid yet, or the clock is wrong"}
	}
	return nil
}

// writeSame writes a new file, or finds that it holds just this.
func writeSame(path string, b []byte) error {
	err := durable.Create(path, b, 0o600)
	if !errors.Is(err, os.ErrExist) {
		if err != nil {
			return fmt.Errorf("writing the root certificate: %w", err)
		}
		return nil
	}
	if info, err := os.Stat(path); err == nil && info.Size() == int64(len(b)) {
		if there, err := os.ReadFile(path); err == nil && bytes.Equal(there, b) {
			return nil
		}
	}
	return fmt.Errorf("%q is there and holds something else; choose another --out, or move it away", path)
}

// showRoot prints what a trusted certificate profile and a person want.
func (p *program) showRoot(name, file string, root *x509.Certificate, warnings []string) error {
	sha1sum, sha256sum := fmt.Sprintf("%X", sha1.Sum(root.Raw)), fmt.Sprintf("%X", sha256.Sum256(root.Raw))
	if p.json {
		return p.writeJSON(struct {
			CA        string    `json:"ca"`
			File      string    `json:"file"`
			Subject   string    `json:"subject"`
			SHA1      string    `json:"sha1"`
			SHA256    string    `json:"sha256"`
			NotBefore time.Time `json:"not_before"`
			NotAfter  time.Time `json:"not_after"`
			Warnings  []string  `json:"warnings"`
		}{name, file, root.Subject.String(), sha1sum, sha256sum, root.NotBefore, root.NotAfter, append([]string{}, warnings...)})
	}
	p.printf("Root certificate    %s\n", show(file))
	p.printf("  Subject           %s\n", show(root.Subject.String()))
	p.printf("  Valid from        %s UTC\n", root.NotBefore.UTC().Format(time.DateTime))
	p.printf("  Valid until       %s UTC\n", root.NotAfter.UTC().Format(time.DateTime))
	p.printf("  SHA-256           %s\n", sha256sum)
	p.printf("  SHA-1             %s\n", sha1sum)
	for _, w := range warnings {
		p.printf("warning: %s\n", show(w))
	}
	return nil
}
