package main

import (
	"context"
	"fmt"
	"os"
	"strings"
)

// signing is how programs and packages for Windows are signed
// (Authenticode). Signed files are not the same bytes each time.
type signing struct {
	cert, key string // PEM files; the key may be a "pkcs11:" URI with options
	timestamp string // address of a time stamping authority; "": none
	options   string // further ones of osslsigncode, as "-pkcs11engine … -pkcs11module …"
}

// sign signs a file in its place, if a certificate was given.
func (r *release) sign(ctx context.Context, path string) error {
	s := r.signing
	if s.cert == "" {
		return nil
	}
	say("signing", path)
	args := []string{"sign", "-certs", s.cert, "-key", s.key, "-h", "sha256", "-n", "certconnector", "-i", "https://github.com/certconnector/certconnector"}
	if s.timestamp != "" {
		args = append(args, "-ts", s.timestamp)
	}
	args = append(args, strings.Fields(s.options)...)
	signed := path + ".signed"
	if _, err := run(ctx, nil, "osslsigncode", append(args, "-in", path, "-out", signed)...); err != nil {
		return fmt.Errorf("signing (osslsigncode, on Debian of the package of that name): %w", err)
	}
	if err := os.Rename(signed, path); err != nil {
		return fmt.Errorf("signing: %w", err)
	}
	return nil
}
