package firstrun

import (
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/certconnector/certconnector/ca/embedded"
	"github.com/certconnector/certconnector/internal/durable"
	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/policymodule/static"
)

// Policies that a first run can set up.
const (
	PolicyStatic = "static" // one shared challenge, for a laboratory
	PolicyIntune = "intune"
)

var clouds = []string{"public", "usgov", "dod", "china", "custom"}

// maxChallenge is the size of the largest file that is taken for a challenge,
// in octets.
const maxChallenge = 64 << 10

// Options say what to set up.
type Options struct {
	Dir       string   // folder for the configuration and, without StateDir, for everything; made if need be
	StateDir  string   // folder for keys, certificates and journal; "": Dir. Root gives its files to the folder's owner
	Hostnames []string // names that devices use; empty: this host's name
	Listen    string   // address for devices; "": ":443", or ":80" with PlainHTTP
	PlainHTTP bool     // no TLS: a proxy on this host ends it, or a laboratory
	Policy    string   // PolicyStatic or PolicyIntune

	ChallengeFile string // static: file with the challenge; "": one is made

	// For PolicyIntune.
	Tenant, ClientID string
	Cloud            string // "": public; custom needs the addresses below
	AuthorityURL     string
	GraphURL         string
	ResourceURL      string
	CloudCAFile      string // further roots for the cloud's certificates

	CA        string           // CAEmbedded, CAADCS or CACertsrv; "": CAEmbedded
	CAKey     embedded.KeyKind // of an embedded CA; "": rsa3072
	Microsoft MicrosoftCA      // for CAADCS and CACertsrv

	RAKey embedded.KeyKind // "": rsa2048

	// Check is asked about the new configuration file before the first run
	// counts as done. May be nil.
	Check  func(configFile string) error
	Clock  func() time.Time // nil: time.Now
	System string           // "": runtime.GOOS

	chain []*x509.Certificate // of a Microsoft CA, in order
}

// complete fills in what was left open and reports everything that is wrong
// at once.
func (o *Options) complete() error {
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.Clock == nil {
		o.Clock = time.Now
	}
	o.System = cmp.Or(o.System, runtime.GOOS)
	if o.Dir == "" {
		wrong("--dir is missing: name the folder for keys, journal and configuration")
	} else if dir, err := filepath.Abs(o.Dir); err != nil {
		wrong("--dir: %v", err)
	} else {
		o.Dir = dir
	}
	if o.StateDir == "" {
		o.StateDir = o.Dir
	} else if dir, err := filepath.Abs(o.StateDir); err != nil {
		wrong("--state-dir: %v", err)
	} else {
		o.StateDir = dir
	}
	if len(o.Hostnames) == 0 {
		if name, err := os.Hostname(); err == nil && name != "" {
			o.Hostnames = []string{name}
		} else {
			wrong("--hostname is missing: name the host as devices do")
		}
	}
	o.completeListener(wrong)
	o.completeKeys(wrong)
	o.completeCA(wrong)
	switch o.Policy {
	case PolicyStatic:
		o.completeStatic(wrong)
	case PolicyIntune:
		o.completeIntune(wrong)
	default:
		wrong("--policy %q is unknown, want %s or %s", o.Policy, PolicyStatic, PolicyIntune)
	}
	return errors.Join(errs...)
}

func (o *Options) completeListener(wrong func(string, ...any)) {
	if o.Listen == "" {
		o.Listen = ":443"
		if o.PlainHTTP {
			o.Listen = ":80"
		}
	}
	if err := checkListen(o.Listen); err != nil {
		wrong("--listen %v", err)
	}
}

func checkListen(s string) error {
	if _, port, err := net.SplitHostPort(s); err != nil || port == "" {
		return fmt.Errorf("%q is not host:port, as :443", s)
	}
	return nil
}

func (o *Options) completeCA(wrong func(string, ...any)) {
	if o.CA == "" {
		o.CA = CAEmbedded
	}
	switch o.CA {
	case CAEmbedded:
		if !o.Microsoft.empty() {
			wrong("--ca-config, --ca-url, --ca-chain, --template, --ca-principal and what belongs to them are for --ca %s and %s", CAADCS, CACertsrv)
		}
	case CAADCS, CACertsrv:
		o.completeMicrosoft(wrong)
	default:
		wrong("--ca %q is unknown, want %s, %s or %s", o.CA, CAEmbedded, CAADCS, CACertsrv)
	}
}

