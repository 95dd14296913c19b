package jobs

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"unicode/utf8"

	"go.uber.org/zap"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/internal/eventid"
)

// event is the field of an event where these numbers apply: Microsoft's
// connector has none for issuance from a queue like ours.
func event(kind journal.JobKind, id eventid.Intune) zap.Field {
	if kind != journal.RevokeJob {
		return zap.Skip()
	}
	return id.Field()
}

// digest names a job's handle in logs: the handle itself is the source's
// business, and may be long.
func digest(job journal.Job) zap.Field {
	sum := sha256.Sum256([]byte(job.Context))
	return zap.String("context_sha256", hex.EncodeToString(sum[:8]))
}

// maxText bounds what one text of a source adds to a line, in octets.
const maxText = 256

// clean returns a source's text as it is when it is printable and of sane
// length, else quoted and cut off.
func clean(s string) string {
	plain := len(s) <= maxText && utf8.ValidString(s)
	for _, c := range s[:min(len(s), maxText)] {
		plain = plain && strconv.IsPrint(c)
	}
	if plain {
		return s
	}
	return strconv.QuoteToASCII(s[:min(len(s), maxText)])
}
