package intune

import (
	"context"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// The actions of the SCEP service.
const (
	actionValidate = "ScepActions/validateRequest"
	actionSuccess  = "ScepActions/successNotification"
	actionFailure  = "ScepActions/failureNotification"
)

// maxDescription is how many characters of an error description Intune takes.
const maxDescription = 255

// ValidateRequest asks whether a device's request may have a certificate.
type ValidateRequest struct {
	TransactionID string // the same in the notification
	CSR           []byte // DER, as the device signed it, with its challenge
}

// SuccessNotification tells that a certificate was issued. The certificate
// must not be given to the device before Intune has taken the notification.
type SuccessNotification struct {
	TransactionID string
	CSR           []byte // the DER that was validated
	Certificate   *x509.Certificate

	// IssuingCA is the CA's short, stable name, at most 256 characters: it
	// comes back as the issuer of revocation requests, and full
	// distinguished names were seen to break their filter.
	IssuingCA string
}

// FailureNotification tells that no certificate was issued for a validated
// request, and that none will be. It is not meant for failures of
// Validate or NotifySuccess themselves.
type FailureNotification struct {
	TransactionID string
	CSR           []byte
	HResult       int32  // [MS-ERREF]; shown to administrators
	Description   string // not blank; cut to 255 characters; no secrets
}

// The bodies on the wire.
type (
	validateBody struct {
		Request validateFields `json:"request"`
	}
	validateFields struct {
		TransactionID      string `json:"transactionId"`
		CertificateRequest string `json:"certificateRequest"`
		CallerInfo         string `json:"callerInfo"`
	}
	successBody struct {
		Notification successFields `json:"notification"`
	}
	successFields struct {
		TransactionID                string `json:"transactionId"`
		CertificateRequest           string `json:"certificateRequest"`
		CertificateThumbprint        string `json:"certificateThumbprint"`
		CertificateSerialNumber      string `json:"certificateSerialNumber"`
		CertificateExpirationDateUTC string `json:"certificateExpirationDateUtc"`
		IssuingCertificateAuthority  string `json:"issuingCertificateAuthority"`
		CallerInfo                   string `json:"callerInfo"`
		CAConfiguration              string `json:"caConfiguration"`
		CertificateAuthority         string `json:"certificateAuthority"`
	}
	failureBody struct {
		Notification failureFields `json:"notification"`
	}
	failureFields struct {
		TransactionID      string `json:"transactionId"`
		CertificateRequest string `json:"certificateRequest"`
		HResult            int32  `json:"hResult"`
		ErrorDescription   string `json:"errorDescription"`
		CallerInfo         string `json:"callerInfo"`
	}
)

// Validate asks whether a request may have a certificate: nil says yes, a
// *ScepError says no, and any other error that nobody could be asked.
func (c *Client) Validate(ctx context.Context, r ValidateRequest) error {
	if err := require("transaction ID", r.TransactionID, "certificate request", string(r.CSR)); err != nil {
		return err
	}
	return c.act(ctx, actionValidate, r.TransactionID, r.CSR, validateBody{validateFields{
		TransactionID:      r.TransactionID,
		CertificateRequest: base64.StdEncoding.EncodeToString(r.CSR),
		CallerInfo:         c.config.Provider,
	}})
}

// NotifySuccess reports a certificate. nil says that Intune has taken the
// report; Final tells whether another error is its last word.
func (c *Client) NotifySuccess(ctx context.Context, n SuccessNotification) error {
	if err := require("transaction ID", n.TransactionID, "certificate request", string(n.CSR), "issuing CA", n.IssuingCA); err != nil {
		return err
	}
	if n.Certificate == nil {
		return fmt.Errorf("%w: the certificate is missing", ErrArgument)
	}
	if len([]rune(n.IssuingCA)) > 256 {
		return fmt.Errorf("%w: the name of the issuing CA has more than 256 characters", ErrArgument)
	}
	thumbprint := sha1.Sum(n.Certificate.Raw) // a name, not a protection: Intune asks for SHA-1
	return c.act(ctx, actionSuccess, n.TransactionID, n.CSR, successBody{successFields{
		TransactionID:                n.TransactionID,
		CertificateRequest:           base64.StdEncoding.EncodeToString(n.CSR),
		CertificateThumbprint:        strings.ToUpper(hex.EncodeToString(thumbprint[:])),
		CertificateSerialNumber:      serialText(n.Certificate),
		CertificateExpirationDateUTC: n.Certificate.NotAfter.UTC().Format("2006-01-02T15:04:05.000Z"),
		IssuingCertificateAuthority:  n.IssuingCA,
		CallerInfo:                   c.config.Provider,
		CAConfiguration:              n.IssuingCA,
		CertificateAuthority:         n.IssuingCA,
	}})
}

// NotifyFailure reports that no certificate was issued. Errors are those of
// NotifySuccess.
func (c *Client) NotifyFailure(ctx context.Context, n FailureNotification) error {
	if err := require("transaction ID", n.TransactionID, "certificate request", string(n.CSR), "error description", n.Description); err != nil {
		return err
	}
	return c.act(ctx, actionFailure, n.TransactionID, n.CSR, failureBody{failureFields{
		TransactionID:      n.TransactionID,
		CertificateRequest: base64.StdEncoding.EncodeToString(n.CSR),
		HResult:            n.HResult,
		ErrorDescription:   truncate(n.Description, maxDescription),
		CallerInfo:         c.config.Provider,
	}})
}

// serialText is a serial number as Intune keeps it and sends it back for a
// revocation: upper-case hexadecimal of even length.
func serialText(cert *x509.Certificate) string {
	b := cert.SerialNumber.Bytes()
	if len(b) == 0 {
		b = []byte{0}
	}
	return strings.ToUpper(hex.EncodeToString(b))
}

// require takes pairs of a name and a value that must not be blank.
func require(pairs ...string) error {
	for i := 0; i+1 < len(pairs); i += 2 {
		if strings.TrimSpace(pairs[i+1]) == "" {
			return fmt.Errorf("%w: the %s is missing", ErrArgument, pairs[i])
		}
	}
	return nil
}

// act sends an action of the SCEP service and reads its verdict.
func (c *Client) act(ctx context.Context, suffix, transaction string, csr []byte, content any) error {
	body, err := json.Marshal(content)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrArgument, err)
	}
	call := suffixName(suffix)
	p := post{
		call: call, service: serviceSCEP, suffix: suffix, version: c.config.Endpoints.SCEPVersion,
		transaction: transaction, body: body, attempts: 3, on500: 3, timeout: c.config.Timeouts.Notify,
		secrets: []string{base64.StdEncoding.EncodeToString(csr)},
	}
	if suffix == actionValidate {
		// A device waits for this one, and Intune was seen to answer 500 for minutes.
		p.on500, p.timeout = 1, c.config.Timeouts.Validate
	}
	answer, activity, err := c.post(ctx, p)
	if err != nil {
		return err
	}
	raw, description, err := parseVerdict(answer)
	if err != nil {
		return &ProtocolError{Call: call, Detail: err.Error(), ActivityID: activity}
	}
	if raw == string(Success) {
		return nil
	}
	e := &ScepError{
		Code: known[raw], RawCode: truncate(clean(raw, c.secrets()...), 64), Description: clean(description, c.secrets()...),
		TransactionID: transaction, ActivityID: activity,
	}
	if e.Code == "" {
		e.Code = Unknown
	}
	return e
}

// parseVerdict reads the answer of a SCEP action. The code must be a text: a
// number that happens to stand for Success in some enumeration is none.
func parseVerdict(body []byte) (code, description string, err error) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(body, &fields) != nil || fields == nil {
		return "", "", errors.New("it is not a JSON object")
	}
	if json.Unmarshal(fields["code"], &code) != nil || code == "" {
		return "", "", errors.New("it has no code, or one that is not a text")
	}
	_ = json.Unmarshal(fields["errorDescription"], &description) // may be missing
	return code, description, nil
}
