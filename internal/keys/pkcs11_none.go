//go:build !pkcs11

package keys

import (
	"crypto"
	"errors"

	"go.uber.org/zap"
)

// modules has no PKCS #11: loading a module takes cgo, which the plain build
// does without.
type modules struct{}

func newModules(PKCS11, *zap.Logger) *modules { return nil }

func (*modules) load(ref string) (crypto.Signer, error) {
	if _, err := parsePKCS11(ref); err != nil {
		return nil, err
	}
	return nil, errors.New("this build has no PKCS #11; use the program that was built with CGO_ENABLED=1 and the tag pkcs11 (make build-pkcs11)")
}

func (*modules) close() error { return nil }
