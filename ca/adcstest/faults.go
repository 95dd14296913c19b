package adcstest

import "context"

// Fault is a way in which the CA goes wrong.
type Fault int

// The faults of Fail. Each face shows those that make sense for it.
const (
	CorruptReply     Fault = iota // the reply's bytes are damaged after they were protected
	Stall                         // no answer until Heal
	DropAfterIssue                // carried out and recorded, then the connection is cut
	WrongCertificate              // answers with another request's certificate
	GarbagePage                   // a web page that is none of the CA's
	Suspended                     // CERTSRV_E_SERVER_SUSPENDED, as during a backup
	DamagedRows                   // rows of a database view point outside of the answer
)

// Fail makes the next calls go wrong: so many times, or, if times is negative,
// until Heal.
func (c *CA) Fail(mode Fault, times int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults[mode] = times
}

// Heal ends all faults and lets go what was stalled.
func (c *CA) Heal() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.faults)
	close(c.healed)
	c.healed = make(chan struct{})
}

// Left says how many calls are still to go wrong in this way: a test that
// counted one waits so until a call has met it.
func (c *CA) Left(mode Fault) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.faults[mode]
}

// takeFault says whether a call is to go wrong in this way, and counts it.
func (c *CA) takeFault(mode Fault) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.takeLocked(mode)
}

func (c *CA) takeLocked(mode Fault) bool {
	left := c.faults[mode]
	if left > 0 {
		c.faults[mode]--
	}
	return left != 0
}

// stall waits for Heal if the CA is to stall. A face calls it before it
// answers, with a context that ends with the connection.
func (c *CA) stall(ctx context.Context) {
	c.mu.Lock()
	healed, stalled := c.healed, c.takeLocked(Stall)
	c.mu.Unlock()
	if !stalled {
		return
	}
	select {
	case <-healed:
	case <-ctx.Done():
	}
}

// Quirks are the points that the documents leave open or where servers differ,
// so that a client is tried against each of them.
type Quirks struct {
	FirstRow             uint32 // number of the first row of a view, 0 or 1
	EmptyRowZero         bool   // with FirstRow 1: number 0 is an empty page, not E_INVALIDARG
	NoSFalse             bool   // 0 in place of S_FALSE at the end of a view
	NoClosingRow         bool   // leave out the closing row header
	PageLimit            int    // most rows of one page; 0: as many as asked for
	DocumentDispositions bool   // dispositions of [MS-CSRA]'s note in place of those of real databases
	NoBinaryEqual        bool   // refuse to compare binary columns
	OldSchema            bool   // column numbers of Windows Server 2003
	UpperCaseSerials     bool   // serial numbers in upper-case digits
	UnknownSerialEmpty   bool   // CERTSRV_E_PROPERTY_EMPTY for an unknown serial on revoke, not E_INVALIDARG
	DropAttributes       bool   // keep no attributes with the rows
	ReturnsHResult       bool   // a refusal is the return value too, not only the disposition
}
