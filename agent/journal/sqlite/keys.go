package sqlite

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/certconnector/certconnector/policymodule"
)

// A key is what an index holds in place of longer columns: 64 bits of their
// digest. Statements compare the columns as well.

func requestKey(endpoint, transactionID string, signerKey *[32]byte) int64 {
	buf := make([]byte, 0, 256)
	buf = field(buf, endpoint)
	buf = field(buf, transactionID)
	return key(append(buf, signerKey[:]...))
}

func challengeKey(id string) int64 {
	return key(append(make([]byte, 0, 128), id...))
}

func verdictKey(k *policymodule.VerdictKey) int64 {
	buf := field(make([]byte, 0, 256), k.Caller)
	buf = field(field(buf, k.Tenant), k.TransactionID)
	return key(append(buf, k.CSRDigest[:]...))
}

func serialKey(ca string, serial []byte) int64 {
	return key(append(field(make([]byte, 0, 128), ca), serial...))
}

func jobKey(source, context string) int64 {
	return key(append(field(make([]byte, 0, 256), source), context...))
}

func importedKey(ca, serial string) int64 {
	return key(append(field(make([]byte, 0, 128), ca), serial...))
}

// field appends a text so that no other pair of texts gives the same bytes.
func field(buf []byte, s string) []byte {
	return append(binary.AppendUvarint(buf, uint64(len(s))), s...)
}

func key(b []byte) int64 {
	sum := sha256.Sum256(b)
	return int64(binary.BigEndian.Uint64(sum[:8]))
}

func digestKey(d *[32]byte) int64 { return int64(binary.BigEndian.Uint64(d[:8])) }
