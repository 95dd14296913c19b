package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/certconnector/certconnector/ca/adcstest"
	"github.com/certconnector/certconnector/internal/durable"
)

// adcsOptions are the flags of "adcs".
type adcsOptions struct {
	dir       string
	realm     string
	keytab    string
	port      int // of the endpoint mapper; 0: any
	control   string
	endDate   bool
	published bool // a new list with each revocation
}

// adcsInfo says where the simulated CA is and who may do what.
type adcsInfo struct {
	Config             string         `json:"config"` // host\name
	Address            string         `json:"address"`
	EndpointMapperPort int            `json:"endpoint_mapper_port"`
	Web                string         `json:"web"`
	Policy             string         `json:"policy"`
	Enrollment         string         `json:"enrollment"`
	Control            string         `json:"control"` // what was issued and revoked
	Mechanisms         []string       `json:"mechanisms"`
	Password           string         `json:"password"` // of every account
	Accounts           []adcsAccount  `json:"accounts"`
	Templates          []adcsTemplate `json:"templates"`
	Sample             string         `json:"sample"` // file with the connector's cas
}

type adcsAccount struct {
	Name      string   `json:"name"`
	Rights    []string `json:"rights"`
	Templates []string `json:"templates,omitempty"`
}

type adcsTemplate struct {
	Name   string `json:"name"`
	Action string `json:"action"`
}

