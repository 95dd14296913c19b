//go:build !unix

package keys

import (
	"errors"
	"io"
)

func openDevice(string) (io.ReadWriteCloser, error) {
	return nil, errors.New("on Windows keys of a TPM are used through the certificate store (Microsoft Platform Crypto Provider)")
}
