package policymodule_test

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"net/url"
	"testing"

	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/policymodule"
)

// request is a CSR for names.
func request(t *testing.T, change func(*x509.CertificateRequest)) *pkcs10.Request {
	t.Helper()
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: "phone.corp.example"}}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, testkeys.P256(0))
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pkcs10.Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

func mustURI(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestNames(t *testing.T) {
	cn := func(s string) func(*x509.CertificateRequest) {
		return func(r *x509.CertificateRequest) { r.Subject = pkix.Name{CommonName: s} }
	}
	dns := func(names ...string) func(*x509.CertificateRequest) {
		return func(r *x509.CertificateRequest) { r.DNSNames = names }
	}
	const sid = "tag:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-1001"
	for _, row := range []struct {
		name         string
		subject, san []string
		change       func(*x509.CertificateRequest)
		rule         policymodule.Reason
	}{
		{"a suffix", []string{"CN=*.corp.example"}, nil, nil, ""},
		{"letters' case does not matter", []string{"cn=*.CORP.example"}, nil, cn("Phone.corp.EXAMPLE"), ""},
		{"a name outside of the suffix", []string{"CN=*.corp.example"}, nil, cn("ceo.example"), policymodule.RuleSubject},
		{"a suffix needs its dot", []string{"CN=*.corp.example"}, nil, cn("evilcorp.example"), policymodule.RuleSubject},
		{"the suffix in the middle", []string{"CN=*.corp.example"}, nil, cn("a.corp.example.evil.test"), policymodule.RuleSubject},
		{"nothing stands for *", []string{"CN=*.corp.example"}, nil, cn(".corp.example"), ""},
		{"two runs", []string{"CN=dev-*.*.example"}, nil, cn("dev-7.corp.example"), ""},
		{"parts may not overlap", []string{"CN=ab*ba"}, nil, cn("aba"), policymodule.RuleSubject},
		{"a wildcard that is asked for", []string{"CN=*.corp.example"}, nil, cn("*.corp.example"), ""},
		{"a wildcard within a pattern's run", []string{"CN=*.example"}, nil, cn("*.corp.example"), policymodule.RuleSubject},
		{"a NUL hides a suffix", []string{"CN=*.corp.example"}, nil, cn("evil.test\x00.corp.example"), policymodule.RuleSubject},
		{"an attribute of another type", []string{"CN=*"}, nil, func(r *x509.CertificateRequest) { r.Subject.Organization = []string{"Corp"} }, policymodule.RuleSubject},
		{"each attribute has a pattern", []string{"CN=*", "O=Corp"}, nil, func(r *x509.CertificateRequest) { r.Subject.Organization = []string{"Corp"} }, ""},
		{"one of two values is foreign", []string{"CN=*", "OU=A"}, nil, func(r *x509.CertificateRequest) { r.Subject.OrganizationalUnit = []string{"A", "B"} }, policymodule.RuleSubject},
		{"an attribute by its object identifier", []string{"2.5.4.3=*"}, nil, nil, ""},
		{"any subject", []string{"*"}, nil, func(r *x509.CertificateRequest) { r.Subject.Country = []string{"DE"} }, ""},
		{"no pattern, no subject", nil, nil, cn(""), ""},
		{"no pattern, a subject", nil, nil, nil, policymodule.RuleSubject},

		{"no pattern for alternative names", []string{"*"}, nil, dns("a.corp.example"), policymodule.RuleSAN},
		{"a DNS name", []string{"*"}, []string{"dns:*.corp.example"}, dns("a.corp.example"), ""},
		{"one of two DNS names", []string{"*"}, []string{"dns:*.corp.example"}, dns("a.corp.example", "evil.test"), policymodule.RuleSAN},
		{"an email by a pattern for DNS", []string{"*"}, []string{"dns:*"}, func(r *x509.CertificateRequest) { r.EmailAddresses = []string{"a@corp.example"} }, policymodule.RuleSAN},
		{"an email", []string{"*"}, []string{"email:*@corp.example"}, func(r *x509.CertificateRequest) { r.EmailAddresses = []string{"a@corp.example"} }, ""},
		{"an address in a network", []string{"*"}, []string{"ip:10.1.0.0/16"}, func(r *x509.CertificateRequest) { r.IPAddresses = []net.IP{net.IPv4(10, 1, 2, 3)} }, ""},
		{"an address outside", []string{"*"}, []string{"ip:10.1.0.0/16"}, func(r *x509.CertificateRequest) { r.IPAddresses = []net.IP{net.IPv4(10, 2, 2, 3)} }, policymodule.RuleSAN},
		{"a URI", []string{"*"}, []string{"uri:https://corp.example/*"}, func(r *x509.CertificateRequest) { r.URIs = append(r.URIs, mustURI(t, "https://corp.example/7")) }, ""},
		{"another name that nobody listed", []string{"*"}, []string{"dns:*", "email:*", "upn:*", "uri:*", "ip:0.0.0.0/0"}, otherName(t, asn1.ObjectIdentifier{1, 2, 3}), policymodule.RuleSAN},
		{"a user principal name", []string{"*"}, []string{"upn:*@corp.example"}, otherName(t, asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}), ""},
		{"any alternative name", []string{"*"}, []string{"*"}, otherName(t, asn1.ObjectIdentifier{1, 2, 3}), ""},
		{"a security identifier is for another rule", []string{"*"}, []string{"dns:*"}, func(r *x509.CertificateRequest) { r.URIs = append(r.URIs, mustURI(t, sid)) }, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			n, err := policymodule.ParseNames(row.subject, row.san)
			if err != nil {
				t.Fatal(err)
			}
			var got policymodule.Reason
			if d := n.Check(request(t, row.change)); d != nil {
				got = d.Rule
			}
			if got != row.rule {
				t.Errorf("rule %q, want %q", got, row.rule)
			}
		})
	}
}

