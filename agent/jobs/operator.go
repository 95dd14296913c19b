package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/certconnector/certconnector/agent/journal"
)

// OperatorSource is the name under which revocations by a person at this
// machine are recorded. They are reported to nobody.
const OperatorSource = "operator"

// RecordRevocation records that a person has had a certificate revoked, so that
// a comparison with the CA knows it. The job asks the CA once more, which finds
// it done.
func RecordRevocation(ctx context.Context, to interface {
	AddJob(ctx context.Context, job journal.NewJob, source string, now time.Time) error
}, ca, serial string, now time.Time,
) error {
	content, err := json.Marshal(Revocation{Serial: serial, Issuer: ca})
	if err != nil {
		return fmt.Errorf("writing down a revocation: %w", err)
	}
	return to.AddJob(ctx, journal.NewJob{
		Kind: journal.RevokeJob, Context: ca + "/" + serial, Content: content, Summary: clean("serial " + serial + " of " + ca),
	}, OperatorSource, now)
}
