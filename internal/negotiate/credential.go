// Package negotiate signs in to a neighbour in a Windows domain: Kerberos
// (RFC 4120, RFC 4559) or, only where it is switched on, NTLM ([MS-NLMP]); on
// Windows also as the account of the process (SSPI).
package negotiate

import (
	"errors"
	"strings"

	"github.com/certconnector/certconnector/internal/secret"
	"github.com/certconnector/certconnector/internal/sspi"
)

// Kerberos says as whom to sign in, and with what: exactly one of Keytab,
// CCache and Password.
type Kerberos struct {
	Principal string      // user@REALM, or host/name@REALM
	Keytab    string      // file with the principal's keys
	CCache    string      // file with tickets, kept fresh by somebody else
	Password  secret.Text //
	Config    string      // krb5.conf; "": the system's
	SPN       string      // of the neighbour; "": made from its host name
}

// NTLM says as whom to sign in without Kerberos. It is off unless configured:
// it proves nothing of the server and can be relayed.
type NTLM struct {
	User     string // DOMAIN\user or user@domain
	Password secret.Text
}

// SSPI says to sign in as the account that runs the program, a Windows service:
// its virtual account (the computer's in the domain), a group managed account or
// a user. Windows has the credentials; nothing is stored here.
type SSPI struct {
	SPN  string // of the neighbour; "": made from its host name
	NTLM bool   // instead of Kerberos, as for a neighbour outside of the domain: proves nothing of the server
	// TestingAs signs in as another account, which tests name.
	TestingAs *sspi.Identity
}

// Name is what the log calls it.
func (s SSPI) Name() string {
	if s.NTLM {
		return "sspi (NTLM)"
	}
	return "sspi (Kerberos)"
}

// Package is Windows' name of the security package.
func (s SSPI) Package() sspi.Package {
	if s.NTLM {
		return sspi.NTLM
	}
	return sspi.Kerberos
}

// Check says that this system has no SSPI.
func (SSPI) Check() error {
	if !sspi.Available() {
		return sspi.ErrNotWindows
	}
	return nil
}

// Check says what is missing or contradicts.
func (k Kerberos) Check() error {
	name, realm, ok := strings.Cut(k.Principal, "@")
	if !ok || name == "" || realm == "" {
		return errors.New("the principal is no name of the form user@REALM")
	}
	n := 0
	for _, given := range []bool{k.Keytab != "", k.CCache != "", k.Password != ""} {
		if given {
			n++
		}
	}
	if n != 1 {
		return errors.New("name exactly one of keytab, credential cache and password")
	}
	return nil
}
