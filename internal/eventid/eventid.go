// Package eventid numbers log lines as Microsoft's products number their
// events, so that runbooks and alerts made for those carry over. The words are
// our own; docs/events.md has the table.
package eventid

import "go.uber.org/zap"

// Intune is an event of the Certificate Connector for
// Microsoft Intune (Microsoft Learn, "Event IDs and descriptions for the
// Certificate Connector for Microsoft Intune").
type Intune int

// The events 3000 to 3102 about revocations, which Microsoft names so. There
// is none for a source other than Intune's own.
const (
	RevokeRequestSuccess    Intune = 3000 // the request is done, the certificate revoked
	RevokeRequestFailure    Intune = 3001 // the request is done, the certificate not revoked
	RevokeDownloadSuccess   Intune = 3002 // Intune was asked
	RevokeDownloadFailure   Intune = 3003 // Intune could not be asked
	RevokeDownloadedRequest Intune = 3020 // one request that came
	RevokeSuccess           Intune = 3050 // the CA has revoked
	RevokeFailure           Intune = 3051 // the CA will not revoke
	RevokeFailedAttempt     Intune = 3052 // the CA has not revoked, and is asked again
	RevokeUploadSuccess     Intune = 3100 // Intune took the results
	RevokeUploadFailure     Intune = 3101 // Intune did not take them
	RevokeUploadedRequest   Intune = 3102 // the result of one request
)

// The events 4000 to 4010 about SCEP requests.
const (
	RequestNotified   Intune = 4000 // processed, and Intune was told
	FailureNotified   Intune = 4001 // failed, and Intune was told
	NotNotified       Intune = 4002 // processed, but Intune will not be told
	RequestReceived   Intune = 4003
	Verified          Intune = 4004
	VerifyFailed      Intune = 4005
	Issued            Intune = 4006
	IssueFailed       Intune = 4007
	Notified          Intune = 4008
	NotifyFailed      Intune = 4009 // it is tried again
	NotificationStuck Intune = 4010 // what became of it could not be saved
)

// Field is the log field intune_event.
func (i Intune) Field() zap.Field { return zap.Int("intune_event", int(i)) }

// NDES is an event of Microsoft-Windows-NetworkDeviceEnrollmentService. Ours
// is the nearest one there is.
type NDES int

// The events that lines of ours come near to.
const (
	NoCACertificates  NDES = 7  // GetCACert could not be answered
	OwnCertificate    NDES = 10 // a certificate of the service itself cannot be used
	NotDecodable      NDES = 16 // no message could be decoded from the request
	NoInformation     NDES = 17 // transactionID, messageType or signer cannot be read
	NotDecrypted      NDES = 18 // the envelope cannot be opened
	RenewalFailed     NDES = 28
	ChallengeRefused  NDES = 29
	SubmissionRefused NDES = 31 // the CA refused, or could not be reached
)

// Field is the log field ndes_event.
func (n NDES) Field() zap.Field { return zap.Int("ndes_event", int(n)) }
