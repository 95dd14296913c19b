package ca

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"strings"
)

// TemplateFacts are what a CA tells of a template to one who asks.
type TemplateFacts struct {
	Enroll             bool // the account may enrol for it
	SubjectFromRequest bool
	Signatures         int // authorised signatures that a request needs
	MinKeyBits         int // 0: not told
	// Purposes tells that KeyUsage and EKU are known.
	Purposes bool
	KeyUsage x509.KeyUsage           // 0: the extension is not made
	EKU      []asn1.ObjectIdentifier // none: the extension is not made, so any
}

const codeNoTemplate, codeUnknownTemplate, codeTemplateDenied, codeSubject, codeSignature uint32 = 0x80094801, 0x80094800, 0x80094012, 0x80094803, 0x80094809

// Named says whether an endpoint names a template where an enterprise CA needs
// one.
func (w WantedTemplate) Named() Finding {
	if w.Name == "" {
		return Found(Failure, CheckTemplateNamed, Remedy(codeNoTemplate), "endpoint %q names no template for %s requests", w.Endpoint, w.Purpose)
	}
	return Found(OK, CheckTemplateNamed, "", "endpoint %q names template %q for %s requests", w.Endpoint, w.Name, w.Purpose)
}

// Published is the finding on a template that the CA lists, or does not.
func (w WantedTemplate) Published(is bool) Finding {
	if !is {
		return Found(Failure, CheckTemplatePublished, Remedy(codeUnknownTemplate), "template %q of endpoint %q is not published on the CA", w.Name, w.Endpoint)
	}
	return Found(OK, CheckTemplatePublished, "", "template %q is published on the CA", w.Name)
}

// Compare says whether a published template does for its endpoint.
func (w WantedTemplate) Compare(f TemplateFacts) []Finding {
	list := []Finding{w.compareEnroll(f), w.compareSubject(f), w.compareSignatures(f), w.compareKey(f)}
	if !f.Purposes {
		return append(list, Found(Note, CheckTemplateEKU, "", "the CA does not tell the key usages of template %q over this road: compare with certutil -template -v", w.Name))
	}
	return append(list, w.comparePurpose(f), w.compareEKU(f))
}

func (w WantedTemplate) compareEnroll(f TemplateFacts) Finding {
	if !f.Enroll {
		return Found(Failure, CheckTemplateEnroll, Remedy(codeTemplateDenied), "the account may not enrol for template %q", w.Name)
	}
	return Found(OK, CheckTemplateEnroll, "", "the account may enrol for template %q", w.Name)
}

func (w WantedTemplate) compareSubject(f TemplateFacts) Finding {
	if !f.SubjectFromRequest {
		return Found(Failure, CheckTemplateSubject, Remedy(codeSubject), "template %q takes names from the directory, not from the request: every device would get the account's names", w.Name)
	}
	return Found(OK, CheckTemplateSubject, "", "template %q takes the names of the request", w.Name)
}

func (w WantedTemplate) compareSignatures(f TemplateFacts) Finding {
	if f.Signatures > 0 {
		return Found(Failure, CheckTemplateSignatures, Remedy(codeSignature), "template %q wants %d authorised signatures on a request, and the connector gives none", w.Name, f.Signatures)
	}
	return Found(OK, CheckTemplateSignatures, "", "template %q wants no authorised signature", w.Name)
}

func (w WantedTemplate) compareKey(f TemplateFacts) Finding {
	switch {
	case f.MinKeyBits == 0:
		return Found(Note, CheckTemplateKey, "", "the CA does not tell the smallest key of template %q", w.Name)
	case w.MaxRSA > 0 && f.MinKeyBits > w.MaxRSA:
		return Found(Failure, CheckTemplateKey, "raise max_rsa_bits of the endpoint, or lower the template's minimum",
			"template %q wants keys of %d bits, and endpoint %q lets in at most %d", w.Name, f.MinKeyBits, w.Endpoint, w.MaxRSA)
	case f.MinKeyBits > w.MinRSA && w.MinRSA > 0 && f.MinKeyBits > 521: // up to 521 it is an elliptic curve's
		return Found(Warning, CheckTemplateKey, "raise min_rsa_bits of the endpoint and the key size of the device profile",
			"template %q wants keys of %d bits, and endpoint %q lets in smaller ones, of %d: the CA will refuse them", w.Name, f.MinKeyBits, w.Endpoint, w.MinRSA)
	}
	return Found(OK, CheckTemplateKey, "", "template %q takes keys from %d bits", w.Name, f.MinKeyBits)
}

// comparePurpose compares the key usage with the slot of the endpoint.
func (w WantedTemplate) comparePurpose(f TemplateFacts) Finding {
	need := map[Purpose]x509.KeyUsage{
		ForSignature: x509.KeyUsageDigitalSignature, ForEncryption: x509.KeyUsageKeyEncipherment,
		ForGeneral: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}[w.Purpose]
	switch missing := need &^ f.KeyUsage; {
	case f.KeyUsage == 0 || missing == 0:
		return Found(OK, CheckTemplatePurpose, "", "template %q makes certificates for %s", w.Name, w.Purpose)
	case w.Purpose == ForGeneral && missing != need:
		return Found(Warning, CheckTemplatePurpose, "set the template's purpose to Signature and encryption, or name it in the slot that fits",
			"template %q of slot %s makes certificates for one of signature and encryption alone", w.Name, w.Purpose)
	}
	return Found(Failure, CheckTemplatePurpose, "correct the purpose on the template's tab Request Handling, or name another template in this slot",
		"template %q of endpoint %q makes no certificates for %s", w.Name, w.Endpoint, w.Purpose)
}

// Extended key usages that make their holder more than a device.
var (
	anyUsage     = asn1.ObjectIdentifier{2, 5, 29, 37, 0}
	requestAgent = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 1}
)

// compareEKU compares what certificates get with what requests may ask for. At
// a Microsoft CA the template decides, whatever the request asks for.
func (w WantedTemplate) compareEKU(f TemplateFacts) Finding {
	const correct = "correct the application policies of the template, or allow.eku of the endpoint"
	var more, less []string
	for _, oid := range f.EKU {
		if oid.Equal(requestAgent) || oid.Equal(anyUsage) {
			return Found(Failure, CheckTemplateEKU, "take this application policy from the template, or name another template",
				"template %q makes every device an enrollment agent, or lets its certificate do anything (%s)", w.Name, oid)
		}
		if !slices.ContainsFunc(w.EKU, oid.Equal) {
			more = append(more, oid.String())
		}
	}
	for _, oid := range w.EKU {
		if !slices.ContainsFunc(f.EKU, oid.Equal) {
			less = append(less, oid.String())
		}
	}
	switch {
	case len(f.EKU) == 0:
		return Found(Failure, CheckTemplateEKU, "give the template application policies", "certificates of template %q are good for anything: it names no extended key usage", w.Name)
	case len(more) > 0:
		return Found(Warning, CheckTemplateEKU, correct, "certificates of template %q get extended key usages that allow.eku of endpoint %q does not list: %s", w.Name, w.Endpoint, strings.Join(more, ", "))
	case len(less) > 0:
		return Found(Warning, CheckTemplateEKU, correct, "endpoint %q lets requests ask for extended key usages that certificates of template %q do not get: %s", w.Endpoint, w.Name, strings.Join(less, ", "))
	}
	return Found(OK, CheckTemplateEKU, "", "template %q has the extended key usages of the endpoint", w.Name)
}
