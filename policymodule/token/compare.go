package token

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/asn1"
	"errors"
	"slices"

	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/policymodule"
)

// checkRights holds the claims to what their signer may vouch for. Where there
// is no claim of extended key usages, the request's count; and where it names
// none, the template would choose, and perhaps beyond the rights.
func checkRights(rights policymodule.Rights, c *claims, asked []asn1.ObjectIdentifier) *policymodule.Decision {
	usages := c.extKeyUsage
	if usages == nil {
		usages = asked
	}
	if err := within(rights, c, usages); err != nil {
		return refused(RuleRights, "the signer may not vouch for this: "+err.Error())
	}
	if len(rights.ExtKeyUsages) > 0 && len(usages) == 0 {
		return refused(RuleRights, "the signer may vouch for some extended key usages only, and neither challenge nor request names one")
	}
	return nil
}

// within says what of claims is beyond rights. A security identifier needs a
// right of its own, which the right to any name does not include.
func within(rights policymodule.Rights, c *claims, usages []asn1.ObjectIdentifier) error {
	if d := rights.Names.CheckSubject(c.subject); d != nil {
		return errors.New(d.Detail)
	}
	if d := rights.Names.CheckSAN(c.san); d != nil {
		return errors.New(d.Detail)
	}
	for _, sid := range policymodule.SIDs(c.san) {
		if !rights.Names.AllowsSID(sid) {
			return errors.New("a security identifier in a subjectAltName is not allowed here")
		}
	}
	if len(rights.ExtKeyUsages) > 0 && !subset(usages, rights.ExtKeyUsages) {
		return errors.New("an extended key usage is not allowed here")
	}
	return nil
}

func subset(some, all []asn1.ObjectIdentifier) bool {
	return !slices.ContainsFunc(some, func(oid asn1.ObjectIdentifier) bool {
		return !slices.ContainsFunc(all, oid.Equal)
	})
}

// checkNames compares subject and alternative names.
func (c *claims) checkNames(csr *pkcs10.Request) *policymodule.Decision {
	if !sameSubject(c.subject, csr.Subject) {
		return refused(RuleSubject, "the request's subject is not that of the challenge")
	}
	names, err := csr.SubjectAltNames()
	if err != nil {
		return refused(RuleSAN, "the request's subjectAltName cannot be read")
	}
	if !sameSAN(c.san, names) || csr.RawSAN != nil && len(names.Raw) == 0 {
		return refused(RuleSAN, "the request's subjectAltName is not that of the challenge")
	}
	return nil
}

// checkUsages wants at least one usage where there is a claim: without one the
// template would choose, and perhaps more.
func (c *claims) checkUsages(req policymodule.Request, usages []asn1.ObjectIdentifier) *policymodule.Decision {
	asked := req.CSR.KeyUsage
	if c.keyUsage != 0 && (asked == 0 || asked&^c.keyUsage != 0) {
		return refused(RuleKeyUsage, "the request's key usage is missing or beyond that of the challenge")
	}
	if c.extKeyUsage != nil && (len(usages) == 0 || !subset(usages, c.extKeyUsage)) {
		return refused(RuleExtKeyUsage, "the request's extended key usage is missing or beyond that of the challenge")
	}
	if c.template != "" && c.template != req.Template {
		return refused(RuleTemplate, "the request leads to another template than that of the challenge")
	}
	return nil
}

func (c *claims) checkKey(csr *pkcs10.Request) *policymodule.Decision {
	kind := ""
	switch csr.PublicKey.(type) {
	case *rsa.PublicKey:
		kind = keyRSA
	case *ecdsa.PublicKey:
		kind = keyEC
	}
	if c.keyType != "" && c.keyType != kind || csr.KeyBits() < c.minKeyBits {
		return refused(RuleKey, "the request's key is of another type than that of the challenge, or shorter")
	}
	if c.hash != 0 {
		if digest := csr.DigestAlgorithm(); digest == 0 || digest.Size() < c.hash.Size() {
			return refused(RuleHash, "the request is signed over a weaker hash than that of the challenge")
		}
	}
	return nil
}
