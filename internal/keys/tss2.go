package keys

import (
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// tss2 is a key that a TPM has wrapped, in the form that tpm2-openssl,
// tpm2-tss-engine and the Linux kernel use ("ASN.1 Specification for TPM 2.0
// Key Files"):
//
//	TPMKey ::= SEQUENCE {
//	    type        OBJECT IDENTIFIER,
//	    emptyAuth   [0] EXPLICIT BOOLEAN OPTIONAL,
//	    policy      [1] EXPLICIT SEQUENCE OF TPMPolicy OPTIONAL,
//	    secret      [2] EXPLICIT OCTET STRING OPTIONAL,
//	    authPolicy  [3] EXPLICIT SEQUENCE OF TPMAuthPolicy OPTIONAL,
//	    description [4] EXPLICIT UTF8String OPTIONAL,
//	    rsaParent   [5] EXPLICIT BOOLEAN OPTIONAL,
//	    parent      INTEGER,
//	    pubkey      OCTET STRING,  -- TPM2B_PUBLIC
//	    privkey     OCTET STRING } -- TPM2B_PRIVATE
type tss2 struct {
	parent          tpm2.TPMHandle
	public, private []byte
}

// loadableKey is the type of keys that TPM2_Load takes (id-loadablekey).
var loadableKey = asn1.ObjectIdentifier{2, 23, 133, 10, 1, 3}

func explicit(n uint8) cbasn1.Tag { return cbasn1.Tag(n).Constructed().ContextSpecific() }

func encodeTSS2(k tss2) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(loadableKey)
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) { b.AddASN1Boolean(true) })
		b.AddASN1Int64(int64(k.parent))
		b.AddASN1OctetString(k.public)
		b.AddASN1OctetString(k.private)
	})
	der, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encoding a TPM's key: %w", err)
	}
	return der, nil
}

func decodeTSS2(der []byte) (tss2, error) {
	input := cryptobyte.String(der)
	var s cryptobyte.String
	var kind asn1.ObjectIdentifier
	if !input.ReadASN1(&s, cbasn1.SEQUENCE) || !input.Empty() || !s.ReadASN1ObjectIdentifier(&kind) {
		return tss2{}, errors.New("damaged TSS2 PRIVATE KEY")
	}
	if !kind.Equal(loadableKey) {
		return tss2{}, fmt.Errorf("a TSS2 PRIVATE KEY of type %v is not supported, want a loadable key (%v)", kind, loadableKey)
	}
	var options [6]cryptobyte.String
	var present [6]bool
	for n := range options {
		if !s.ReadOptionalASN1(&options[n], &present[n], explicit(uint8(n))) {
			return tss2{}, errors.New("damaged TSS2 PRIVATE KEY")
		}
	}
	var parent int64
	var public, private cryptobyte.String
	if !s.ReadASN1Integer(&parent) || !s.ReadASN1(&public, cbasn1.OCTET_STRING) || !s.ReadASN1(&private, cbasn1.OCTET_STRING) || !s.Empty() {
		return tss2{}, errors.New("damaged TSS2 PRIVATE KEY")
	}
	switch {
	case !present[0] || !isTrue(options[0]):
		return tss2{}, errors.New("the TPM's key has a password, which is not supported; make one without: the service's account and the TPM protect it")
	case present[1] || present[3]:
		return tss2{}, errors.New("the TPM's key has a policy, which is not supported; make one without")
	case present[5] && isTrue(options[5]):
		return tss2{}, errors.New("the parent of the TPM's key is an RSA key, which is not supported; make one below the P-256 storage root key")
	}
	// Old writers have handles from 0x80000000 on as negative numbers.
	return tss2{parent: tpm2.TPMHandle(uint32(parent)), public: public, private: private}, nil
}

// isTrue reads a BOOLEAN. Not every writer has learnt that DER's TRUE is 0xff.
func isTrue(s cryptobyte.String) bool {
	var content cryptobyte.String
	return s.ReadASN1(&content, cbasn1.BOOLEAN) && len(content) == 1 && content[0] != 0
}
