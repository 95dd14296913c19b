package ca

import "fmt"

// Retry says what a code of a Microsoft CA means for the same request.
type Retry int

const (
	// Final means that the same request fails again until somebody changes
	// something.
	Final Retry = iota
	// Later means that the same request may succeed later by itself.
	Later
)

// Advised is what is known about one HRESULT of a Microsoft CA or of the road
// to it: its name in the field, whether to try again, and what the operator
// should do.
type Advised struct {
	Name  string
	Retry Retry
	Do    string
}

// Advice returns what the operator should do about a code, in one sentence
// with the code and its name. It knows the codes of [MS-WCCE], [MS-CSRA],
// [MS-ERREF] and of RPC faults; for others it names the code alone.
func Advice(hresult int32) string {
	a, ok := Lookup(hresult)
	if !ok {
		return fmt.Sprintf("0x%08X: no advice is known for this code; look it up with certutil -error 0x%08X", uint32(hresult), uint32(hresult))
	}
	return fmt.Sprintf("0x%08X (%s): %s", uint32(hresult), a.Name, a.Do)
}

// Lookup finds a code in the table behind Advice.
func Lookup(hresult int32) (Advised, bool) {
	a, ok := advice[uint32(hresult)]
	return a, ok
}

// IsTransient reports whether a code means "later" rather than "no".
func IsTransient(hresult int32) bool {
	a, ok := Lookup(hresult)
	return ok && a.Retry == Later
}

const (
	doAccess = "the call was refused: the account lacks a right at the CA (Request Certificates to enrol, Issue and Manage Certificates to revoke, Read to search), " +
		"is not in the group Certificate Service DCOM Access, or the CA takes no remote administration"
	doSignIn    = "signing in failed: check password or keytab, the service principal name host/<fqdn of the CA>, the clocks (5 minutes), and whether NTLM is blocked"
	doSubject   = "the template builds the subject from the directory: set it to Supply in the request"
	doSignature = "the template wants an authorised signature: configure an enrollment agent certificate, or take the requirement from the template"
	doRevoked   = "the CA cannot validate its own chain or the signer: renew the certificate named in its event log, or publish the revocation lists of its issuers"
)

