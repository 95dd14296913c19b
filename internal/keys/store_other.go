//go:build !windows

package keys

import (
	"crypto"
	"crypto/x509"
	"errors"
)

var errNoStore = errors.New("there are certificate stores on Windows alone; name a file here")

func loadFromStore(ref string) (crypto.Signer, error) {
	if _, err := parseStoreRef(ref); err != nil {
		return nil, err
	}
	return nil, errNoStore
}

func chainFromStore(storeRef) ([]*x509.Certificate, error) { return nil, errNoStore }