func (o *Options) completeKeys(wrong func(string, ...any)) {
	for _, k := range []struct {
		flag     string
		kind     *embedded.KeyKind
		fallback embedded.KeyKind
	}{{"--ca-key", &o.CAKey, embedded.RSA3072}, {"--ra-key", &o.RAKey, embedded.RSA2048}} {
		if *k.kind == "" {
			*k.kind = k.fallback
		}
		kind, err := embedded.ParseKeyKind(string(*k.kind))
		if err != nil {
			wrong("%s: %v", k.flag, err)
		}
		*k.kind = kind
	}
	if o.RAKey == embedded.P256 || o.RAKey == embedded.P384 {
		wrong("--ra-key %s: devices encrypt to RSA keys only", o.RAKey)
	}
}

func (o *Options) completeStatic(wrong func(string, ...any)) {
	for flag, value := range map[string]string{"--tenant": o.Tenant, "--client-id": o.ClientID, "--cloud": o.Cloud} {
		if value != "" {
			wrong("%s belongs to --policy intune", flag)
		}
	}
	if o.ChallengeFile == "" {
		return
	}
	b, err := durable.ReadFile(o.ChallengeFile, maxChallenge)
	if err != nil {
		wrong("--challenge-file: %v", err)
		return
	}
	if err := static.Check(secret.Text(strings.TrimRight(string(b), "\r\n"))); err != nil {
		wrong("--challenge-file: %v; leave the flag away and a strong one is made", err)
	}
	o.ChallengeFile = absolute(o.ChallengeFile)
}

func (o *Options) completeIntune(wrong func(string, ...any)) {
	if o.Tenant == "" {
		wrong("--tenant is missing: the Entra tenant's ID or *.onmicrosoft.com name")
	}
	if o.ClientID == "" {
		wrong("--client-id is missing: the application (client) ID of the app registration")
	}
	if o.ChallengeFile != "" {
		wrong("--challenge-file belongs to --policy static")
	}
	if o.Cloud == "" {
		o.Cloud = "public"
	}
	if !slices.Contains(clouds, o.Cloud) {
		wrong("--cloud %q is unknown, want public, usgov, dod, china or custom", o.Cloud)
	}
	for _, u := range []struct{ flag, value string }{
		{"--authority-url", o.AuthorityURL}, {"--graph-url", o.GraphURL}, {"--resource-url", o.ResourceURL},
	} {
		if u.value == "" {
			if o.Cloud == "custom" {
				wrong("%s is missing: --cloud custom has no addresses of its own", u.flag)
			}
			continue
		}
		if p, err := url.Parse(u.value); err != nil || p.Host == "" || p.Scheme != "https" {
			wrong("%s %q is no address that begins with https://", u.flag, u.value)
		}
	}
	if o.CloudCAFile != "" {
		if _, err := os.Stat(o.CloudCAFile); err != nil {
			wrong("--cloud-ca-file: %v", err)
		}
		o.CloudCAFile = absolute(o.CloudCAFile)
	}
}

// path is where a file of the first run is.
func (o *Options) path(name string) string {
	if name == ConfigFile {
		return filepath.Join(o.Dir, name)
	}
	return filepath.Join(o.StateDir, name)
}

// named is how the configuration names a file: as short as it can.
func (o *Options) named(name string) string {
	if o.StateDir == o.Dir {
		return filepath.ToSlash(name)
	}
	return quote(o.path(name))
}

// free reports every file of the first run that exists already, or why that
// cannot be told.
func (o *Options) free(files []string) error {
	var errs []error
	for _, name := range files {
		path := o.path(name)
		_, err := os.Lstat(path)
		switch {
		case err == nil:
			errs = append(errs, fmt.Errorf("%q exists already and is kept", path))
		case errors.Is(err, fs.ErrPermission): // it is so of all in that folder
			return fmt.Errorf("looking for files in the way: %w: run this as root (on Windows as Administrator), or choose another --dir", err)
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("looking for files in the way: %w", err)
		}
	}
	if len(errs) > 0 {
		errs = append(errs, errors.New("nothing was changed; choose another --dir, or move these files away if they are of no use any more"))
	}
	return errors.Join(errs...)
}

// absolute is for paths that stand in the configuration file.
func absolute(path string) string {
	if a, err := filepath.Abs(path); err == nil {
		return a
	}
	return path
}