func (p *program) adcsCommand() *cobra.Command {
	var o adcsOptions
	c := &cobra.Command{
		Use:   "adcs --dir FOLDER",
		Short: "Run a simulated Microsoft CA: DCOM, RPC, web enrolment, CEP and CES",
		Long: `Runs a simulated Microsoft CA on the loopback interface until it is interrupted,
and writes what a connector needs into a folder: chain.pem, tls.pem (the roots of
the web faces), svc.password, and cas.yaml, which goes into the connector's
configuration; and last info.json, which says where the CA is. Its control API
(control/certificates) tells what the database has. Database and keys are gone
with the process.

It offers NTLM, Basic and passwords; with --keytab Kerberos too, for whoever has
a KDC: the file holds the keys of host/ca01.corp.test and HTTP/ca01.corp.test.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.serve(cmd.Context(), p.adcsIsUp)
		},
	}
	f := c.Flags()
	f.StringVar(&o.dir, "dir", "", "folder for the connector's files; made if need be (needed)")
	f.StringVar(&o.realm, "realm", "CORP.TEST", "Kerberos realm; its first part is the NTLM domain")
	f.StringVar(&o.keytab, "keytab", "", "file with the keys of the CA's host, for Kerberos (default: no Kerberos)")
	f.IntVar(&o.port, "endpoint-mapper-port", 0, "TCP port in place of 135 (default: a free one)")
	f.StringVar(&o.control, "control-address", "", "loopback address of the control API (default: a free port)")
	f.BoolVar(&o.endDate, "end-date", false, "heed the validity that a request asks for (EDITF_ATTRIBUTEENDDATE)")
	f.BoolVar(&o.published, "publish", true, "make a new revocation list with each revocation")
	_ = c.MarkFlagRequired("dir") // the flag exists
	return c
}

// RA templates, which NDES has copies of.
var raTemplates = []adcstest.Template{
	{Name: "ConnectorSigning", DisplayName: "Connector Signing", SubjectFromRequest: true, KeyUsage: x509.KeyUsageDigitalSignature},
	{Name: "CEPEncryption", DisplayName: "CEP Encryption", SubjectFromRequest: true, KeyUsage: x509.KeyUsageKeyEncipherment},
}

// serve runs the CA until ctx ends. up is called once it listens and its files
// are written.
func (o adcsOptions) serve(ctx context.Context, up func(adcsInfo)) (err error) {
	templates, accounts := append(adcstest.DefaultTemplates(), raTemplates...), adcstest.DefaultAccounts()
	for i := range accounts {
		if len(accounts[i].Enroll) > 0 {
			accounts[i].Enroll = append(accounts[i].Enroll, raTemplates[0].Name, raTemplates[1].Name)
		}
	}
	ca, err := adcstest.New(adcstest.Options{
		RSA: true, Realm: o.realm, Templates: templates, Accounts: accounts, EndDateFlag: o.endDate, PublishOnRevoke: o.published,
	})
	if err != nil {
		return fmt.Errorf("making the CA: %w", err)
	}
	rpc, err := ca.ServeRPC(adcstest.RPCOptions{Keytab: o.keytab, Port: o.port})
	if err != nil {
		return fmt.Errorf("starting DCOM and RPC: %w", err)
	}
	defer func() { err = errors.Join(err, rpc.Close()) }()
	web, err := ca.ServeCertsrv(adcstest.WebOptions{WebAuth: adcstest.WebAuth{
		Keytab: o.keytab, NTLM: true, NTLMInNegotiate: o.keytab == "", Basic: true, ClientCertificate: true,
	}})
	if err != nil {
		return fmt.Errorf("starting web enrolment: %w", err)
	}
	defer func() { err = errors.Join(err, web.Close()) }()
	soap, err := ca.ServeSOAP(adcstest.SOAPOptions{Keytab: o.keytab, NTLM: o.keytab == ""})
	if err != nil {
		return fmt.Errorf("starting CEP and CES: %w", err)
	}
	defer func() { err = errors.Join(err, soap.Close()) }()

	control, end, err := serveControl(ca, o.control)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()

	info := adcsInfo{
		Config: ca.Config(), Address: rpc.Address(), EndpointMapperPort: rpc.EndpointMapperPort(), Web: web.URL + "/certsrv/",
		Control: control, Policy: soap.Policy(adcstest.SOAPUser), Enrollment: soap.Enrollment(adcstest.SOAPUser),
		Mechanisms: []string{"NTLM", "Basic"}, Password: adcstest.DefaultPassword, Sample: filepath.Join(o.dir, "cas.yaml"),
	}
	if o.keytab != "" {
		info.Mechanisms = append(info.Mechanisms, "Kerberos")
	}
	info.describe(templates, accounts)
	if err := o.write(ca, web, info); err != nil {
		return err
	}
	up(info)
	<-ctx.Done()
	return nil
}

// describe lists templates and accounts.
func (i *adcsInfo) describe(templates []adcstest.Template, accounts []adcstest.Account) {
	actions := map[adcstest.Action]string{adcstest.Issue: "issues", adcstest.Pend: "waits for an officer", adcstest.Deny: "refuses"}
	for _, t := range templates {
		i.Templates = append(i.Templates, adcsTemplate{t.Name, actions[t.Action]})
	}
	for _, a := range accounts {
		out := adcsAccount{Name: a.Name, Templates: a.Enroll, Rights: []string{}}
		for _, r := range []struct {
			has  bool
			name string
		}{
			{a.Read, "Read"}, {a.RequestCertificates, "Request Certificates"},
			{a.Officer, "Issue and Manage Certificates"}, {a.Administrator, "Manage CA"},
		} {
			if r.has {
				out.Rights = append(out.Rights, r.name)
			}
		}
		i.Accounts = append(i.Accounts, out)
	}
}

// write puts the connector's files into the folder, the sample last.
func (o adcsOptions) write(ca *adcstest.CA, web *adcstest.Web, info adcsInfo) error {
	dir, err := filepath.Abs(o.dir)
	if err == nil {
		err = os.MkdirAll(dir, 0o700)
	}
	if err != nil {
		return fmt.Errorf("making the folder: %w", err)
	}
	soap, err := serverCertificate(info.Policy)
	if err != nil {
		return err
	}
	about, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return fmt.Errorf("writing where the CA is: %w", err)
	}
	var sample strings.Builder
	domain, _, _ := strings.Cut(ca.Realm(), ".")
	if err := casSample.Execute(&sample, map[string]any{"Info": info, "Dir": dir, "User": domain + `\svc`}); err != nil {
		return fmt.Errorf("writing the sample: %w", err)
	}
	for _, f := range []struct {
		name string
		text []byte
	}{
		{"chain.pem", inPEM(ca.Certificate(), ca.Root())},
		{"tls.pem", inPEM(web.Certificate, soap)},
		{"svc.password", []byte(adcstest.DefaultPassword + "\n")},
		{"cas.yaml", []byte(sample.String())},
		{"info.json", append(about, '\n')},
	} {
		if err := durable.WriteFile(filepath.Join(dir, f.name), f.text, 0o600); err != nil {
			return fmt.Errorf("writing the connector's files: %w", err)
		}
	}
	return nil
}

// casSample is the part of a connector's configuration.
var casSample = template.Must(template.New("cas").Parse(`cas:
  - name: issuing
    chain: {{printf "%q" (print .Dir "/chain.pem")}}
    adcs:
      config: '{{.Info.Config}}'
      address: {{.Info.Address}}
      endpoint_mapper_port: {{.Info.EndpointMapperPort}}
      issue: [dcom, icpr]
      revoke: csra
      approve: true
      ntlm: {user: '{{.User}}', password: {file: {{printf "%q" (print .Dir "/svc.password")}}}}
  - name: issuing-web
    chain: {{printf "%q" (print .Dir "/chain.pem")}}
    certsrv:
      url: {{.Info.Web}}
      ca_file: {{printf "%q" (print .Dir "/tls.pem")}}
      ntlm: {user: '{{.User}}', password: {file: {{printf "%q" (print .Dir "/svc.password")}}}}
  - name: issuing-soap
    chain: {{printf "%q" (print .Dir "/chain.pem")}}
    wstep:
      policy: {{.Info.Policy}}
      ca_file: {{printf "%q" (print .Dir "/tls.pem")}}
      user: {user: '{{.User}}', password: {file: {{printf "%q" (print .Dir "/svc.password")}}}}
`))

func inPEM(certs ...*x509.Certificate) []byte {
	var b []byte
	for _, c := range certs {
		b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return b
}

// serverCertificate is what a server of this process shows.
func serverCertificate(address string) (*x509.Certificate, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	conn, err := tls.Dial("tcp", u.Host, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // our own, to learn its certificate
	if err != nil {
		return nil, fmt.Errorf("reading the web faces' certificate: %w", err)
	}
	return conn.ConnectionState().PeerCertificates[0], conn.Close()
}

// adcsIsUp says where the CA is.
func (p *program) adcsIsUp(i adcsInfo) {
	if p.json {
		_ = p.writeJSON(i) // the CA runs whether or not somebody reads
		return
	}
	p.printf("CA         %s\nDCOM, RPC  %s, endpoint mapper at port %d\nweb        %s\npolicy     %s\nenrolment  %s\ncontrol    %s\nsign-in    %s\n",
		i.Config, i.Address, i.EndpointMapperPort, i.Web, i.Policy, i.Enrollment, i.Control, strings.Join(i.Mechanisms, ", "))
	for _, t := range i.Templates {
		p.printf("template   %s: %s\n", t.Name, t.Action)
	}
	for _, a := range i.Accounts {
		p.printf("account    %s: %s\n", a.Name, orNone(a.Rights))
	}
	p.printf("password   %s (of every account)\nconnector  %s\n", i.Password, i.Sample)
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "no rights"
	}
	return strings.Join(list, ", ")
}