// advice is keyed by the code as the documents print it.
var advice = map[uint32]Advised{
	0x00000005: {"access denied (RPC fault)", Final, doAccess},
	0x000006F7: {"RPC_X_BAD_STUB_DATA (RPC fault)", Final, "the CA could not read the call, or does not know it: check that the host is a CA of Windows Server 2012 or later"},
	0x1C010002: {"nca_s_op_rng_error (RPC fault)", Final, "the CA does not know the call: check that the host is a CA of Windows Server 2012 or later"},
	0x1C010003: {"nca_s_unk_if (RPC fault)", Later, "nothing answers for this interface there: CertSvc is stopped, or restarted on another port; the next call asks again"},
	0x80000009: {"E_ACCESSDENIED as [MS-ICPR] prints it", Final, doAccess},
	0x80070005: {"E_ACCESSDENIED", Final, doAccess},
	0x80004005: {"E_FAIL", Final, "the CA names no reason: look into its event log and its list of failed requests"},
	0x80070006: {"E_HANDLE", Final, "no view of the database is open on this object: the search begins again by itself"},
	0x8000FFFF: {"E_UNEXPECTED", Final, "the CA met an unexpected state (on a search: a view is open already); it begins again by itself, else restart the service CertSvc"},
	0x8007000D: {"ERROR_INVALID_DATA", Final, "the certificate is not on hold, or it is revoked for good and cannot be put on hold"},
	0x80070057: {"E_INVALIDARG", Final, "check the name of the CA in the configuration (its common name after host\\), then the serial number"},
	0x80070490: {"ERROR_NOT_FOUND", Final, "the CA does not find what was named: check CA name and template"},
	0x80040154: {"REGDB_E_CLASSNOTREG", Final, "this host is no CA, or the role is being installed: check the host in the configuration"},
	0x80010108: {"RPC_E_DISCONNECTED", Later, "the CA let go of our object, as after a restart of CertSvc: the next call asks for a new one"},
	0x800706BA: {"RPC_S_SERVER_UNAVAILABLE", Later, "check the host name, that CertSvc runs, and that TCP 135 and the CA's ports (49152 to 65535 or its static one) are open"},
	0x800706BB: {"RPC_S_SERVER_TOO_BUSY", Later, "the CA is busy: wait, or lower the number of connections"},
	0x800706D9: {"EPT_S_NOT_REGISTERED", Later, "CertSvc is stopped or takes no plain RPC: start it, or issue over dcom"},
	0x800706D3: {"RPC_S_UNKNOWN_AUTHN_SERVICE", Final, doSignIn},
	0x8009030C: {"SEC_E_LOGON_DENIED", Final, doSignIn},
	0x80090322: {"SEC_E_WRONG_PRINCIPAL", Final, doSignIn},
	0x80090005: {"NTE_BAD_DATA", Final, "the request does not decode at the CA: the device sent a broken certification request"},
	0x8009310B: {"CRYPT_E_ASN1_BADTAG", Final, "the request does not decode at the CA: the device sent a broken certification request"},
	0x80092010: {"CRYPT_E_REVOKED", Final, "the certificate was revoked at the CA already: the device has to enrol anew"},
	0x80092012: {"CRYPT_E_NO_REVOCATION_CHECK", Final, doRevoked},
	0x80092013: {"CRYPT_E_REVOCATION_OFFLINE", Final, doRevoked},
	0x800B0101: {"CERT_E_EXPIRED", Final, doRevoked},
	0x800B0109: {"CERT_E_UNTRUSTEDROOT", Final, doRevoked},

	0x80094001: {"CERTSRV_E_BAD_REQUESTSUBJECT", Final, "the subject is empty or malformed: check the profile's subject name format"},
	0x80094003: {"CERTSRV_E_BAD_REQUESTSTATUS", Final, "the request was decided before: it can be neither approved nor denied again"},
	0x80094004: {"CERTSRV_E_PROPERTY_EMPTY", Final, "the CA knows no such request or serial number, or the property has no value"},
	0x80094005: {"CERTSRV_E_INVALID_CA_CERTIFICATE", Final, "the CA's own certificate is expired or unusable: renew it"},
	0x80094006: {"CERTSRV_E_SERVER_SUSPENDED", Later, "the CA is suspended, as during a backup: wait until it ends"},
	0x80094008: {"CERTSRV_E_ROLECONFLICT", Final, "role separation is on and the account has two roles: take one away"},
	0x80094009: {"CERTSRV_E_RESTRICTEDOFFICER", Final, "the certificate manager restrictions exclude this template or subject: add it to what this account manages"},
	0x8009400F: {"CERTSRV_E_NO_DB_SESSIONS", Later, "the CA's database sessions are used up: wait, or lower the number of connections"},
	0x80094011: {"CERTSRV_E_ENROLL_DENIED", Final, "grant the account Request Certificates on the Security tab of the CA"},
	0x80094012: {"CERTSRV_E_TEMPLATE_DENIED", Final, "grant the account Read and Enroll on the template, then wait for the directory's replication"},
	0x80094014: {"CERTSRV_E_ADMIN_DENIED_REQUEST", Final, "a person at the CA denied the request"},
	0x80094016: {"CERTSRV_E_WEAK_SIGNATURE_OR_KEY", Final, "key or hash are weaker than the CA's policy: raise the key size or the hash of the profile"},
	0x80094800: {"CERTSRV_E_UNSUPPORTED_CERT_TYPE", Final, "publish the template on this CA, and configure its name, not its display name"},
	0x80094801: {"CERTSRV_E_NO_CERT_TYPE", Final, "name a template at the endpoint: an enterprise CA issues nothing without one"},
	0x80094802: {"CERTSRV_E_TEMPLATE_CONFLICT", Final, "the request names another template than the endpoint: take the template extension from the profile"},
	0x80094803: {"CERTSRV_E_SUBJECT_ALT_NAME_REQUIRED", Final, doSubject},
	0x80094807: {"CERTSRV_E_TEMPLATE_POLICY_VERSION", Final, "the template's version is newer than this CA can issue: lower its compatibility settings"},
	0x80094808: {"CERTSRV_E_SIGNATURE_POLICY_REQUIRED", Final, doSignature},
	0x80094809: {"CERTSRV_E_SIGNATURE_COUNT", Final, doSignature},
	0x8009480A: {"CERTSRV_E_SIGNATURE_REJECTED", Final, doSignature},
	0x8009480B: {"CERTSRV_E_ISSUANCE_POLICY_REQUIRED", Final, doSignature},
	0x8009480D: {"CERTSRV_E_SUBJECT_UPN_REQUIRED", Final, doSubject},
	0x8009480E: {"CERTSRV_E_SUBJECT_DIRECTORY_GUID_REQUIRED", Final, doSubject},
	0x8009480F: {"CERTSRV_E_SUBJECT_DNS_REQUIRED", Final, doSubject},
	0x80094811: {"CERTSRV_E_KEY_LENGTH", Final, "the key is smaller than the template's minimum: raise the key size of the profile"},
	0x80094812: {"CERTSRV_E_SUBJECT_EMAIL_REQUIRED", Final, doSubject},
}
