package ca

import (
	"errors"
	"fmt"
)

var (
	// ErrUnavailable says that the request surely did not reach the CA.
	ErrUnavailable = errors.New("certificate authority unavailable")
	// ErrOutcomeUnknown says that the request may have been carried out.
	ErrOutcomeUnknown = errors.New("outcome at the certificate authority unknown")
	// ErrNotFound says that the CA knows no such certificate or request.
	ErrNotFound = errors.New("not found at the certificate authority")
	// ErrForbidden says that the connector lacks a right at the CA.
	ErrForbidden = errors.New("not permitted by the certificate authority")
)

// Pending is the error of a request that the CA parked for a decision.
type Pending struct {
	RequestID string
}

// Error names the request ID.
func (p *Pending) Error() string {
	return fmt.Sprintf("request %s is pending at the certificate authority", p.RequestID)
}

// HRESULTs of refusals, as [MS-ERREF] and the cloud's failure notification
// know them.
const (
	HResultFail            int32 = -2147467259 // E_FAIL, 0x80004005
	HResultUnexpected      int32 = -2147418113 // E_UNEXPECTED, 0x8000FFFF
	HResultUnavailable     int32 = -2147023174 // RPC_S_SERVER_UNAVAILABLE, 0x800706BA
	HResultAdminDenied     int32 = -2146877420 // CERTSRV_E_ADMIN_DENIED_REQUEST, 0x80094014
	HResultTemplateDenied  int32 = -2146877422 // CERTSRV_E_TEMPLATE_DENIED, 0x80094012
	HResultUnknownTemplate int32 = -2146875392 // CERTSRV_E_UNSUPPORTED_CERT_TYPE, 0x80094800
)

// Denied is the error of a request that the CA refused for good.
type Denied struct {
	HResult int32  // the CA's own code, HResultFail when it gives none
	Text    string // its words, for the log and the console
}

// Error names code and text.
func (d *Denied) Error() string {
	return fmt.Sprintf("certificate authority denied the request: %s (0x%08X)", d.Text, uint32(d.HResult))
}
