// Package firstrun sets up a connector in one folder, or in one for the
// configuration and one for the rest: local key, journal,
// embedded CA, registration authority, TLS certificate, the secret or the
// certificate of its policy, and the configuration file. It is a list of
// steps that can be shown before they are done; when one fails, those before
// are undone. Nothing that exists is ever replaced, and everything is on disk
// when it is done.
package firstrun

import (
	"context"
	"crypto/sha1" // Windows and Intune show certificates by SHA-1; nothing is verified with it
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"

	"github.com/certconnector/certconnector/installer/steps"
)

// Files of a first run, below its folders.
const (
	ConfigFile    = "certconnector.yaml"
	LocalKeyFile  = "local.key"
	JournalFile   = "journal.db"
	CAFolder      = "ca"
	RAFolder      = "ra"
	TLSFolder     = "tls"
	EntraFolder   = "entra"
	ChallengeFile = "challenge"
)

// CAName is the configured name of the embedded CA, under which its register
// is kept.
const CAName = "embedded"

// EndpointName is the configured name of the endpoint.
const EndpointName = "devices"

// SCEPPath is the path of the endpoint: that of NDES, which Intune profiles
// and Microsoft's own scripts expect.
const SCEPPath = "/certsrv/mscep/mscep.dll"

// Plan is a first run that has not happened yet.
type Plan struct {
	o     Options
	steps []steps.Step
	made  Result
	owner *account // nil: whoever runs this
}

// Result is what a first run made.
type Result struct {
	ConfigFile string `json:"config_file"`
	SCEPURL    string `json:"scep_url"`

	CA              string `json:"ca"`                         // CAEmbedded, CAADCS or CACertsrv
	RootCertificate string `json:"root_certificate,omitempty"` // file, PEM; of a Microsoft CA the last one in it. "": its file has no root
	RootSHA256      string `json:"root_sha256,omitempty"`      // upper-case hex
	RootSHA1        string `json:"root_sha1,omitempty"`        // as Windows and Intune show it

	Account string `json:"account,omitempty"` // that owns the files, where it is not who made them

	ChallengeFile    string `json:"challenge_file,omitempty"`    // static
	EntraCertificate string `json:"entra_certificate,omitempty"` // intune: file to upload
	EntraSHA1        string `json:"entra_sha1,omitempty"`        // its thumbprint, as the portal shows it
}

// New checks the options and that no file is in the way. It changes nothing.
func New(o Options) (*Plan, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	p := &Plan{o: o}
	p.owner = ownerOf(o.StateDir)
	p.made.ConfigFile = p.path(ConfigFile)
	p.made.SCEPURL = o.scepURL()
	p.made.CA = o.CA
	p.plan()
	files := []string{ConfigFile, LocalKeyFile, JournalFile, ChallengeFile, CAFolder, RAFolder, TLSFolder, EntraFolder}
	if err := o.free(files); err != nil {
		return nil, err
	}
	return p, nil
}

// Steps lists what Run will do.
func (p *Plan) Steps() []string {
	list := make([]string, len(p.steps))
	for i, s := range p.steps {
		list[i] = s.Does
	}
	return list
}

// Run does it. report is called after each step; it may be nil. An error
// means that everything is as it was before, or says what is not.
func (p *Plan) Run(ctx context.Context, report func(steps.Planned)) (Result, error) {
	if err := steps.Run(ctx, p.steps, report); err != nil {
		return Result{}, err
	}
	return p.made, nil
}

