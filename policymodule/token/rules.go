package token

import "github.com/certconnector/certconnector/policymodule"

// Rules of this module. The device is told badRequest, whichever it was.
const (
	RuleMissing   policymodule.Reason = "token_missing"         // no challenge, and no certificate of ours that vouches
	RuleRenewal   policymodule.Reason = "token_renewal_refused" // a renewal without a challenge where that is off
	RuleMalformed policymodule.Reason = "token_malformed"       // not base64, too long, or no message of the format
	RuleNotOpened policymodule.Reason = "token_not_opened"      // sealed for another key, or changed
	RuleSigner    policymodule.Reason = "token_signer_unknown"  // signed by none of the configured certificates
	RuleExpiredBy policymodule.Reason = "token_signer_expired"  // the signer's certificate is not valid now
	RuleSignature policymodule.Reason = "token_signature"       // the signature is wrong or its algorithm too weak
	RuleClaims    policymodule.Reason = "token_claims"          // the claims cannot be read, or are no challenge's

	RuleEndpoint    policymodule.Reason = "token_endpoint"      // made for another endpoint
	RuleLifetime    policymodule.Reason = "token_lifetime"      // lives longer than allowed
	RuleExpired     policymodule.Reason = "token_expired"       // not_after has passed
	RuleNotYetValid policymodule.Reason = "token_not_yet_valid" // not_before has not come
	RuleRights      policymodule.Reason = "token_rights"        // the signer may not vouch for this
	RuleSubject     policymodule.Reason = "token_subject"       // the request has another subject
	RuleSAN         policymodule.Reason = "token_san"           // the request has other alternative names
	RuleKeyUsage    policymodule.Reason = "token_key_usage"     // the request asks for another key usage, or for none
	RuleExtKeyUsage policymodule.Reason = "token_eku"           // the request asks for another extended key usage, or for none
	RuleKey         policymodule.Reason = "token_key"           // another type of key, or too short
	RuleHash        policymodule.Reason = "token_hash"          // the request is signed over a weaker hash
	RuleTemplate    policymodule.Reason = "token_template"      // the request leads to another template
)

func refuse(rule policymodule.Reason, detail string) policymodule.Decision {
	return policymodule.Refuse(rule, policymodule.BadRequest, detail)
}
