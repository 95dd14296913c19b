package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/certconnector/certconnector/cmd/certlab/cloud"
	"github.com/certconnector/certconnector/cmd/certlab/device"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep"
)

// enrollment is the command line of "certlab enroll".
type enrollment struct {
	device                   device.Options
	profile                  device.Profile
	challenge, challengeFile string
	control, cloudProfile    string
	keyUsage                 []string
	transaction              string
	out, caFile              string
	renew, insecure          bool
}

func (p *program) enrollCommand() *cobra.Command {
	var e enrollment
	c := &cobra.Command{
		Use:   "enroll --url URL --platform NAME [flags]",
		Short: "Enrol or renew as a device of a platform does",
		Long: `Enrols with the quirks and the patience of a platform: windows, ios, macos,
android (Microsoft's agent) or linux (certmonger). With --out, the key, the
certificate and the CA's chain are kept in a folder; --renew renews what is
there. With --cloud-control, challenge and names come from a "certlab cloud".

Exit codes: 0 issued, 1 refused or still pending when patience ended, 2 error.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.enroll(cmd.Context(), &e) },
	}
	f := c.Flags()
	f.StringVar(&e.device.URL, "url", "", "address of the endpoint (required)")
	f.StringVar(&e.device.Platform, "platform", "windows", "windows, ios, macos, android or linux")
	f.Float64Var(&e.device.Hurry, "hurry", 1, "divide the platform's waiting times by this factor")
	f.StringVar(&e.challenge, "challenge", "", "challenge")
	f.StringVar(&e.challengeFile, "challenge-file", "", "file with the challenge")
	f.StringVar(&e.control, "cloud-control", "", `control API of a "certlab cloud" that gives challenge, names and usages`)
	f.StringVar(&e.cloudProfile, "profile", "", "with --cloud-control: name of the profile (default: the platform's first)")
	f.StringVar(&e.profile.Subject, "subject", "", `subject, as "CN=laptop,O=Contoso" (default "CN=certlab", or that of the certificate renewed)`)
	f.StringSliceVar(&e.profile.DNS, "dns", nil, "DNS name; repeat for more")
	f.StringSliceVar(&e.profile.Email, "email", nil, "e-mail address; repeat for more")
	f.StringSliceVar(&e.profile.UPN, "upn", nil, "user principal name; repeat for more")
	f.StringSliceVar(&e.profile.URI, "uri", nil, "URI; repeat for more")
	f.StringSliceVar(&e.keyUsage, "key-usage", []string{"digitalSignature", "keyEncipherment"}, "key usage; repeat for more")
	f.StringSliceVar(&e.profile.EKU, "eku", []string{"clientAuth"}, "extended key usage, by name or dotted; repeat for more")
	f.IntVar(&e.profile.KeySize, "key-size", 2048, "bits of the RSA key")
	f.StringVar(&e.transaction, "transaction-id", "", "transaction ID (default: in the platform's form)")
	f.StringVar(&e.out, "out", "", "folder for key, certificate and chain")
	f.BoolVar(&e.renew, "renew", false, "renew the certificate in the folder of --out, with a new key")
	f.StringVar(&e.caFile, "ca-file", "", "PEM file with the roots of the server's TLS certificate")
	f.BoolVar(&e.insecure, "insecure", false, "do not verify the server's TLS certificate")
	if err := c.MarkFlagRequired("url"); err != nil {
		panic(err) // the flag is defined above
	}
	return c
}

// enrolled is the result of an enrolment.
type enrolled struct {
	Status        string  `json:"status"` // issued, refused or pending
	Platform      string  `json:"platform"`
	TransactionID string  `json:"transaction_id"`
	Polls         int     `json:"polls"`
	Seconds       float64 `json:"seconds"`
	FailInfo      string  `json:"fail_info,omitempty"`
	FailInfoText  string  `json:"fail_info_text,omitempty"`

	Serial   string     `json:"serial,omitempty"`
	Subject  string     `json:"subject,omitempty"`
	Issuer   string     `json:"issuer,omitempty"`
	NotAfter *time.Time `json:"not_after,omitempty"`
	Folder   string     `json:"folder,omitempty"`
}

func (p *program) enroll(ctx context.Context, e *enrollment) error {
	order, err := e.order(ctx)
	if err != nil {
		return err
	}
	roots, err := rootsFrom(e.caFile)
	if err != nil {
		return err
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, InsecureSkipVerify: e.insecure}} //nolint:gosec // asked for by a flag of that name
	defer transport.CloseIdleConnections()
	e.device.HTTP = &http.Client{Transport: transport, Timeout: time.Minute}
	d, err := device.New(e.device)
	if err != nil {
		return err
	}
	start := time.Now()
	a, err := d.Enroll(ctx, order, func(a *device.Attempt) {
		if !p.json && a.Status() == scep.Pending {
			p.printf("PENDING after %.1fs\n", time.Since(start).Seconds())
		}
	})
	if err != nil {
		return err
	}
	result := enrolled{
		Platform: e.device.Platform, TransactionID: a.TransactionID(), Polls: a.Polls, Seconds: time.Since(start).Seconds(),
	}
	return p.enrollResult(&result, a, e.out)
}

// order is what to enrol for.
func (e *enrollment) order(ctx context.Context) (device.Order, error) {
	o := device.Order{Profile: e.profile, TransactionID: e.transaction}
	var err error
	if e.renew {
		if e.out == "" {
			return o, errors.New("--renew needs --out, the folder with what to renew")
		}
		if o.Renew, err = device.Load(e.out); err != nil {
			return o, err
		}
	}
	if e.control != "" {
		remote, err := cloud.Dial(e.control)
		if err != nil {
			return o, err
		}
		c, err := remote.Challenge(ctx, intunetest.Ask{Platform: e.device.Platform, Profile: e.cloudProfile})
		o.Profile = device.Profiled(c)
		return o, err
	}
	if o.Profile.Challenge, err = challengeOf(e.challenge, e.challengeFile); err != nil {
		return o, err
	}
	if o.Profile.KeyUsage, err = device.KeyUsage(e.keyUsage); err != nil {
		return o, err
	}
	if o.Profile.Subject == "" && o.Renew == nil {
		o.Profile.Subject = "CN=certlab"
	}
	return o, nil
}

// enrollResult keeps and shows what came of an enrolment.
func (p *program) enrollResult(r *enrolled, a *device.Attempt, out string) error {
	var end error
	switch a.Status() {
	case scep.Success:
		h := a.Issued()
		r.Status, r.Serial, r.NotAfter = "issued", device.Serial(h.Certificate.SerialNumber), &h.Certificate.NotAfter
		r.Subject, r.Issuer, r.Folder = h.Certificate.Subject.String(), h.Certificate.Issuer.String(), out
		if out != "" {
			if err := h.Store(out); err != nil {
				return err
			}
		}
	case scep.Pending:
		r.Status, end = "pending", errRefused
	default:
		r.Status, end = "refused", errRefused
		r.FailInfo, r.FailInfoText = a.Reply.FailInfo.String(), a.Reply.FailInfoText
	}
	if p.json {
		return errors.Join(p.writeJSON(r), end)
	}
	switch r.Status {
	case "issued":
		p.printf("issued      %s\nsubject     %s\nissuer      %s\nnot after   %s\n", r.Serial, show(r.Subject), show(r.Issuer), r.NotAfter.Format(time.RFC3339))
		if out != "" {
			p.printf("kept in     %s\n", show(out))
		}
	case "pending":
		p.printf("still PENDING after %d polls in %.1fs: the device gives up\n", r.Polls, r.Seconds)
	default:
		p.printf("refused: %s %s\n", r.FailInfo, show(r.FailInfoText))
	}
	return end
}

// rootsFrom reads roots from a PEM file; nil, the system's, without one.
func rootsFrom(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--ca-file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("--ca-file: %s holds no certificate in PEM form", path)
	}
	return pool, nil
}
