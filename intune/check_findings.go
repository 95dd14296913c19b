package intune

import "github.com/certconnector/certconnector/internal/finding"

// Level says how much a finding matters.
type Level = finding.Level

// The levels, the least first.
const (
	OK      = finding.OK
	Note    = finding.Note
	Warning = finding.Warning
	Failure = finding.Failure
)

// Finding is one thing that Diagnose found out about a tenant. Text may have
// words of the cloud in it, which are not fit for a terminal as they are.
type Finding struct {
	ID    string `json:"id"` // one of the Check constants, which never change
	Level Level  `json:"level"`
	Text  string `json:"text"`
	Fix   string `json:"fix,omitempty"`   // what to do; "" where there is nothing to do
	Waits bool   `json:"waits,omitempty"` // somebody else's doing, or time, may mend it: asking again later is worth while
}

// IDs of findings.
const (
	CheckConfig       = "intune.config"             // what the configuration names can be used
	CheckReach        = "intune.reach"              // sign-in, Graph and Intune answer, themselves
	CheckClock        = "intune.clock"              // their clock and ours agree
	CheckTenant       = "intune.tenant"             // Entra ID knows the tenant
	CheckApplication  = "intune.application"        // and in it the application
	CheckCredential   = "intune.credential"         // whose certificate or secret is in force and known
	CheckSignIn       = "intune.signin"             // so that it gives tokens
	CheckGraph        = "intune.permission.graph"   // one that may look for services
	CheckIntune       = "intune.permission.intune"  // and one that may have challenges validated
	CheckLicence      = "intune.licence"            // in a tenant that has Intune
	CheckServices     = "intune.services"           // at addresses that may be sent a token
	CheckVerdict      = "intune.verdict"            // where a made-up challenge is refused
	CheckRevocation   = "intune.revocation"         // revocations, where they are configured
	CheckFeature      = "intune.permission.feature" // with what configured features need besides
	CheckRegistration = "intune.registration"       // the certificates of the app registration
)
