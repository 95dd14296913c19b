package scep

import "errors"

// Malformed says that bytes are no SCEP message at all, or lack what a CertRep
// has to be built from: a transactionID and a signer. The answer is HTTP 400.
type Malformed struct {
	Detail string // for the log
}

// Error describes what is missing.
func (e *Malformed) Error() string { return "malformed SCEP message: " + e.Detail }

// Refusal says that a message is answered with a signed FAILURE. FailInfo and
// Text may reach the device, Detail may not: of everything from the decryption
// on a stranger must learn nothing but that it failed.
type Refusal struct {
	FailInfo FailInfo
	Text     string
	Detail   string // for the log only
}

// Error returns the text that is fit for the device.
func (e *Refusal) Error() string { return e.FailInfo.String() + ": " + e.Text }

// Result is the refusal as an answer for RA.Reply.
func (e *Refusal) Result() *Result { return Refuse(e.FailInfo, e.Text) }

// ErrNoNextCA is returned by NextCACert while no rollover is staged.
var ErrNoNextCA = errors.New("no next CA certificate is staged")

// maxDetail bounds what one message adds to the log, in octets.
const maxDetail = 200

func malformed(detail string) error { return &Malformed{Detail: detail} }

func refuse(info FailInfo, text string) error {
	return &Refusal{FailInfo: info, Text: text, Detail: text}
}

// unopened is the one refusal of everything that goes wrong in or behind an
// envelope (RFC 8894, section 7.8 and the attacks of Bleichenbacher and
// Vaudenay): FailInfo and Text are always the same.
func unopened(detail string) *Refusal {
	detail = detail[:min(len(detail), maxDetail)] // it may quote what a stranger sent
	return &Refusal{FailInfo: BadMessageCheck, Text: "the message could not be opened", Detail: detail}
}
