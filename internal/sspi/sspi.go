// Package sspi signs in as the account that runs the program, through Windows'
// Security Support Provider Interface: a service's virtual account (the
// computer's account in the domain), a group managed account or a user. No
// password, keytab or ticket is stored.
package sspi

import (
	"errors"

	"github.com/certconnector/certconnector/internal/secret"
)

// Package names a security package of Windows. There is no "Negotiate": what
// falls back from one to the other lets a man in the middle choose.
type Package string

// The packages.
const (
	Kerberos Package = "Kerberos"
	NTLM     Package = "NTLM"
)

// ErrNotWindows says that this system has no SSPI.
var ErrNotWindows = errors.New("sspi signs in as the account of a Windows service: on this system name a keytab or a credential cache")

// ErrRefused is wrapped by errors that say: this account cannot sign in there.
var ErrRefused = errors.New("sign-in refused")

// Request says to whom, and for what.
type Request struct {
	Package Package
	Target  string // service principal name, as HTTP/ca.contoso.com
	// DCE asks for what DCE/RPC needs: both sides prove who they are, in three
	// legs, and messages are sealed.
	DCE bool
	// Binding names the TLS channel, as "tls-server-end-point:" and a digest
	// (RFC 5929); nil: none.
	Binding []byte

	// TestingAs signs in as another account; tests have none that Windows knows.
	TestingAs *Identity
}

// Identity is an account by name and password.
type Identity struct {
	User, Domain string
	Password     secret.Text
}

// Part is a piece of a message. Seal and Open work in place.
type Part struct {
	Data    []byte
	Secret  bool // encrypted; all others are plain
	Covered bool // by the signature, if it is plain
}
