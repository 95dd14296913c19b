package adcstest

import "fmt"

// HRESULTs that the CA answers ([MS-ERREF], section 2.1).
const (
	SFalse             int32 = 1
	InvalidArgument    int32 = 0x80070057 - 1<<32 // E_INVALIDARG
	AccessDenied       int32 = 0x80070005 - 1<<32 // E_ACCESSDENIED
	InvalidHandle      int32 = 0x80070006 - 1<<32 // E_HANDLE
	InvalidData        int32 = 0x8007000D - 1<<32
	NotImplemented     int32 = 0x80004001 - 1<<32 // E_NOTIMPL
	Unexpected         int32 = 0x8000FFFF - 1<<32 // E_UNEXPECTED
	ClassNotRegistered int32 = 0x80040154 - 1<<32 // REGDB_E_CLASSNOTREG

	BadSignature      int32 = 0x80090006 - 1<<32 // NTE_BAD_SIGNATURE
	BadASN1           int32 = 0x8009310B - 1<<32 // CRYPT_E_ASN1_BADTAG
	BadSubject        int32 = 0x80094001 - 1<<32 // CERTSRV_E_BAD_REQUESTSUBJECT
	BadStatus         int32 = 0x80094003 - 1<<32 // CERTSRV_E_BAD_REQUESTSTATUS
	PropertyEmpty     int32 = 0x80094004 - 1<<32 // CERTSRV_E_PROPERTY_EMPTY
	ServerSuspended   int32 = 0x80094006 - 1<<32 // CERTSRV_E_SERVER_SUSPENDED
	RoleConflict      int32 = 0x80094008 - 1<<32 // CERTSRV_E_ROLECONFLICT
	RestrictedOfficer int32 = 0x80094009 - 1<<32 // CERTSRV_E_RESTRICTEDOFFICER
	EnrollDenied      int32 = 0x80094011 - 1<<32 // CERTSRV_E_ENROLL_DENIED
	TemplateDenied    int32 = 0x80094012 - 1<<32 // CERTSRV_E_TEMPLATE_DENIED
	AdminDenied       int32 = 0x80094014 - 1<<32 // CERTSRV_E_ADMIN_DENIED_REQUEST
	UnknownTemplate   int32 = 0x80094800 - 1<<32 // CERTSRV_E_UNSUPPORTED_CERT_TYPE
	NoTemplate        int32 = 0x80094801 - 1<<32 // CERTSRV_E_NO_CERT_TYPE
	TemplateConflict  int32 = 0x80094802 - 1<<32 // CERTSRV_E_TEMPLATE_CONFLICT
	KeyLength         int32 = 0x80094811 - 1<<32 // CERTSRV_E_KEY_LENGTH
)

// Dispositions of an Outcome ([MS-WCCE], section 3.2.1.4.2.1.4.6).
const (
	DispositionFailed          uint32 = 1
	DispositionDenied          uint32 = 2
	DispositionIssued          uint32 = 3
	DispositionUnderSubmission uint32 = 5
	DispositionRevoked         uint32 = 6
)

var hresultTexts = map[int32]string{
	BadSignature:     "Invalid Signature. 0x80090006 (-2146893818 NTE_BAD_SIGNATURE)",
	BadASN1:          "ASN1 bad tag value met. 0x8009310b (ASN: 267 CRYPT_E_ASN1_BADTAG)",
	BadSubject:       "The request subject name is invalid or too long. 0x80094001 (-2146877439 CERTSRV_E_BAD_REQUESTSUBJECT)",
	EnrollDenied:     "The permissions on this certification authority do not allow the current user to enroll for certificates. 0x80094011 (-2146877423 CERTSRV_E_ENROLL_DENIED)",
	TemplateDenied:   "The permissions on the certificate template do not allow the current user to enroll for this type of certificate. 0x80094012 (-2146877422 CERTSRV_E_TEMPLATE_DENIED)",
	AdminDenied:      "The request was denied by a certificate manager or CA administrator. 0x80094014 (-2146877420 CERTSRV_E_ADMIN_DENIED_REQUEST)",
	UnknownTemplate:  "The requested certificate template is not supported by this CA. 0x80094800 (-2146875392 CERTSRV_E_UNSUPPORTED_CERT_TYPE)",
	NoTemplate:       "The request contains no certificate template information. 0x80094801 (-2146875391 CERTSRV_E_NO_CERT_TYPE)",
	TemplateConflict: "The request contains conflicting template information. 0x80094802 (-2146875390 CERTSRV_E_TEMPLATE_CONFLICT)",
	KeyLength:        "The public key does not meet the minimum size required by the specified certificate template. 0x80094811 (-2146875375 CERTSRV_E_KEY_LENGTH)",
}

// message is the CA's words for a code.
func message(code int32) string {
	if m, ok := hresultTexts[code]; ok {
		return m
	}
	return fmt.Sprintf("The request failed. 0x%08x", uint32(code))
}
