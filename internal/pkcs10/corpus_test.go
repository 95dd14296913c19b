package pkcs10_test

import (
	"encoding/asn1"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/certconnector/certconnector/internal/pkcs10"
)

var writeCorpus = flag.Bool("write-corpus", false, "write the seeds of the fuzz target anew")

// TestWriteCorpus makes the checked-in seeds, requests in the shapes of real
// devices.
//
//	go test ./internal/pkcs10 -run TestWriteCorpus -write-corpus
func TestWriteCorpus(t *testing.T) {
	if !*writeCorpus {
		t.Skip("seeds are checked in; -write-corpus makes them anew")
	}
	dir := filepath.Join("testdata", "fuzz", "FuzzPKCS10")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	challenge := attribute(pkcs10.OIDChallengePassword, der(cbasn1.PrintableString, []byte("MIIabc+/=")))
	usage := extension(pkcs10.OIDKeyUsage, []byte{3, 2, 5, 0xa0})
	san := extension(pkcs10.OIDSubjectAltName, seq(
		der(0xa0, oid(pkcs10.OIDUserPrincipalName), der(0xa0, der(cbasn1.UTF8String, []byte("anna@contoso.com")))),
		der(0x82, []byte("a.example")), der(0x87, []byte{192, 0, 2, 1}),
		der(0x86, []byte("tag:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-1001"))))
	eku := extension(pkcs10.OIDExtKeyUsage, seq(oid(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2})))
	for name, c := range map[string]csr{
		"apple": {attributes: [][]byte{challenge, attribute(pkcs10.OIDExtensionRequest, seq(usage, san))}},
		"windows": {sha1: true, attributes: [][]byte{
			attribute(pkcs10.OIDOSVersion, der(cbasn1.IA5String, []byte("10.0.26100.2"))), challenge,
			attribute(pkcs10.OIDMicrosoftExtensions, seq(usage, eku, san)), pair("ValidityPeriod", "Days"), pair("ValidityPeriodUnits", "30")}},
		"android": {subject: seq(rdn(cn, cbasn1.PrintableString, "anna_b@contoso.com")), attributes: [][]byte{
			challenge, attribute(pkcs10.OIDExtensionRequest, seq(eku)), pair("ValidityPeriod", "2"), pair("ValidityPeriodUnits", "Years")}},
		"router": {noField: true},
	} {
		text := fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n", c.build(t))
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