// otherName asks for "user@corp.example" as an otherName of a type.
func otherName(t *testing.T, kind asn1.ObjectIdentifier) func(*x509.CertificateRequest) {
	t.Helper()
	value, err := asn1.MarshalWithParams("user@corp.example", "utf8")
	if err != nil {
		t.Fatal(err)
	}
	inner, err := asn1.Marshal(struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}{kind, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: value}})
	if err != nil {
		t.Fatal(err)
	}
	inner[0] = 0xa0 // [0] IMPLICIT
	san, err := asn1.Marshal([]asn1.RawValue{{FullBytes: inner}})
	if err != nil {
		t.Fatal(err)
	}
	return func(r *x509.CertificateRequest) {
		r.ExtraExtensions = append(r.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Value: san})
	}
}

// A pattern for anything does not vouch for a security identifier.
func TestSecurityIdentifiersNeedAPatternOfTheirOwn(t *testing.T) {
	for _, row := range []struct {
		patterns []string
		allowed  bool
	}{
		{[]string{"*"}, false}, {[]string{"uri:*"}, false}, {[]string{"sid:S-1-5-21-1-2-3-*"}, true}, {[]string{"sid:S-1-5-21-9-*"}, false},
	} {
		n, err := policymodule.ParseNames([]string{"*"}, row.patterns)
		if err != nil {
			t.Fatal(err)
		}
		if got := n.AllowsSID("S-1-5-21-1-2-3-1001"); got != row.allowed {
			t.Errorf("%q allows it: %v", row.patterns, got)
		}
	}
}

func TestPatternsThatCannotBeRead(t *testing.T) {
	for _, row := range []struct{ subject, san string }{
		{subject: "corp.example"}, {subject: "XX=a"}, {subject: "CN="}, {subject: ""},
		{san: "host:a"}, {san: "dns:"}, {san: "ip:10.0.0.0/33"}, {san: "ip:host"}, {san: "a.corp.example"}, {san: ""},
	} {
		var err error
		if row.san != "" || row.subject == "" {
			_, err = policymodule.ParseNames(nil, []string{row.san})
		} else {
			_, err = policymodule.ParseNames([]string{row.subject}, nil)
		}
		if err == nil {
			t.Errorf("%+v was read", row)
		}
	}
}
