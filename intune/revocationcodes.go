package intune

import (
	"fmt"
	"strconv"
)

// RevocationCode is the error code of a revocation's result. The numbers are
// those of Microsoft's library.
type RevocationCode int

// The codes of revocation results. Intune forgets a request for which it was
// told RevocationNone or a code of the 40xx, and offers it again after one of
// the 41xx.
const (
	RevocationNone                      RevocationCode = 0    // revoked, now or before
	RevocationNonRetryableServiceError  RevocationCode = 4000 // failed for good, for no other reason here
	RevocationDataSerializationError    RevocationCode = 4001 // the request cannot be read
	RevocationParameterDataInvalidError RevocationCode = 4002 // serial number or issuer is malformed
	RevocationCryptographyError         RevocationCode = 4003 // a cryptographic operation failed
	RevocationCertificateNotFoundError  RevocationCode = 4004 // the CA has no such serial number
	RevocationConflictError             RevocationCode = 4005 // the certificate's state does not allow it
	RevocationNotSupportedError         RevocationCode = 4006 // this CA cannot revoke
	RevocationPayloadTooLargeError      RevocationCode = 4007 // the request is too large
	RevocationRetryableServiceError     RevocationCode = 4100 // failed for now, for no other reason here
	RevocationServiceUnavailableError   RevocationCode = 4101 // the CA cannot be reached
	RevocationServiceTooBusyError       RevocationCode = 4102 // the CA is busy
	RevocationAuthenticationError       RevocationCode = 4103 // the CA does not let us in
)

// revocationNames are the names that go over the wire.
var revocationNames = map[RevocationCode]string{
	RevocationNone:                      "None",
	RevocationNonRetryableServiceError:  "NonRetryableServiceException",
	RevocationDataSerializationError:    "DataSerializationError",
	RevocationParameterDataInvalidError: "ParameterDataInvalidError",
	RevocationCryptographyError:         "CryptographyError",
	RevocationCertificateNotFoundError:  "CertificateNotFoundError",
	RevocationConflictError:             "ConflictError",
	RevocationNotSupportedError:         "NotSupportedError",
	RevocationPayloadTooLargeError:      "PayloadTooLargeError",
	RevocationRetryableServiceError:     "RetryableServiceException",
	RevocationServiceUnavailableError:   "ServiceUnavailableException",
	RevocationServiceTooBusyError:       "ServiceTooBusyException",
	RevocationAuthenticationError:       "AuthenticationException",
}

// RevocationCodes lists every documented code, in ascending order.
func RevocationCodes() []RevocationCode {
	return []RevocationCode{
		RevocationNone, RevocationNonRetryableServiceError, RevocationDataSerializationError,
		RevocationParameterDataInvalidError, RevocationCryptographyError, RevocationCertificateNotFoundError,
		RevocationConflictError, RevocationNotSupportedError, RevocationPayloadTooLargeError,
		RevocationRetryableServiceError, RevocationServiceUnavailableError, RevocationServiceTooBusyError,
		RevocationAuthenticationError,
	}
}

// String is the code's name in Microsoft's library, or its number when it has
// none.
func (c RevocationCode) String() string {
	if name, ok := revocationNames[c]; ok {
		return name
	}
	return strconv.Itoa(int(c))
}

// Retryable tells whether Intune offers the request again after this code.
func (c RevocationCode) Retryable() bool { return c >= 4100 && c < 4200 }

// CodeStyle is how an upload spells the code of a result: Microsoft's two
// libraries differ.
type CodeStyle string

// The styles.
const (
	CodeNames   CodeStyle = "name"   // "CertificateNotFoundError", as the C# library
	CodeNumbers CodeStyle = "number" // "4004", a text too, as the Java library
)

func (s CodeStyle) check() error {
	if s != CodeNames && s != CodeNumbers {
		return fmt.Errorf("style %q of revocation codes is unknown: use name or number", s)
	}
	return nil
}

func (s CodeStyle) spell(c RevocationCode) string {
	if s == CodeNumbers {
		return strconv.Itoa(int(c))
	}
	return c.String()
}
