package ca

import (
	"context"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"time"

	"github.com/certconnector/certconnector/internal/finding"
)

// Level says how much a finding matters.
type Level = finding.Level

// The levels, the least first.
const (
	OK      = finding.OK
	Note    = finding.Note
	Warning = finding.Warning
	Failure = finding.Failure
)

// Finding is one thing that a check found out about a CA. Text may have words
// of the CA in it, which are not fit for a terminal as they are.
type Finding struct {
	ID    string `json:"id"` // one of the Check constants, which never change
	CA    string `json:"ca"` // name in the configuration; whoever calls Diagnose fills it in
	Level Level  `json:"level"`
	Text  string `json:"text"`
	Fix   string `json:"fix,omitempty"` // what to do; "" where there is nothing to do
}

// IDs of findings.
const (
	CheckConfig             = "ca.config"              // what the configuration names can be used
	CheckReach              = "ca.reach"               // the CA, or the web server before it, answers
	CheckSignIn             = "ca.signin"              // and takes our credentials
	CheckName               = "ca.name"                // and is the CA that is configured
	CheckChain              = "ca.chain"               // with the certificates that are configured
	CheckCertificate        = "ca.certificate"         // which are in force
	CheckType               = "ca.type"                // enterprise or standalone
	CheckClock              = "ca.clock"               // its clock and ours agree
	CheckCRL                = "ca.crl"                 // its revocation list is in force
	CheckEnroll             = "ca.rights.enroll"       // the account has Request Certificates
	CheckRead               = "ca.rights.read"         // and may read the database
	CheckOfficer            = "ca.rights.officer"      // and has Issue and Manage Certificates
	CheckExcess             = "ca.rights.excess"       // and no more than that
	CheckTemplateNamed      = "ca.template.named"      // endpoints name templates
	CheckTemplatePublished  = "ca.template.published"  // which the CA issues
	CheckTemplateEnroll     = "ca.template.enroll"     // to this account
	CheckTemplateSubject    = "ca.template.subject"    // with the names of the request
	CheckTemplateSignatures = "ca.template.signatures" // without authorised signatures
	CheckTemplateKey        = "ca.template.key"        // for the keys that the endpoint lets in
	CheckTemplatePurpose    = "ca.template.purpose"    // with the key usage of its slot
	CheckTemplateEKU        = "ca.template.eku"        // and the extended key usages of allow.eku
	CheckRoadIssue          = "ca.road.issue"          // the roads that issue
	CheckRoadRevoke         = "ca.road.revoke"         // and revoke
	CheckRoadFind           = "ca.road.find"           // and search after a lost answer
)

// ProbeTimeout bounds one question of a check.
const ProbeTimeout = 10 * time.Second

// UnknownRequest is a request ID that no CA has reached. Asking for its
// outcome shows whether the account may ask, and changes nothing.
const UnknownRequest = 0x7FFFFFFF

// Diagnoser is what a bridge can do besides, found by a type assertion: it
// asks the CA, without changing anything there, whether it can do what the
// configuration wants. It never submits a request. It may be called while the
// bridge works, and gives up each question after ProbeTimeout.
type Diagnoser interface {
	Diagnose(ctx context.Context, want Wanted) []Finding
}

// Wanted is what a configuration expects of a CA.
type Wanted struct {
	Templates []WantedTemplate
	// Chain is the configured one: the issuing CA's certificate, its issuers,
	// then former certificates of the CA.
	Chain []*x509.Certificate
}

// Purpose is the slot of an endpoint's templates.
type Purpose string

// The slots, as the configuration calls them.
const (
	ForSignature  Purpose = "signature"
	ForEncryption Purpose = "encryption"
	ForGeneral    Purpose = "general"
)

// WantedTemplate is one that an endpoint names.
type WantedTemplate struct {
	Endpoint string
	Name     string // "" is the CA's default
	Purpose  Purpose
	EKU      []asn1.ObjectIdentifier // that requests may ask for
	MinRSA   int                     // bits of the smallest key that the endpoint lets in
	MaxRSA   int                     // and of the largest
}

// Found makes a finding with a formatted text.
func Found(l Level, id, fix, format string, args ...any) Finding {
	return Finding{ID: id, Level: l, Fix: fix, Text: fmt.Sprintf(format, args...)}
}

// CodeName is a code as the documents print it, with its name where one is
// known.
func CodeName(hresult uint32) string {
	if a, ok := Lookup(int32(hresult)); ok {
		return fmt.Sprintf("0x%08X (%s)", hresult, a.Name)
	}
	return fmt.Sprintf("0x%08X", hresult)
}

// Remedy is what Advice says to do about a code, without code and name.
func Remedy(hresult uint32) string {
	a, ok := Lookup(int32(hresult))
	if !ok {
		return fmt.Sprintf("look the code up with certutil -error 0x%08X", hresult)
	}
	return a.Do
}
