package eventid

import (
	"slices"

	"go.uber.org/zap"
)

// Service is an event of the service itself, numbered by us: Microsoft's
// connector keeps 1 to 999 for general events, and those of NDES (1 to 49) are
// among them.
type Service int

// The events of the service.
const (
	Started Service = 100
	Stopped Service = 101
	Failed  Service = 102 // it could not start, or ended by itself
	Warning Service = 110 // a warning without a number of its own
	Error   Service = 111 // an error without a number of its own
	LeftOut Service = 112 // more came than the event log is given
)

// Field is the log field service_event.
func (s Service) Field() zap.Field { return zap.Int("service_event", int(s)) }

// fields are in the order that Fields promises.
var fields = []string{"intune_event", "ndes_event", "service_event"}

// Fields lists the log fields that carry a number. Where a line has several,
// the first of them is its number in the event log of Windows.
func Fields() []string { return slices.Clone(fields) }

// All lists every number, in order: the messages that Windows must know.
func All() []uint32 {
	return []uint32{
		uint32(NoCACertificates), uint32(OwnCertificate), uint32(NotDecodable), uint32(NoInformation), uint32(NotDecrypted),
		uint32(RenewalFailed), uint32(ChallengeRefused), uint32(SubmissionRefused),
		uint32(Started), uint32(Stopped), uint32(Failed), uint32(Warning), uint32(Error), uint32(LeftOut),
		uint32(RevokeRequestSuccess), uint32(RevokeRequestFailure), uint32(RevokeDownloadSuccess), uint32(RevokeDownloadFailure),
		uint32(RevokeDownloadedRequest), uint32(RevokeSuccess), uint32(RevokeFailure), uint32(RevokeFailedAttempt),
		uint32(RevokeUploadSuccess), uint32(RevokeUploadFailure), uint32(RevokeUploadedRequest),
		uint32(RequestNotified), uint32(FailureNotified), uint32(NotNotified), uint32(RequestReceived), uint32(Verified),
		uint32(VerifyFailed), uint32(Issued), uint32(IssueFailed), uint32(Notified), uint32(NotifyFailed), uint32(NotificationStuck),
	}
}
