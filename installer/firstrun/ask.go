package firstrun

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/certconnector/certconnector/internal/secret"
)

// maxAnswer is how long a line of an answer may be, and maxTries how often a
// question is repeated.
const (
	maxAnswer = 4096
	maxTries  = 5
)

// ErrNotConfirmed says that a person did not want what was shown.
var ErrNotConfirmed = errors.New("not confirmed: nothing was written")

// Interview asks a person for options. It writes nothing but its questions.
type Interview struct {
	out   io.Writer
	lines <-chan string // closed at the end of the input
	given func(flag string) bool
}

// NewInterview asks on out and reads answers, a line each, from in. given
// tells which flags, without dashes, were there already: what they say is not
// asked for.
func NewInterview(in io.Reader, out io.Writer, given func(flag string) bool) *Interview {
	lines := make(chan string)
	go func() { // a read cannot be interrupted: it is left behind when the program ends
		defer close(lines)
		s := bufio.NewScanner(in)
		s.Buffer(make([]byte, 0, 256), maxAnswer)
		for s.Scan() {
			lines <- s.Text()
		}
	}()
	return &Interview{out: out, lines: lines, given: given}
}

// question is one thing to ask for.
type question struct {
	flag    string
	text    string
	hint    string   // a second line; "": none
	choices []string // of which the answer is one, by its name or number
	def     string   // shown in brackets, and taken for an empty answer; "": there must be one
	check   func(string) error
	set     func(string)
}

// Ask fills in what is open. It ends without an answer when ctx does, or the
// input.
func (iv *Interview) Ask(ctx context.Context, o *Options) error {
	for _, part := range []func(*Options) []question{askHost, askCA, askMicrosoft, askOwnAccount, askAccount, askPolicy, askIntune, askPlaces} {
		for _, q := range part(o) { // later parts depend on earlier answers
			if iv.given(q.flag) {
				continue
			}
			if err := iv.ask(ctx, q); err != nil {
				return err
			}
		}
	}
	return nil
}

// Confirm shows what was decided and asks whether to do it.
func (iv *Interview) Confirm(ctx context.Context, p *Plan) error {
	iv.printf("\nThis will be set up:\n\n")
	for _, line := range p.Summary() {
		iv.printf("  %-12s %s\n", line[0], printable(line[1]))
	}
	iv.printf("\nNothing was written so far.\n")
	yes := ""
	err := iv.ask(ctx, question{text: "Set it up (yes or no)", def: "yes", choices: []string{"yes", "no"}, set: func(s string) { yes = s }})
	if err == nil && yes != "yes" {
		return ErrNotConfirmed
	}
	return err
}

// ask repeats a question until the answer is one.
func (iv *Interview) ask(ctx context.Context, q question) error {
	if q.hint != "" {
		iv.printf("\n%s\n", q.hint)
	}
	for i, c := range q.choices {
		if q.def != "yes" {
			iv.printf("  %d. %s\n", i+1, c)
		}
	}
	for range maxTries {
		if q.def == "" {
			iv.printf("%s: ", q.text)
		} else {
			iv.printf("%s [%s]: ", q.text, printable(q.def))
		}
		var line string
		select {
		case <-ctx.Done():
			return errors.New("interrupted: nothing was written")
		case l, ok := <-iv.lines:
			if !ok {
				iv.printf("\n")
				return errors.New("the answers ended: nothing was written")
			}
			line = strings.TrimSpace(l)
		}
		answer, err := q.read(line)
		if err == nil {
			q.set(answer)
			return nil
		}
		iv.printf("  %s\n", printable(err.Error()))
	}
	return fmt.Errorf("no answer that can be used to %q: nothing was written", q.text)
}

// read takes a line for an answer, or says why it is none.
func (q question) read(line string) (string, error) {
	if line == "" {
		line = q.def
	}
	if line == "" {
		return "", errors.New("an answer is needed here")
	}
	if len(q.choices) > 0 {
		if n, err := strconv.Atoi(line); err == nil && n >= 1 && n <= len(q.choices) {
			line = q.choices[n-1]
		}
		i := slices.IndexFunc(q.choices, func(c string) bool {
			name, _, _ := strings.Cut(c, " ")
			return strings.EqualFold(name, line) || strings.EqualFold(c, line) || len(line) == 1 && q.def == "yes" && strings.HasPrefix(name, strings.ToLower(line))
		})
		if i < 0 {
			return "", fmt.Errorf("%q is none of them", line)
		}
		line, _, _ = strings.Cut(q.choices[i], " ")
	}
	if q.check != nil {
		return line, q.check(line)
	}
	return line, nil
}

func (iv *Interview) printf(format string, args ...any) {
	_, _ = fmt.Fprintf(iv.out, format, args...) // whoever closed the terminal cannot answer either
}

func askHost(o *Options) []question {
	name, _ := os.Hostname() // without a name there is no default
	return []question{{
		flag: "hostname", text: "Host name that devices use (several: with commas)", def: name,
		hint: "Devices reach this connector by a name that their network knows. It will be in certificates.",
		check: func(s string) error {
			for _, h := range split(s) {
				if strings.ContainsAny(h, "/: ") && net.ParseIP(h) == nil {
					return fmt.Errorf("%q is no host name or IP address", h)
				}
			}
			return nil
		},
		set: func(s string) { o.Hostnames = split(s) },
	}}
}

