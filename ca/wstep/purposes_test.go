package wstep

import (
	"crypto/x509"
	"testing"

	"github.com/certconnector/certconnector/ca"
)

const purposesPolicy = `<GetPoliciesResponse xmlns="http://schemas.microsoft.com/windows/pki/2009/01/enrollmentpolicy"><response><policies>
<policy><attributes><commonName>Signing</commonName><extensions>
 <extension><oIDReference>1</oIDReference><critical>true</critical><value>AwIHgA==</value></extension>
 <extension><oIDReference>2</oIDReference><critical>false</critical><value>MAoGCCsGAQUFBwMC</value></extension>
</extensions></attributes></policy>
<policy><attributes><commonName>Broken</commonName><extensions>
 <extension><oIDReference>2</oIDReference><critical>false</critical><value>MAoGCCsGAQUF</value></extension>
</extensions></attributes></policy>
<policy><attributes><commonName>Silent</commonName><extensions/></attributes></policy>
</policies></response><oIDs>
<oID><value>2.5.29.15</value><oIDReferenceID>1</oIDReferenceID></oID><oID><value>2.5.29.37</value><oIDReferenceID>2</oIDReferenceID></oID>
</oIDs></GetPoliciesResponse>`

func TestPolicyTellsPurposes(t *testing.T) {
	top, err := parseXML([]byte(`<Body>` + purposesPolicy + `</Body>`))
	if err != nil {
		t.Fatal(err)
	}
	all := readPurposes(top)
	signing := all["Signing"]
	if !signing.Purposes || signing.KeyUsage != x509.KeyUsageDigitalSignature || len(signing.EKU) != 1 || signing.EKU[0].String() != "1.3.6.1.5.5.7.3.2" {
		t.Errorf("Signing: %+v", signing)
	}
	if all["Broken"].Purposes || all["Silent"].Purposes {
		t.Error("purposes that do not read, or are not there, count as known")
	}
	signing.Enroll, signing.SubjectFromRequest = true, true
	for _, f := range (ca.WantedTemplate{Name: "Signing", Purpose: ca.ForEncryption, EKU: signing.EKU}).Compare(signing) {
		if f.ID == ca.CheckTemplatePurpose && f.Level != ca.Failure {
			t.Errorf("a template for signatures does for encryption: %v", f)
		}
	}
}
