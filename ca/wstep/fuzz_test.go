package wstep

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"slices"
	"testing"
)

func FuzzTokenReply(f *testing.F) {
	for _, name := range []string{"issued.xml", "pending.xml", "denied.xml", "suspended.xml", "internal.xml", "credentials.xml"} {
		f.Add(vector(f, name))
	}
	spki := vectorCSR(f).RawSubjectPublicKeyInfo
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := readReply(b, tokenQuestion, vectorID)
		if found, ok := errors.AsType[*fault](err); ok {
			if found.outcome() == nil || len(found.reason) > 600 {
				t.Errorf("fault %+v means nothing", found)
			}
			return
		}
		if err != nil {
			return
		}
		for _, key := range [][]byte{spki, nil} {
			a, err := readAnswer(r.body, key)
			if err == nil && a.certificate == nil && !isRequestID(a.requestID) {
				t.Error("an answer with neither certificate nor request ID")
			}
		}
	})
}

func FuzzPolicyReply(f *testing.F) {
	f.Add(vector(f, "policies.xml"))
	f.Add(vector(f, "unchanged.xml"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := readReply(b, policyQuestion, vectorID)
		if err != nil {
			return
		}
		p, err := readPolicy(r.body)
		if err != nil {
			return
		}
		if p.update < 0 {
			t.Errorf("update in %v", p.update)
		}
		for _, c := range p.cas {
			if c.certificate == nil {
				t.Error("a CA without certificate")
			}
			for _, kind := range []int{byKerberos, byUser, byCertificate} {
				for _, address := range c.addresses(kind) {
					if checkAddress(address) != nil {
						t.Errorf("address %q", address)
					}
				}
			}
		}
	})
}

// FuzzChain reads what a CMC response holds.
func FuzzChain(f *testing.F) {
	r, err := readReply(vector(f, "issued.xml"), tokenQuestion, vectorID)
	if err != nil {
		f.Fatalf("readReply: %v", err)
	}
	der, err := r.body.path(nsTrust, "RequestSecurityTokenResponseCollection", "RequestSecurityTokenResponse").only(nsSecurity, "BinarySecurityToken").bytes()
	if err != nil {
		f.Fatalf("no chain: %v", err)
	}
	f.Add(der)
	f.Fuzz(func(t *testing.T, b []byte) {
		e := &element{text: []byte(base64.StdEncoding.EncodeToString(b))}
		if slices.Contains(chainCertificates(e), (*x509.Certificate)(nil)) {
			t.Error("a certificate that is none")
		}
	})
}