func split(s string) []string {
	var list []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

func askCA(o *Options) []question {
	return []question{{
		flag: "ca", text: "Certificate authority", def: CAEmbedded,
		hint: "Who issues?",
		choices: []string{
			CAEmbedded + " (a CA of its own, in this program)",
			CAADCS + " (a Microsoft CA, over DCOM and RPC; can also revoke)",
			CACertsrv + " (a Microsoft CA, over its web enrolment pages)",
		},
		set: func(s string) { o.CA = s },
	}}
}

// askMicrosoft asks for the CA and the account.
func askMicrosoft(o *Options) []question {
	if o.CA != CAADCS && o.CA != CACertsrv {
		return nil
	}
	m := &o.Microsoft
	list := []question{{
		flag: "ca-config", text: "CA", hint: `The CA as certutil prints it, host\name: ca01.corp.example\Corp Issuing CA`, check: checkCAConfig,
		set: func(s string) { m.Config = s },
	}}
	if o.CA == CACertsrv {
		list = []question{{
			flag: "ca-url", text: "Address", hint: "Web enrolment, as https://ca01.corp.example/certsrv/", check: checkCAURL,
			set: func(s string) { m.URL = s },
		}}
	}
	return append(list, question{
		flag: "ca-chain", text: "File of CA certificates",
		hint:  "The CA's certificate and those above it, as \"certutil -ca.chain FILE.p7b\" writes them at the CA (PEM, DER or PKCS #7).",
		check: func(s string) error { _, err := loadChain(s, m.commonName()); return err },
		set:   func(s string) { m.Chain = s },
	}, question{
		flag: "template", text: "Template for devices", hint: "Names of templates, as \"certutil -CATemplates\" shows them (not display names).",
		set: func(s string) { m.Template = s },
	}, question{
		flag: "ra-signing-template", text: "Template for signing (RA)", def: "EnrollmentAgentOffline",
		set: func(s string) { m.SigningTemplate = s },
	}, question{
		flag: "ra-encryption-template", text: "Template for encryption (RA)", def: "CEPEncryption",
		set: func(s string) { m.EncryptionTemplate = s },
	})
}

// askOwnAccount asks on Windows, where the service has an account in the
// domain.
func askOwnAccount(o *Options) []question {
	m := &o.Microsoft
	if o.CA != CAADCS && o.CA != CACertsrv || cmp.Or(o.System, runtime.GOOS) != "windows" || m.Principal != "" || m.User != "" {
		return nil
	}
	return []question{{
		flag: "ca-sspi", text: "Sign in to the CA as the account of the service (yes or no)", def: "yes", choices: []string{"yes", "no"},
		hint: "No password or keytab is stored then; the account needs Request Certificates at the CA, and Read and Enroll on the templates.",
		set:  func(s string) { m.SSPI = s == "yes" },
	}}
}

// askAccount asks for a Kerberos principal; NTLM is for those who name it by
// flags.
func askAccount(o *Options) []question {
	m := &o.Microsoft
	if o.CA != CAADCS && o.CA != CACertsrv || m.User != "" || m.SSPI {
		return nil
	}
	if m.PasswordFile != "" {
		return []question{principal(m)}
	}
	return []question{principal(m), {
		flag: "ca-keytab", text: "Keytab file", hint: "Its keys, in a file that only the service's account can read (for a password in a file use --ca-password-file).",
		check: secret.CheckPrivate, set: func(s string) { m.Keytab = s },
	}}
}

func principal(m *MicrosoftCA) question {
	return question{
		flag: "ca-principal", text: "Account (user@REALM)", hint: "The account that asks for certificates, by Kerberos: svc-connector@CORP.EXAMPLE",
		check: func(s string) error {
			if user, realm, ok := strings.Cut(s, "@"); !ok || user == "" || realm == "" {
				return fmt.Errorf("%q is not user@REALM", s)
			}
			return nil
		},
		set: func(s string) { m.Principal = s },
	}
}

func askPolicy(o *Options) []question {
	return []question{{
		flag: "policy", text: "Policy", def: PolicyIntune,
		hint: "Who decides which device may have a certificate?",
		choices: []string{
			PolicyIntune + " (Microsoft Intune vouches for each request)",
			PolicyStatic + " (one shared challenge, for a laboratory)",
		},
		set: func(s string) { o.Policy = s },
	}}
}

func askIntune(o *Options) []question {
	if o.Policy != PolicyIntune {
		return nil
	}
	return []question{{
		flag: "tenant", text: "Tenant",
		hint: "In https://entra.microsoft.com, App registrations, New registration: a single-tenant registration for\nthis connector. Its overview has both IDs.",
		check: func(s string) error {
			if strings.ContainsAny(s, "/ :@") {
				return errors.New("want the directory (tenant) ID, or its *.onmicrosoft.com name")
			}
			return nil
		},
		set: func(s string) { o.Tenant = s },
	}, {
		flag: "client-id", text: "Application (client) ID",
		check: func(s string) error {
			if strings.ContainsAny(s, "/ :@") {
				return errors.New("want the application (client) ID, a GUID")
			}
			return nil
		},
		set: func(s string) { o.ClientID = s },
	}}
}

func askPlaces(o *Options) []question {
	standard := ":443"
	if o.PlainHTTP {
		standard = ":80"
	}
	list := []question{{
		flag: "listen", text: "Address for devices", def: standard, check: checkListen,
		set: func(s string) { o.Listen = s },
	}}
	if o.Dir == "" && o.StateDir == "" {
		here, _ := filepath.Abs("certconnector") // without a present folder there is no default
		list = append(list, question{
			flag: "dir", text: "Folder for keys, journal and configuration", def: here,
			set: func(s string) { o.Dir = s },
		})
	}
	return list
}
