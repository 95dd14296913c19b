package negotiate

import (
	"crypto"
	"crypto/md5"
	"crypto/x509"
	"encoding/binary"

	_ "crypto/sha256" // the digests of endPoint
	_ "crypto/sha512"
)

// endPoint returns the channel binding tls-server-end-point of a server's
// certificate (RFC 5929, section 4.1), nil where it is not defined: for
// signatures without one hash, such as Ed25519.
func endPoint(server *x509.Certificate) []byte {
	var hash crypto.Hash
	switch server.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256, x509.DSAWithSHA256:
		hash = crypto.SHA256 // MD5 and SHA-1 are replaced by it
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		hash = crypto.SHA384
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		hash = crypto.SHA512
	default:
		return nil
	}
	h := hash.New()
	h.Write(server.Raw)
	return append([]byte("tls-server-end-point:"), h.Sum(nil)...)
}

// bindingDigest is the MD5 of gss_channel_bindings_struct with these
// application data and no addresses: what Kerberos puts into the
// authenticator's checksum (RFC 4121, section 4.1.1.2) and NTLM into
// MsvAvChannelBindings ([MS-NLMP] 2.2.2.1). No binding is 16 zero bytes.
func bindingDigest(application []byte) [16]byte {
	if len(application) == 0 {
		return [16]byte{}
	}
	b := make([]byte, 16, 20+len(application)) // two address types and lengths, all 0
	b = binary.LittleEndian.AppendUint32(b, uint32(len(application)))
	return md5.Sum(append(b, application...))
}

// bindingOf returns the digest for a server's certificate.
func bindingOf(server *x509.Certificate) [16]byte {
	if server == nil {
		return [16]byte{}
	}
	return bindingDigest(endPoint(server))
}
