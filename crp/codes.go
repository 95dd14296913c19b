package crp

import (
	"github.com/certconnector/certconnector/intune"
	"github.com/certconnector/certconnector/policymodule"
)

// Rules of the registration point itself.
const (
	RuleChallengeMissing policymodule.Reason = "intune_challenge_missing"
	RuleChallengeTooLong policymodule.Reason = "intune_challenge_too_long"
	RuleUnknown          policymodule.Reason = "intune_unknown"
)

// meaning is what a code of Intune is called here, and what a device is told.
type meaning struct {
	rule policymodule.Reason
	info policymodule.FailInfo
}

// meanings has every documented code but Success. Which failInfo fits is our
// choice: Microsoft documents none.
var meanings = map[intune.Code]meaning{
	intune.Unknown:                                {RuleUnknown, policymodule.BadRequest},
	intune.CertificateRequestDecodingFailed:       {"intune_request_decoding", policymodule.BadRequest},
	intune.ChallengePasswordMissing:               {RuleChallengeMissing, policymodule.BadRequest},
	intune.ChallengeDeserializationError:          {"intune_challenge_deserialization", policymodule.BadMessageCheck},
	intune.ChallengeDecryptionError:               {"intune_challenge_decryption", policymodule.BadMessageCheck},
	intune.ChallengeDecodingError:                 {"intune_challenge_decoding", policymodule.BadMessageCheck},
	intune.ChallengeInvalidTimestamp:              {"intune_challenge_timestamp", policymodule.BadTime},
	intune.ChallengeExpired:                       {"intune_challenge_expired", policymodule.BadTime},
	intune.SubjectNameMissing:                     {"intune_subject_missing", policymodule.BadRequest},
	intune.SubjectNameMismatch:                    {"intune_subject_mismatch", policymodule.BadRequest},
	intune.SubjectAltNameMissing:                  {"intune_san_missing", policymodule.BadRequest},
	intune.SubjectAltNameMismatch:                 {"intune_san_mismatch", policymodule.BadRequest},
	intune.KeyUsageMismatch:                       {"intune_key_usage_mismatch", policymodule.BadRequest},
	intune.KeyLengthMismatch:                      {"intune_key_length_mismatch", policymodule.BadAlg},
	intune.EnhancedKeyUsageMissing:                {"intune_eku_missing", policymodule.BadRequest},
	intune.EnhancedKeyUsageMismatch:               {"intune_eku_mismatch", policymodule.BadRequest},
	intune.AadKeyIdentifierListMissing:            {"intune_key_list_missing", policymodule.BadRequest},
	intune.RegisteredKeyMismatch:                  {"intune_registered_key_mismatch", policymodule.BadRequest},
	intune.SigningCertThumbprintMismatch:          {"intune_challenge_signer", policymodule.BadMessageCheck},
	intune.ScepProfileNoLongerTargetedToTheClient: {"intune_profile_not_targeted", policymodule.BadRequest},
	intune.SignatureValidationFailed:              {"intune_challenge_signature", policymodule.BadMessageCheck},
	intune.BadCertificateRequestIDInChallenge:     {"intune_challenge_request_id", policymodule.BadRequest},
	intune.BadDeviceIDInChallenge:                 {"intune_challenge_device_id", policymodule.BadRequest},
	intune.BadUserIDInChallenge:                   {"intune_challenge_user_id", policymodule.BadRequest},
}

// refusal translates Intune's verdict. A code that is not documented is
// refused under one name, for names must be few; its text is in the detail.
func refusal(e *intune.ScepError) policymodule.Decision {
	m, ok := meanings[e.Code]
	if !ok {
		m = meanings[intune.Unknown]
	}
	return policymodule.Refuse(m.rule, m.info, e.Error())
}
