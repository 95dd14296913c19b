// Package negotiate signs in to a neighbour in a Windows domain: Kerberos
// (RFC 4120, RFC 4559) or, only where it is switched on, NTLM ([MS-NLMP]).
package negotiate

import (
	"errors"
	"strings"

	"github.com/certconnector/certconnector/internal/secret"
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