// plan lists the steps. The configuration comes last: without it nothing
// starts with half a set of keys.
func (p *Plan) plan() {
	if p.o.Dir != p.o.StateDir {
		p.configFolder()
	}
	p.folder("make the folder "+p.o.StateDir, ".")
	p.add("make the local key", p.makeLocalKey, LocalKeyFile)
	p.add("make the journal", p.makeJournal, JournalFile, JournalFile+"-owner", JournalFile+"-wal", JournalFile+"-shm")
	p.planCA()
	switch {
	case p.o.Policy == PolicyIntune:
		p.folder("make a folder for the Entra certificate", EntraFolder)
		p.add("make the key and certificate to sign in with at Entra", p.makeEntra, entraKeyFile, entraCertFile)
	case p.o.ChallengeFile == "":
		p.add("make a challenge", p.makeChallenge, ChallengeFile)
	default:
		p.made.ChallengeFile = p.o.ChallengeFile
	}
	p.add("write the configuration", p.writeConfig, ConfigFile)
	if p.owner != nil {
		p.made.Account = p.owner.name
		p.add("give the files to the account "+p.owner.name, p.handOver)
	}
	if p.o.Check != nil {
		p.add("check the configuration", func(context.Context) error { return p.o.Check(p.path(ConfigFile)) })
	}
}

// planCA makes what a CA is needed for. A Microsoft CA certifies registration
// authority and TLS later: it must be asked over the network.
func (p *Plan) planCA() {
	p.folder("make a folder for the CA", CAFolder)
	if p.o.CA != CAEmbedded {
		p.add("keep the CA's certificates", p.writeChain, chainFile)
	} else {
		p.add("make the CA's key and root certificate", p.makeCA, caKeyFile, caCertFile)
	}
	p.folder("make a folder for the registration authority", RAFolder)
	p.folder("make a folder for TLS", TLSFolder)
	if p.o.CA == CAEmbedded {
		p.add("make the registration authority's keys and certificates"+p.andTLS(), p.makeOwn,
			raFile("signing", "key"), raFile("signing", "crt"), raFile("encryption", "key"), raFile("encryption", "crt"), tlsKeyFile, tlsCertFile)
	}
}

func (p *Plan) andTLS() string {
	if p.o.PlainHTTP {
		return ""
	}
	return ", and those for TLS"
}

// add plans a step that makes files. If it fails half way, it removes them, but
// never what it did not make: while a person was asked, another run may have
// made the same files. Of two runs at once the one that makes the local key
// goes on; the other one fails there, with a file that exists.
func (p *Plan) add(does string, do func(context.Context) error, files ...string) {
	paths := make([]string, len(files))
	for i, f := range files {
		paths[i] = p.path(f)
	}
	clean := func() error { return remove(paths...) }
	p.steps = append(p.steps, steps.Step{Does: does, Undo: clean, Do: func(ctx context.Context) error {
		if err := p.o.free(files); err != nil {
			return err
		}
		err := do(ctx)
		if err == nil || errors.Is(err, fs.ErrExist) {
			return err
		}
		if undoErr := clean(); undoErr != nil {
			return fmt.Errorf("%w (and what it left behind: %w)", err, undoErr)
		}
		return err
	}})
}

// folder plans a folder; only one that was made is removed again.
func (p *Plan) folder(does, name string) {
	if name == TLSFolder && p.o.PlainHTTP {
		return
	}
	p.folderAt(does, p.path(name))
}

func (p *Plan) folderAt(does, path string) {
	made := false
	p.steps = append(p.steps, steps.Step{
		Does: does,
		Do: func(context.Context) (err error) {
			made, err = makeFolder(path)
			return err
		},
		Undo: func() error {
			if !made {
				return nil
			}
			return remove(path)
		},
	})
}

func (p *Plan) path(name string) string { return p.o.path(name) }

// describeRoot notes what people compare.
func (p *Plan) describeRoot(root *x509.Certificate, file string) {
	p.made.RootCertificate = p.path(file)
	p.made.RootSHA256 = fmt.Sprintf("%X", sha256.Sum256(root.Raw))
	p.made.RootSHA1 = fmt.Sprintf("%X", sha1.Sum(root.Raw))
}

// scepURL is what devices are given.
func (o *Options) scepURL() string {
	scheme, standard := "https", "443"
	if o.PlainHTTP {
		scheme, standard = "http", "80"
	}
	host := o.Hostnames[0]
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if _, port, err := net.SplitHostPort(o.Listen); err == nil && port != standard {
		host += ":" + port
	}
	return scheme + "://" + host + SCEPPath
}
