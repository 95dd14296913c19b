package agent

import (
	"context"
	"reflect"
	"slices"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/internal/secret"
)

// Keys says where private keys live that are not in plain files, and where new
// ones are made.
type Keys struct {
	// Where the service makes new keys of its own (a renewed certificate of an RA,
	// a listener's that a CA of ours issues, a managed one for Entra ID): file;
	// tpm, in the TPM 2.0 of a Linux machine; dpapi, in files that only this
	// Windows machine can open. An RA's new key is never less protected than the
	// old one. Default file.
	New string `yaml:"new"`
	// The TPM 2.0. Used when a key file says TSS2 PRIVATE KEY.
	TPM KeysTPM `yaml:"tpm"`
	// The hardware security module. Used for keys that begin with "pkcs11:"; it
	// takes the build with PKCS #11. Default none.
	PKCS11 *KeysPKCS11 `yaml:"pkcs11"`
}

// KeysTPM is a TPM 2.0.
type KeysTPM struct {
	// Its device file, that of the kernel's resource manager. Default
	// /dev/tpmrm0; the service's account must be in the group that may open it,
	// mostly tss. A unix socket is taken for a simulator.
	Device string `yaml:"device"`
}

// KeysPKCS11 is a PKCS #11 module.
type KeysPKCS11 struct {
	// The shared library of the device's maker, as
	// /usr/lib/softhsm/libsofthsm2.so.
	Module string `yaml:"module" path:"true"`
	// The user PIN of the tokens. Default none: keys name a pin-source, or their
	// token wants no PIN.
	PIN *SecretRef `yaml:"pin"`
}

func (k Keys) validate(m *mistakes) {
	if k.New != "" && !slices.Contains(keys.Places(), keys.Place(k.New)) {
		m.Add("keys.new", "%q is no place for keys, which is file, tpm or dpapi", k.New)
	}
	if k.PKCS11 == nil {
		return
	}
	if k.PKCS11.Module == "" {
		m.Add("keys.pkcs11.module", "is missing; name the shared library of the device's maker")
	}
	if k.PKCS11.PIN != nil {
		k.PKCS11.PIN.validate("keys.pkcs11.pin", m)
	}
}

// check reads the PIN. What needs the device is found with the keys in it.
func (k Keys) check(m *mistakes) {
	if k.PKCS11 != nil && k.PKCS11.PIN != nil {
		k.PKCS11.PIN.check("keys.pkcs11.pin", m)
	}
}

// Open returns the keys of this machine. It asks no device.
func (k Keys) Open(log *zap.Logger) *keys.Keys {
	cfg := keys.Config{TPM: k.TPM.Device, Log: log}
	if k.PKCS11 != nil {
		cfg.PKCS11.Module = k.PKCS11.Module
		if pin := k.PKCS11.PIN; pin != nil {
			cfg.PKCS11.PIN = func() (secret.Text, error) { return pin.Read() }
		}
	}
	return keys.New(cfg)
}

// openKeys shares the keys with the Agent before, unless the configuration
// names other devices. They stay open as long as the service runs: Agents that
// come later may have them too, or RA keys that were replaced (RA.Inherit).
func (a *Agent) openKeys() {
	if from := a.options.from; from != nil && reflect.DeepEqual(from.cfg.Keys, a.cfg.Keys) {
		a.keys = from.keys
		return
	}
	a.keys = a.cfg.Keys.Open(a.log.Named("keys"))
	a.base.push("keys", func(context.Context) error { return a.keys.Close() })
}

// LoadKeySettings reads the part about keys of a configuration file, the rest
// of which may be wrong: a key is made before all else.
func LoadKeySettings(path string) (Keys, error) {
	c, err := readConfig(path)
	return c.Keys, err
}
