//go:build !windows

package keys

import (
	"crypto"
	"errors"
)

var errNotWindows = errors.New("keys of this kind can be used on the Windows machine alone that made them")

func loadFromStore(string) (crypto.Signer, error) { return nil, errNotWindows }

func openSealed([]byte) (crypto.Signer, error) { return nil, errNotWindows }

func storeSealed(string, crypto.Signer) error { return errNotWindows }
