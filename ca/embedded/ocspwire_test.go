package embedded_test

import (
	"bytes"
	"context"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/catest"
)

// brokenRegister issues and cannot be read.
type brokenRegister struct{ *catest.Register }

func (brokenRegister) Certificate(context.Context, string, *big.Int) (ca.RegisteredCertificate, error) {
	return ca.RegisteredCertificate{}, errors.New("disk is gone")
}

// requestList returns the list of a request that has nothing else.
func requestList(t testing.TB, plain []byte) []byte {
	t.Helper()
	var request, tbs, list cryptobyte.String
	in := cryptobyte.String(plain)
	if !in.ReadASN1(&request, cbasn1.SEQUENCE) || !request.ReadASN1(&tbs, cbasn1.SEQUENCE) || !tbs.ReadASN1(&list, cbasn1.SEQUENCE) {
		t.Fatal("the request does not read")
	}
	return list
}

// rebuilt is a request with this list and this extension.
func rebuilt(t testing.TB, list []byte, extension func(*cryptobyte.Builder)) []byte {
	t.Helper()
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(list) })
			if extension != nil {
				b.AddASN1(cbasn1.Tag(2).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.SEQUENCE, extension)
				})
			}
		})
	})
	return b.BytesOrPanic()
}

func withExtension(t testing.TB, plain []byte, oid asn1.ObjectIdentifier, critical bool, value []byte) []byte {
	t.Helper()
	return rebuilt(t, requestList(t, plain), func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oid)
			if critical {
				b.AddASN1Boolean(true)
			}
			b.AddASN1OctetString(value)
		})
	})
}

func nonceOf(size int) []byte { return bytes.Repeat([]byte{0xa5}, size) }

func withNonce(t testing.TB, plain []byte, size int) []byte {
	t.Helper()
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1OctetString(nonceOf(size))
	return withExtension(t, plain, asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 48, 1, 2}, false, b.BytesOrPanic())
}

func twice(t testing.TB, plain []byte) []byte {
	t.Helper()
	list := requestList(t, plain)
	return rebuilt(t, append(bytes.Clone(list), list...), nil)
}
