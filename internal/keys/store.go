package keys

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// storeRef is a certificate in a store of Windows, with its private key:
// certstore:machine/My/<SHA-1 thumbprint>.
type storeRef struct {
	machine    bool   // the machine's stores, or those of the account
	store      string // "My" is what the console calls Personal
	thumbprint [20]byte
}

// parseStoreRef reads a reference. A thumbprint may have been copied from the
// certificate's dialogue: with spaces, and with the invisible mark that the
// dialogue puts before it.
func parseStoreRef(ref string) (storeRef, error) {
	const form = "write certstore:machine/My/<SHA-1 thumbprint>, or certstore:user/My/…"
	_, path, _ := strings.Cut(ref, ":")
	parts := strings.Split(path, "/")
	if len(parts) != 3 || parts[1] == "" {
		return storeRef{}, errors.New(form)
	}
	r := storeRef{store: parts[1]}
	switch strings.ToLower(parts[0]) {
	case "machine":
		r.machine = true
	case "user":
	default:
		return storeRef{}, fmt.Errorf("there is no store of %q: %s", parts[0], form)
	}
	digits := strings.Map(func(c rune) rune {
		if c == ' ' || c == ':' || c == '\u200e' {
			return -1
		}
		return c
	}, parts[2])
	b, err := hex.DecodeString(digits)
	if err != nil || len(b) != len(r.thumbprint) {
		return storeRef{}, fmt.Errorf("%q is no SHA-1 thumbprint of 40 hexadecimal digits: %s", parts[2], form)
	}
	r.thumbprint = [20]byte(b)
	return r, nil
}

func (r storeRef) String() string {
	place := "user"
	if r.machine {
		place = "machine"
	}
	return fmt.Sprintf("certstore:%s/%s/%X", place, r.store, r.thumbprint)
}

// InStore tells a reference to Windows' certificate store from all others. A
// setting for a certificate may name the same one as that for its key.
func InStore(ref string) bool {
	scheme, _, found := strings.Cut(ref, ":")
	return found && strings.EqualFold(scheme, "certstore")
}

// CheckStore says what is wrong with a reference to a certificate store,
// without asking any.
func CheckStore(ref string) error {
	_, err := parseStoreRef(ref)
	return err
}

// Certificate returns the certificate of a certstore: reference and the CA
// certificates that Windows knows for it, the issuer's first, without a root.
func Certificate(ref string) ([]*x509.Certificate, error) {
	if !InStore(ref) {
		return nil, fmt.Errorf("%s does not name a certificate: only certstore: references do", Shown(ref))
	}
	r, err := parseStoreRef(ref)
	if err == nil {
		var chain []*x509.Certificate
		if chain, err = chainFromStore(r); err == nil {
			return chain, nil
		}
	}
	return nil, fmt.Errorf("certificate %s: %w", ref, err)
}

// maxChain is more than any chain has.
const maxChain = 8

// chainOf returns a certificate and, each after the one that it issued, those
// of its issuers that are known and no roots: a root whoever asks has. Of two
// for one issuer it takes the one that ends later.
func chainOf(leaf *x509.Certificate, known []*x509.Certificate) []*x509.Certificate {
	chain := []*x509.Certificate{leaf}
	for len(chain) < maxChain {
		last := chain[len(chain)-1]
		var best *x509.Certificate
		for _, c := range known {
			if bytes.Equal(c.RawSubject, last.RawIssuer) && !bytes.Equal(c.RawSubject, c.RawIssuer) &&
				!slices.ContainsFunc(chain, c.Equal) && last.CheckSignatureFrom(c) == nil &&
				(best == nil || c.NotAfter.After(best.NotAfter)) {
				best = c
			}
		}
		if best == nil {
			break
		}
		chain = append(chain, best)
	}
	return chain
}
