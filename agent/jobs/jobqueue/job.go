package jobqueue

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The kinds of job. Both make a key and have it certified.
const (
	// KindPFX hands both over in the result: as PKCS #12, sealed to a recipient.
	KindPFX = "pfx"
	// KindImportedPFX writes them to Microsoft Graph as an imported PFX
	// certificate of the user that the only "upn:" among the names means.
	KindImportedPFX = "importedPfx"
)

// Limits of one job. What is beyond is answered with DataSerializationError.
const (
	mostContext  = 512 // octets of a requestContext
	mostText     = 1024
	mostSubject  = 4096
	mostSANs     = 64
	mostUsages   = 32
	mostElements = 500 // of one download
	mostValidity = 100 * 366 * 24 * 60 * 60
)

// Job is what is asked for, in the words of the interface. Its JSON is that of
// the interface too. Nothing in it is trusted: what a source may ask for is
// for the handler to know.
type Job struct {
	// Context is the queue's handle of the job, 1 to 512 octets without
	// control characters. It comes back in the result.
	Context string `json:"requestContext"`
	// Kind is KindPFX or KindImportedPFX.
	Kind string `json:"kind"`
	// Subject is a name as RFC 4514 writes it, "CN=ann,O=Corp"; "": none.
	Subject string `json:"subject,omitempty"`
	// SANs are alternative names with their kind before them: "dns:", "email:",
	// "upn:", "uri:" or "ip:".
	SANs []string `json:"sans,omitempty"`
	// KeyUsage are names of RFC 5280, section 4.2.1.3; empty: as the CA's template says.
	KeyUsage []string `json:"keyUsage,omitempty"`
	// EKUs are names as clientAuth, or object identifiers.
	EKUs []string `json:"ekus,omitempty"`
	// Key says which key is made.
	Key Key `json:"key,omitzero"`
	// ValiditySeconds is the wished life; 0: as the CA's template says.
	ValiditySeconds int64 `json:"validitySeconds,omitempty"`
	// CAConfiguration is the name of the CA that is meant; "": whatever the source has.
	CAConfiguration string `json:"caConfiguration,omitempty"`
	// Recipient is the SHA-256 of the certificate that the result is sealed to,
	// in hexadecimal. The certificate itself never comes with a job.
	Recipient string `json:"recipient,omitempty"`
}

// Key describes a key that is to be made.
type Key struct {
	// Type is rsa2048, rsa3072, rsa4096, p256 or p384; "": rsa2048.
	Type string `json:"type,omitempty"`
}

// Bad is an element of a download that is no job.
type Bad struct {
	Context string // "" when not even that could be read: nobody can be answered
	Reason  string
}

// Batch is one download.
type Batch struct {
	Jobs []Job
	Bad  []Bad
}

// Result is what became of a job.
type Result struct {
	Context   string
	Succeeded bool
	Code      Code   // None when it succeeded
	Message   string // for people

	// One of them, of a success.
	Sealed   []byte // CMS EnvelopedData in DER
	Imported string // SHA-1 of the certificate that was imported, hexadecimal
}

// Code is an error code. Numbers and names are those of Microsoft's revocation
// API for third-party CAs, so that one table serves both.
type Code int

// The codes. From RetryableServiceException on the queue offers the job again.
const (
	None                        Code = 0
	NonRetryableServiceError    Code = 4000
	DataSerializationError      Code = 4001
	ParameterDataInvalidError   Code = 4002
	CryptographyError           Code = 4003
	CertificateNotFoundError    Code = 4004
	ConflictError               Code = 4005
	NotSupportedError           Code = 4006
	PayloadTooLargeError        Code = 4007
	RetryableServiceException   Code = 4100
	ServiceUnavailableException Code = 4101
	ServiceTooBusyException     Code = 4102
	AuthenticationException     Code = 4103
)

var codeNames = map[Code]string{
	None: "None", NonRetryableServiceError: "NonRetryableServiceException", DataSerializationError: "DataSerializationError",
	ParameterDataInvalidError: "ParameterDataInvalidError", CryptographyError: "CryptographyError",
	CertificateNotFoundError: "CertificateNotFoundError", ConflictError: "ConflictError", NotSupportedError: "NotSupportedError",
	PayloadTooLargeError: "PayloadTooLargeError", RetryableServiceException: "RetryableServiceException",
	ServiceUnavailableException: "ServiceUnavailableException", ServiceTooBusyException: "ServiceTooBusyException",
	AuthenticationException: "AuthenticationException",
}

