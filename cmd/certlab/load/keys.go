package load

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// deviceKeys returns n keys, from a file as far as it has some; new ones are
// added to the file. They protect nothing.
func deviceKeys(ctx context.Context, file string, n int) ([]*rsa.PrivateKey, error) {
	var text []byte
	if file != "" {
		var err error
		if text, err = os.ReadFile(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("reading device keys: %w", err)
		}
	}
	keys := make([]*rsa.PrivateKey, 0, n)
	for rest := text; len(keys) < n; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		key, ok := k.(*rsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("%s has a key that is not RSA", file)
		}
		keys = append(keys, key)
	}
	if len(keys) == n {
		return keys, nil
	}
	fresh := make([]*rsa.PrivateKey, n-len(keys))
	if err := parallel(ctx, len(fresh), func(i int) (err error) {
		fresh[i], err = rsa.GenerateKey(rand.Reader, 2048)
		return err
	}); err != nil {
		return nil, fmt.Errorf("making device keys: %w", err)
	}
	keys = append(keys, fresh...)
	if file == "" {
		return keys, nil
	}
	return keys, storeKeys(file, keys)
}

func storeKeys(file string, keys []*rsa.PrivateKey) error {
	var out bytes.Buffer
	for _, k := range keys {
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			return fmt.Errorf("storing device keys: %w", err)
		}
		if err := pem.Encode(&out, &pem.Block{Type: "PRIVATE KEY", Bytes: der}); err != nil {
			return fmt.Errorf("storing device keys: %w", err)
		}
	}
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		return fmt.Errorf("storing device keys: %w", err)
	}
	return nil
}
