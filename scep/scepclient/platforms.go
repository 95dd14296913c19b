package scepclient

import (
	"crypto"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/certconnector/certconnector/scep"
)

// apple is what iOS and macOS share. Apple's client wants a digest and a
// cipher it knows in the list and gives up before PKIOperation otherwise.
func apple() Quirks {
	return Quirks{
		UserAgent: "mdmclient/1.0", CAIdentifier: "SCEP Authority",
		Escaping: EscapePadded, ContentType: "application/x-pki-message",
		Encoding: BER, Signer: SignerUUID, TransactionID: UpperHexSHA1, MaxDigest: crypto.SHA512, Null: true, SigningTime: true,
		RA:             ChooseAsApple,
		NeedCapability: [][]string{{"SHA-1", "SHA-256", "SHA-512"}, {"AES", "DES3"}},
		Renewal:        scep.PKCSReq, Poll: PollByCertPollRA,
		Retries: 3, RetryDelay: 10 * time.Second, FirstRetryAtOnce: true,
	}
}

func windows() Quirks {
	return Quirks{
		Name: "windows", UserAgent: "Mozilla/4.0 (compatible; Win32; NDES client 10.0.19041.1/vb_release)",
		Suffix: "/pkiclient.exe", CAIdentifier: "default", ContentType: "application/x-pki-message",
		Encoding: DER, Signer: SignerCriticalAKI, TransactionID: UUID, AES: AES256, Null: true,
		Validity: PairUsual, Renewal: scep.PKCSReq,
		Retries: 3, RetryDelay: 5 * time.Minute,
	}
}

// android is jscep inside Microsoft's agent: BER, GET without escaping where
// POST is missing, the strongest digest that is listed.
func android() Quirks {
	return Quirks{
		Name: "android", UserAgent: "Java/17.0.2", CAIdentifier: "ca",
		Escaping: EscapeNone, ContentType: "application/octet-stream",
		Encoding: BER, Signer: SignerSerialOne, TransactionID: LowerHexSHA1, MaxDigest: crypto.SHA512,
		CombinedOID: true, Protection: true, SigningTime: true,
		Validity: PairSwapped, Renewal: scep.PKCSReq, ChallengeUTF8: true,
		Retries: 5, RetryDelay: 10 * time.Second,
	}
}

// linux is certmonger: GET always, an X.509 v1 signer, a decimal transaction
// ID, the same PKCSReq again in place of CertPoll.
func linux() Quirks {
	return Quirks{
		Name: "linux", UserAgent: "certmonger", CAIdentifier: "0", AlwaysGET: true,
		Encoding: DER, Signer: SignerV1, TransactionID: DecimalSHA256, AES: AES256, Null: true,
		Renewal: scep.PKCSReq, Poll: PollByRequest,
		Retries: 5, RetryDelay: 10 * time.Second,
	}
}

// Platforms are the names that Platform knows.
func Platforms() []string { return []string{"windows", "ios", "macos", "android", "linux"} }

// Platform returns the quirks of a platform, by name in any case.
func Platform(name string) (Quirks, error) {
	switch strings.ToLower(name) {
	case "windows":
		return windows(), nil
	case "ios":
		q := apple()
		q.Name = "ios"
		return q, nil
	case "macos":
		q := apple()
		q.Name, q.NeedRenewal, q.Encoding = "macos", true, BEREnvelope
		return q, nil
	case "android":
		return android(), nil
	case "linux":
		return linux(), nil
	}
	known := slices.Sorted(slices.Values(Platforms()))
	return Quirks{}, fmt.Errorf("unknown platform %q, one of %s", name, strings.Join(known, ", "))
}
