package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/internal/keys"
)

func (p *program) keysCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "keys",
		Short: "Make and check private keys, in files and devices",
		Long: `A key is named as in the configuration: a PEM file, which may hold a key that
only this machine's TPM can use, or a key in a device: pkcs11:token=…;object=….
Devices are those of the configuration file, where there is one.`,
	}
	c.AddCommand(p.keysCreateCommand(), p.keysCheckCommand(), p.keysSealCommand())
	return c
}

func (p *program) keysCreateCommand() *cobra.Command {
	var where, kind, tpm string
	c := &cobra.Command{
		Use:   "create FILE",
		Short: "Make a private key and the file that names it",
		Long: `Makes a key and writes its file, which only its owner can read. A file that is
there is never replaced. With --where tpm the key is made in the TPM 2.0 and
the file is of use to this TPM alone. Run it as the account of the service.

Exit codes: 0 made, 2 error.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return p.keysCreate(args[0], where, kind, tpm) },
	}
	c.Flags().StringVar(&where, "where", "", "where the key lives: file, tpm or dpapi (default: keys.new of the configuration)")
	c.Flags().StringVar(&kind, "kind", string(keys.RSA2048), "rsa2048, rsa3072, rsa4096, p256 or p384; devices encrypt to RSA keys only")
	c.Flags().StringVar(&tpm, "tpm", "", "device file of the TPM (default: keys.tpm.device of the configuration)")
	return c
}

func (p *program) keysCreate(path, where, kind, tpm string) (err error) {
	k, err := keys.ParseKind(kind)
	if err != nil {
		return err
	}
	settings, err := p.keySettings(tpm)
	if err != nil {
		return err
	}
	if where == "" {
		where = settings.New
	}
	if !keys.IsURI(path) { // Create refuses those
		if err := ownFolder(filepath.Dir(path), true); err != nil {
			return err
		}
	}
	devices := settings.Open(zap.NewNop())
	defer func() { err = errors.Join(err, devices.Close()) }()
	key, err := devices.Create(path, keys.Place(where), k)
	if err != nil {
		return err
	}
	return p.done("%s is made", fmt.Sprintf("%s (%s, in %s)", path, describeKey(key), keys.PlaceOfRef(path)))
}

func (p *program) keysCheckCommand() *cobra.Command {
	var tpm string
	c := &cobra.Command{
		Use:   "check KEY",
		Short: "Ask whether a key can sign and decrypt, and how long that takes",
		Long: `Has a key sign, and an RSA key open what was encrypted to it as devices do, and
says how long each took. Quote a key in a device: its name has semicolons.

Exit codes: 0 it can do what it is for, 1 an RSA key cannot decrypt, 2 error.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return p.keysCheck(args[0], tpm) },
	}
	c.Flags().StringVar(&tpm, "tpm", "", "device file of the TPM (default: keys.tpm.device of the configuration)")
	return c
}

// keyReport is what check found, in milliseconds.
type keyReport struct {
	Key       string     `json:"key"`
	Kind      string     `json:"kind"`
	Place     keys.Place `json:"place"`
	LoadMS    int64      `json:"load_ms"`
	SignMS    int64      `json:"sign_ms"`
	Decrypts  bool       `json:"decrypts"`
	DecryptMS int64      `json:"decrypt_ms"`
	Problem   string     `json:"problem,omitempty"`
}

func (p *program) keysCheck(ref, tpm string) (err error) {
	settings, err := p.keySettings(tpm)
	if err != nil {
		return err
	}
	devices := settings.Open(zap.NewNop())
	defer func() { err = errors.Join(err, devices.Close()) }()
	r := keyReport{Key: keys.Shown(ref), Place: keys.PlaceOfRef(ref)}
	began := time.Now()
	key, err := devices.Load(ref)
	if err != nil {
		return err
	}
	r.Kind, r.LoadMS = describeKey(key), since(&began)
	if err := keys.CheckSigns(key); err != nil {
		return err
	}
	r.SignMS = since(&began)
	if _, ok := key.Public().(*rsa.PublicKey); ok {
		if err := keys.CheckDecrypts(key); err != nil {
			r.Problem = err.Error()
		} else {
			r.Decrypts, r.DecryptMS = true, since(&began)
		}
	}
	if err := p.keyResult(r); err != nil {
		return err
	}
	if r.Problem != "" {
		return &refused{}
	}
	return nil
}

func (p *program) keyResult(r keyReport) error {
	if p.json {
		return p.writeJSON(r)
	}
	p.printf("%s: %s, in %s, found in %d ms\n", show(r.Key), r.Kind, r.Place, r.LoadMS)
	p.printf("signs, in %d ms\n", r.SignMS)
	switch {
	case r.Decrypts:
		p.printf("decrypts, in %d ms\n", r.DecryptMS)
	case r.Problem != "":
		p.printf("does not decrypt: %s\n", show(r.Problem))
	default:
		p.printf("does not decrypt, as no key of its kind; an RA's key for encryption must be RSA\n")
	}
	return nil
}

// since returns the milliseconds since a time, and sets that to now.
func since(t *time.Time) int64 {
	d := time.Since(*t)
	*t = time.Now()
	return d.Milliseconds()
}

// keySettings are those of the configuration, or the defaults where there is
// none yet.
func (p *program) keySettings(tpm string) (agent.Keys, error) {
	settings, err := agent.LoadKeySettings(p.config)
	if errors.Is(err, fs.ErrNotExist) {
		settings, err = agent.Defaults().Keys, nil
	}
	if tpm != "" {
		settings.TPM.Device = tpm
	}
	return settings, err
}

func describeKey(key crypto.Signer) string {
	switch pub := key.Public().(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", pub.N.BitLen())
	case *ecdsa.PublicKey:
		return pub.Curve.Params().Name
	}
	return fmt.Sprintf("%T", key.Public())
}
