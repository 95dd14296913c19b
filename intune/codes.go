package intune

// Code is the verdict of a SCEP action. The names are Microsoft's; none but
// Success lets a certificate out, and none is worth repeating with the same
// request: the device gets a new challenge at its next policy sync.
type Code string

// The documented codes of ScepRequestValidationFEService.
const (
	Unknown                                Code = "Unknown"                                // failure not otherwise classified
	Success                                Code = "Success"                                // valid, or recorded
	CertificateRequestDecodingFailed       Code = "CertificateRequestDecodingFailed"       // not a decodable PKCS #10
	ChallengePasswordMissing               Code = "ChallengePasswordMissing"               // no challengePassword attribute
	ChallengeDeserializationError          Code = "ChallengeDeserializationError"          // decrypted challenge has an unexpected structure
	ChallengeDecryptionError               Code = "ChallengeDecryptionError"               // challenge cannot be decrypted
	ChallengeDecodingError                 Code = "ChallengeDecodingError"                 // challenge text cannot be decoded
	ChallengeInvalidTimestamp              Code = "ChallengeInvalidTimestamp"              // its timestamps are invalid
	ChallengeExpired                       Code = "ChallengeExpired"                       // too old
	SubjectNameMissing                     Code = "SubjectNameMissing"                     // the expected subject is absent
	SubjectNameMismatch                    Code = "SubjectNameMismatch"                    // subject differs from the profile's
	SubjectAltNameMissing                  Code = "SubjectAltNameMissing"                  // the expected SAN is absent
	SubjectAltNameMismatch                 Code = "SubjectAltNameMismatch"                 // SAN differs from the profile's
	KeyUsageMismatch                       Code = "KeyUsageMismatch"                       // key usage differs
	KeyLengthMismatch                      Code = "KeyLengthMismatch"                      // key size differs
	EnhancedKeyUsageMissing                Code = "EnhancedKeyUsageMissing"                // the expected EKU is absent
	EnhancedKeyUsageMismatch               Code = "EnhancedKeyUsageMismatch"               // EKU differs
	AadKeyIdentifierListMissing            Code = "AadKeyIdentifierListMissing"            // the expected Entra key identifier list is absent
	RegisteredKeyMismatch                  Code = "RegisteredKeyMismatch"                  // not the device's registered key
	SigningCertThumbprintMismatch          Code = "SigningCertThumbprintMismatch"          // challenge signed by another certificate
	ScepProfileNoLongerTargetedToTheClient Code = "ScepProfileNoLongerTargetedToTheClient" // the profile was unassigned since
	SignatureValidationFailed              Code = "SignatureValidationFailed"              // challenge signature invalid
	BadCertificateRequestIDInChallenge     Code = "BadCertificateRequestIdInChallenge"     // request ID in the challenge invalid
	BadDeviceIDInChallenge                 Code = "BadDeviceIdInChallenge"                 // device ID in the challenge invalid
	BadUserIDInChallenge                   Code = "BadUserIdInChallenge"                   // user ID in the challenge invalid
)

// Codes lists every documented code, in Microsoft's order. The position is not
// a wire value: numbers are never sent and never accepted.
func Codes() []Code {
	return []Code{
		Unknown, Success, CertificateRequestDecodingFailed, ChallengePasswordMissing,
		ChallengeDeserializationError, ChallengeDecryptionError, ChallengeDecodingError,
		ChallengeInvalidTimestamp, ChallengeExpired, SubjectNameMissing, SubjectNameMismatch,
		SubjectAltNameMissing, SubjectAltNameMismatch, KeyUsageMismatch, KeyLengthMismatch,
		EnhancedKeyUsageMissing, EnhancedKeyUsageMismatch, AadKeyIdentifierListMissing,
		RegisteredKeyMismatch, SigningCertThumbprintMismatch,
		ScepProfileNoLongerTargetedToTheClient, SignatureValidationFailed,
		BadCertificateRequestIDInChallenge, BadDeviceIDInChallenge, BadUserIDInChallenge,
	}
}

// known has the codes by their text.
var known = func() map[string]Code {
	m := map[string]Code{}
	for _, c := range Codes() {
		m[string(c)] = c
	}
	return m
}()