// String returns the name that is sent.
func (c Code) String() string {
	if name, ok := codeNames[c]; ok {
		return name
	}
	return codeNames[NonRetryableServiceError]
}

// Retryable reports whether the queue offers the job again after this code.
func (c Code) Retryable() bool { return c >= RetryableServiceException }

// readBatch reads the answer to a download: the frame must be right, an element
// may be wrong and is then set aside. Members that are not known are passed over.
func readBatch(body []byte, most int) (Batch, error) {
	var frame struct {
		Value *[]json.RawMessage `json:"value"`
	}
	if err := json.Unmarshal(body, &frame); err != nil || frame.Value == nil {
		return Batch{}, errors.New("the job queue's answer has no list of jobs; are both sides of the same version?")
	}
	if n := len(*frame.Value); n > mostElements || most > 0 && n > most {
		return Batch{}, fmt.Errorf("the job queue answered with %d jobs, more than were asked for", n)
	}
	var b Batch
	seen := make(map[string]bool)
	for _, raw := range *frame.Value {
		j, err := ReadJob(raw)
		switch {
		case err != nil:
			b.Bad = append(b.Bad, Bad{Context: contextOf(raw), Reason: err.Error()})
		case seen[j.Context]:
			// The first one counts: nobody can be told two things of one context.
			b.Bad = append(b.Bad, Bad{Reason: "the requestContext comes twice in one answer"})
		default:
			b.Jobs = append(b.Jobs, j)
		}
		seen[j.Context] = true
	}
	return b, nil
}

// ReadJob reads and normalizes one job. The errors name the member that is
// wrong, never its value.
func ReadJob(raw []byte) (Job, error) {
	var j Job
	if !bytes.HasPrefix(bytes.TrimLeft(raw, " \t\r\n"), []byte("{")) {
		return Job{}, errors.New("the job is no JSON object")
	}
	if err := json.Unmarshal(raw, &j); err != nil {
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return Job{}, fmt.Errorf("member %s is of a wrong type", wrong.Field)
		}
		return Job{}, errors.New("the job cannot be read")
	}
	if !sound(j.Context, mostContext) || j.Context == "" {
		return Job{}, fmt.Errorf("member requestContext must be text of 1 to %d octets", mostContext)
	}
	recipient, err := hex.DecodeString(strings.ReplaceAll(j.Recipient, ":", ""))
	switch {
	case j.Kind == "" || !sound(j.Kind, mostText):
		return Job{}, errors.New("member kind is missing or no text")
	case !sound(j.Subject, mostSubject):
		return Job{}, errors.New("member subject is too long or no text")
	case !soundList(j.SANs, mostSANs):
		return Job{}, errors.New("member sans has too many names, or one that is no text")
	case !soundList(j.KeyUsage, mostUsages):
		return Job{}, errors.New("member keyUsage has too many names, or one that is no text")
	case !soundList(j.EKUs, mostUsages):
		return Job{}, errors.New("member ekus has too many names, or one that is no text")
	case !sound(j.Key.Type, mostText):
		return Job{}, errors.New("member key.type is no text")
	case j.ValiditySeconds < 0 || j.ValiditySeconds > mostValidity:
		return Job{}, errors.New("member validitySeconds is out of range")
	case !sound(j.CAConfiguration, mostText):
		return Job{}, errors.New("member caConfiguration is no text")
	case err != nil || len(recipient) != 0 && len(recipient) != 32:
		return Job{}, errors.New("member recipient is no SHA-256 in hexadecimal")
	}
	j.Recipient = hex.EncodeToString(recipient)
	return j, nil
}

// contextOf reads the context of an element that is otherwise wrong, so that
// the queue can be told.
func contextOf(raw []byte) string {
	var members map[string]json.RawMessage
	var context string
	if json.Unmarshal(raw, &members) != nil || json.Unmarshal(members["requestContext"], &context) != nil || !sound(context, mostContext) {
		return ""
	}
	return context
}

// sound says that a text is short, UTF-8 and without control characters: it
// gets into logs and lists.
func sound(s string, most int) bool {
	return len(s) <= most && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl) && !strings.ContainsRune(s, utf8.RuneError)
}

func soundList(list []string, most int) bool {
	if len(list) > most {
		return false
	}
	for _, s := range list {
		if s == "" || !sound(s, mostText) {
			return false
		}
	}
	return true
}
