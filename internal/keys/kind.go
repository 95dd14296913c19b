package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"slices"
	"strings"
)

// Kind names an algorithm and size of key.
type Kind string

// The kinds of key there are.
const (
	RSA2048 Kind = "rsa2048"
	RSA3072 Kind = "rsa3072"
	RSA4096 Kind = "rsa4096"
	P256    Kind = "p256"
	P384    Kind = "p384"
)

// Kinds lists every kind of key.
func Kinds() []Kind { return []Kind{RSA2048, RSA3072, RSA4096, P256, P384} }

// ParseKind reads the name of a kind, any case.
func ParseKind(s string) (Kind, error) {
	k := Kind(strings.ToLower(s))
	if !slices.Contains(Kinds(), k) {
		return "", fmt.Errorf("unknown kind of key %q (known: %v)", s, Kinds())
	}
	return k, nil
}

// RSAKind is the smallest kind of RSA key with so many bits; beyond 4096 it is
// RSA4096.
func RSAKind(bits int) Kind {
	switch {
	case bits <= 2048:
		return RSA2048
	case bits <= 3072:
		return RSA3072
	}
	return RSA4096
}

// Generate makes a key in memory.
func Generate(kind Kind) (crypto.Signer, error) {
	switch kind {
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case RSA4096:
		return rsa.GenerateKey(rand.Reader, 4096)
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	}
	_, err := ParseKind(string(kind))
	return nil, err
}
