package adcs

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/certconnector/certconnector/ca"
)

// HRESULTs that decide something here.
const (
	codeAccessDenied    uint32 = 0x80070005
	codeAccessFault     uint32 = 0x00000005
	codeAccessICPR      uint32 = 0x80000009
	codeInvalid         uint32 = 0x80070057
	codeHandle          uint32 = 0x80070006
	codeUnexpected      uint32 = 0x8000FFFF
	codePropertyEmpty   uint32 = 0x80094004
	codeBadStatus       uint32 = 0x80094003
	codeRestricted      uint32 = 0x80094009
	codeRoleConflict    uint32 = 0x80094008
	codeEnrollDenied    uint32 = 0x80094011
	codeRevoked         uint32 = 0x80092010
	codeFalse           uint32 = 1
	dispositionIssued   uint32 = 3
	dispositionOutBand  uint32 = 4
	dispositionPending  uint32 = 5
	dispositionRevoked  uint32 = 6
	dispositionDenied   uint32 = 2
	dispositionError    uint32 = 1
	dispositionNothing  uint32 = 0
	maxDispositionRunes        = 512
)

// accessDenied is E_ACCESSDENIED as return values have it.
const accessDenied int32 = -2147024891

// problem is an error with the CA, the step that failed, and what to do.
type problem struct {
	ca, step string
	kind     error  // ca.ErrUnavailable and its like; nil: none of them
	code     uint32 // HRESULT or RPC status; 0: none
	cause    error
}

// Error implements error.
func (p *problem) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "CA %s: %s", p.ca, p.step)
	if p.kind != nil {
		fmt.Fprintf(&b, ": %v", p.kind)
	}
	if p.cause != nil {
		fmt.Fprintf(&b, ": %v", p.cause)
	}
	if p.code != 0 {
		fmt.Fprintf(&b, ": %s", ca.Advice(int32(p.code)))
	}
	return b.String()
}

// Unwrap gives errors.Is both the kind and the cause.
func (p *problem) Unwrap() []error {
	var list []error
	if p.kind != nil {
		list = append(list, p.kind)
	}
	if p.cause != nil {
		list = append(list, p.cause)
	}
	return list
}

// unreachable is a failure before a call for a certificate or a revocation.
func (c *CA) unreachable(step string, cause error, code uint32) error {
	if p, ok := errors.AsType[*problem](cause); ok {
		return p
	}
	if code == 0 && isNetwork(cause) {
		code = uint32(0x800706BA)
	}
	return &problem{ca: c.name, step: step, kind: ca.ErrUnavailable, code: code, cause: cause}
}

// unknown is a failure after which the CA may have acted.
func (c *CA) unknown(step string, cause error, code uint32) error {
	return &problem{ca: c.name, step: step, kind: ca.ErrOutcomeUnknown, code: code, cause: cause}
}

// codeOf turns an answer of an administration call into an error, nil for
// success; S_FALSE is one.
func (c *CA) codeOf(step string, ret int32) error {
	code := uint32(ret)
	switch {
	case ret >= 0:
		return nil
	case denied(code):
		return &problem{ca: c.name, step: step, kind: ca.ErrForbidden, code: code}
	case ca.IsTransient(ret):
		return &problem{ca: c.name, step: step, kind: ca.ErrUnavailable, code: code}
	}
	return &problem{ca: c.name, step: step, code: code}
}

// answered reads the code of a problem that came from codeOf.
func answered(err error) (uint32, bool) {
	p, ok := errors.AsType[*problem](err)
	if !ok || p.cause != nil {
		return 0, false
	}
	return p.code, true
}

// denied says whether a code means a missing right, in any of its spellings.
func denied(code uint32) bool {
	switch code {
	case codeAccessDenied, codeAccessFault, codeAccessICPR, codeRestricted, codeRoleConflict, codeEnrollDenied:
		return true
	}
	return false
}

// clean makes a text of the CA fit for a log line and the console.
func clean(text string) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	if runes := []rune(text); len(runes) > maxDispositionRunes {
		text = string(runes[:maxDispositionRunes]) + "…"
	}
	return text
}
