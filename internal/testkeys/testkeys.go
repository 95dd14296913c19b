// Package testkeys holds fixed private keys for tests: making RSA keys would
// take longer than most tests, and fixed keys make failures repeatable. They
// protect nothing. Make them again with openssl genrsa and openssl ecparam.
package testkeys

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"embed"
	"encoding/pem"
	"fmt"
	"sync"
)

//go:embed keys/*.pem
var files embed.FS

var parsed sync.Map // name → private key

// load returns the key of a file, the same value on every call.
func load(name string) any {
	if k, ok := parsed.Load(name); ok {
		return k
	}
	b, err := files.ReadFile("keys/" + name + ".pem")
	if err != nil {
		panic(fmt.Sprintf("no test key %q", name))
	}
	block, _ := pem.Decode(b)
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		panic(fmt.Sprintf("test key %q: %v", name, err))
	}
	actual, _ := parsed.LoadOrStore(name, k)
	return actual
}

// RSA2048 returns one of eight keys, i in 0..7.
func RSA2048(i int) *rsa.PrivateKey { return load(fmt.Sprintf("rsa2048-%d", i)).(*rsa.PrivateKey) }

// RSA1024 returns a key that every policy should refuse.
func RSA1024() *rsa.PrivateKey { return load("rsa1024").(*rsa.PrivateKey) }

// P256 returns one of two keys, i in 0..1.
func P256(i int) *ecdsa.PrivateKey { return load(fmt.Sprintf("p256-%d", i)).(*ecdsa.PrivateKey) }
