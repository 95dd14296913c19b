package sspi

import (
	"fmt"

	"golang.org/x/sys/windows"
)

// wayOut says what to look at, for statuses that administrators meet.
var wayOut = map[windows.Errno]string{
	windows.Errno(windows.SEC_E_TARGET_UNKNOWN):              "the domain knows no such service principal name: use the server's full DNS name, and look at setspn -Q",
	windows.Errno(windows.SEC_E_NO_CREDENTIALS):              "this account has no credentials in the domain: let the service run as NT SERVICE\\certconnector, NetworkService or a group managed account, on a computer of the domain",
	windows.Errno(windows.SEC_E_NO_AUTHENTICATING_AUTHORITY): "no domain controller answers: nltest /dsgetdc:",
	windows.Errno(windows.SEC_E_WRONG_PRINCIPAL):             "the server is not who the service principal name says: is it registered for another account?",
	windows.Errno(windows.SEC_E_TIME_SKEW):                   "the clocks differ: w32tm /resync",
	windows.Errno(windows.SEC_E_SECPKG_NOT_FOUND):            "this system does not have the security package",
	windows.Errno(windows.SEC_E_UNSUPPORTED_FUNCTION):        "this system does not have all of the security package",
	windows.Errno(windows.SEC_E_LOGON_DENIED):                "the domain refuses the account: is it locked, disabled or, for a group managed account, not allowed on this computer?",
	windows.Errno(windows.SEC_E_INVALID_TOKEN):               "the server's answer makes no sense: does it speak this mechanism?",
	windows.Errno(windows.SEC_E_MESSAGE_ALTERED):             "it was changed on its way",
	windows.Errno(windows.SEC_E_OUT_OF_SEQUENCE):             "one before it is missing",
}

// failure is nil for the statuses of success. What is refused wraps ErrRefused.
func failure(status uintptr) error {
	code := uint32(status)
	if int32(code) >= 0 {
		return nil
	}
	e := windows.Errno(code)
	why, known := wayOut[e]
	if !known {
		return fmt.Errorf("%w (0x%08x)", e, code)
	}
	if e == windows.Errno(windows.SEC_E_LOGON_DENIED) || e == windows.Errno(windows.SEC_E_NO_CREDENTIALS) {
		return fmt.Errorf("%w: %w (0x%08x); %s", ErrRefused, e, code, why)
	}
	return fmt.Errorf("%w (0x%08x); %s", e, code, why)
}
