package wstep

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/certconnector/certconnector/ca"
)

// fault is a SOAP fault (SOAP 1.2 part 1, section 5.4) with what
// CertificateEnrollmentWSDetail adds ([MS-WSTEP], section 3.1.4.1.3.7).
type fault struct {
	code    string // Sender, Receiver, …
	subcode string // of WS-Security, WS-Addressing or WCF; without prefix
	reason  string // in the service's language
	hresult int32  // 0: none
	invalid bool   // the CA denied the request
	id      string // the CA's request ID, "" when it has none
}

// Error tells what the service said.
func (f *fault) Error() string {
	s := "the service answers with a fault (" + f.code
	if f.subcode != "" {
		s += ", " + f.subcode
	}
	s += "): " + f.reason
	if f.hresult != 0 {
		s += "; " + ca.Advice(f.hresult)
	}
	return s
}

func readFault(e *element) *fault {
	code := e.only(nsSOAP, "Code")
	f := &fault{
		code:    localName(code.only(nsSOAP, "Value").content()),
		subcode: localName(code.path(nsSOAP, "Subcode", "Value").content()),
		reason:  "no reason given",
	}
	// There may be a text for each language; any is better than none.
	if texts := e.only(nsSOAP, "Reason").all(nsSOAP, "Text"); len(texts) > 0 {
		f.reason = plain(texts[0].content())
	}
	detail := e.only(nsSOAP, "Detail").only(nsEnroll, "CertificateEnrollmentWSDetail")
	f.hresult = readHResult(detail.only(nsEnroll, "ErrorCode").content())
	f.invalid = detail.only(nsEnroll, "InvalidRequest").isTrue()
	if id := detail.only(nsEnroll, "RequestID").content(); isRequestID(id) {
		f.id = id
	}
	return f
}

// localName is a qualified name without its prefix, in letters alone.
func localName(qualified string) string {
	_, local, ok := strings.Cut(qualified, ":")
	if !ok {
		local = qualified
	}
	if len(local) > 64 || strings.ContainsFunc(local, func(r rune) bool { return (r|0x20) < 'a' || (r|0x20) > 'z' }) {
		return "?"
	}
	return local
}

// plain makes foreign words fit for a log line: one line, no control
// characters, at most 512 bytes.
func plain(s string) string {
	const most = 512
	s = strings.Join(strings.Fields(s), " ")
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, s)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// readHResult reads xs:int, and the same bits as an unsigned number.
func readHResult(text string) int32 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < -1<<31 || n >= 1<<32 {
		return 0
	}
	return int32(uint32(n & 0xffffffff))
}

// Subcodes that a service answers before it looks at the body.
var (
	aboutCredentials = map[string]bool{
		"FailedAuthentication": true, "InvalidSecurity": true, "InvalidSecurityToken": true, "FailedCheck": true,
		"SecurityTokenUnavailable": true, "UnsupportedSecurityToken": true,
	}
	aboutMessage = map[string]bool{
		"ActionNotSupported": true, "ActionMismatch": true, "DestinationUnreachable": true, "EndpointUnavailable": true,
		"InvalidAddressingHeader": true, "MessageAddressingHeaderRequired": true, "MessageInformationHeaderRequired": true,
		"InvalidMessageInformationHeader": true, "DeserializationFailed": true, "ServerTooBusy": true,
	}
)

// refusesCredentials says that the service did not let us in.
func (f *fault) refusesCredentials() bool { return f.hresult == 0 && aboutCredentials[f.subcode] }

// outcome says what a fault means for the request that met it.
func (f *fault) outcome() error {
	switch {
	case f.refusesCredentials():
		return unavailable(fmt.Errorf("%w: %w: check user, password and rights, and that the clocks differ by less than five minutes", ca.ErrForbidden, f))
	case f.hresult == 0 && f.invalid:
		return &ca.Denied{HResult: ca.HResultFail, Text: f.reason}
	case f.hresult == 0:
		if aboutMessage[f.subcode] || f.code == "MustUnderstand" || f.code == "VersionMismatch" {
			return unavailable(f)
		}
		return unknown(f)
	case surelyNot[f.hresult]:
		return unavailable(f)
	case f.invalid || isDenial(f.hresult):
		return &ca.Denied{HResult: f.hresult, Text: f.words()}
	}
	return unknown(f)
}

// words are the CA's own and what to do about them.
func (f *fault) words() string {
	a, ok := ca.Lookup(f.hresult)
	if !ok {
		return f.reason
	}
	return f.reason + "; " + a.Do
}

func code(hresult uint32) int32 { return int32(hresult) }

// surelyNot are the codes with which the enrolment service did not get its
// request to the CA, or the CA did not take it.
var surelyNot = map[int32]bool{
	code(0x800706BA): true, // RPC_S_SERVER_UNAVAILABLE
	code(0x800706BB): true, // RPC_S_SERVER_TOO_BUSY
	code(0x800706BF): true, // RPC_S_CALL_FAILED_DNE
	code(0x800706D9): true, // EPT_S_NOT_REGISTERED
	code(0x80094006): true, // CERTSRV_E_SERVER_SUSPENDED
	code(0x8009400F): true, // CERTSRV_E_NO_DB_SESSIONS
}

// isDenial says that a code is a decision about the request even where the
// service does not flag it so. E_FAIL and its like may come after the CA has
// issued.
func isDenial(hresult int32) bool {
	switch uint32(hresult) {
	case 0x80004005, 0x80070006, 0x8000FFFF, 0x80010108:
		return false
	}
	a, ok := ca.Lookup(hresult)
	return uint32(hresult)>>12 == 0x80094 || ok && a.Retry == ca.Final
}

// codePropertyEmpty is CERTSRV_E_PROPERTY_EMPTY: an unknown request ID.
const codePropertyEmpty = 0x80094004

// asQuestion turns the error of something that changes nothing at the CA into
// one that says: ask again.
func asQuestion(err error) error {
	if f, ok := errors.AsType[*fault](err); ok {
		err = f.outcome()
	}
	if errors.Is(err, ca.ErrUnavailable) {
		return err
	}
	if _, denied := errors.AsType[*ca.Denied](err); denied {
		return err
	}
	return fmt.Errorf("%w: %v", ca.ErrUnavailable, err)
}
