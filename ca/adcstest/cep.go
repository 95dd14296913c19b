package adcstest

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

const policyText = `{{define "policy"}}<GetPoliciesResponse xmlns="http://schemas.microsoft.com/windows/pki/2009/01/enrollmentpolicy">
<response><policyID>{3c3a8d1e-91b5-4f3e-8a1f-0d6a3f5a7b01}</policyID><policyFriendlyName>Corp Enrollment Policy</policyFriendlyName>
{{- if .Hours}}<nextUpdateHours>{{.Hours}}</nextUpdateHours>{{else}}<nextUpdateHours xsi:nil="true"/>{{end -}}
{{- if .NotChanged}}<policiesNotChanged>true</policiesNotChanged><policies xsi:nil="true"/></response><cAs xsi:nil="true"/><oIDs xsi:nil="true"/>
{{- else}}<policiesNotChanged xsi:nil="true"/><policies>
{{- range .Templates}}
<policy><policyOIDReference>{{.Reference}}</policyOIDReference><cAs><cAReference>0</cAReference></cAs><attributes>
<commonName>{{x .Name}}</commonName><policySchema>2</policySchema>
<certificateValidity><validityPeriodSeconds>{{.Seconds}}</validityPeriodSeconds><renewalPeriodSeconds>3628800</renewalPeriodSeconds></certificateValidity>
<permission><enroll>{{.Enroll}}</enroll><autoEnroll>false</autoEnroll></permission>
<privateKeyAttributes><minimalKeyLength>{{.Bits}}</minimalKeyLength><keySpec>1</keySpec><keyUsageProperty xsi:nil="true"/><permissions xsi:nil="true"/><algorithmOIDReference xsi:nil="true"/><cryptoProviders xsi:nil="true"/></privateKeyAttributes>
<revision><majorRevision>100</majorRevision><minorRevision>2</minorRevision></revision><supersededPolicies xsi:nil="true"/>
<privateKeyFlags>0</privateKeyFlags><subjectNameFlags>{{.SubjectFlags}}</subjectNameFlags><enrollmentFlags>0</enrollmentFlags><generalFlags>131584</generalFlags>
<hashAlgorithmOIDReference xsi:nil="true"/><rARequirements xsi:nil="true"/><keyArchivalAttributes xsi:nil="true"/><extensions xsi:nil="true"/>
</attributes></policy>
{{- end}}
</policies></response>
<cAs><cA><uris>
{{- range .Services}}<cAURI><clientAuthentication>{{.Kind}}</clientAuthentication><uri>{{x .URI}}</uri><priority>{{.Priority}}</priority><renewalOnly>{{.RenewalOnly}}</renewalOnly></cAURI>{{end -}}
</uris><certificate>{{b64 .Certificate}}</certificate><enrollPermission>{{.Enroll}}</enrollPermission><cAReferenceID>0</cAReferenceID></cA></cAs>
<oIDs>{{range .Templates}}<oID><value>{{.OID}}</value><group>9</group><oIDReferenceID>{{.Reference}}</oIDReferenceID><defaultName>{{x .DisplayName}}</defaultName></oID>{{end}}</oIDs>
{{- end}}</GetPoliciesResponse>{{end}}`

// cepService is a cAURI.
type cepService struct {
	Kind, Priority int
	URI            string
	RenewalOnly    bool
}

// cepTemplate is a policy.
type cepTemplate struct {
	Template
	Reference, Bits, Seconds int
	SubjectFlags             uint32
	Enroll                   bool
}

// policy is the policy service ([MS-XCEP], section 3.1.4.1). It shows the
// templates that the caller may enrol for.
func (s *SOAP) policy(w http.ResponseWriter, r *http.Request, account string) {
	if s.take(PolicyDown) {
		http.Error(w, "Runtime Error", http.StatusInternalServerError)
		return
	}
	q, account, e := s.readQuestion(r, account)
	if e == nil && (q.Header.Action != policySpace+"/IPolicy/GetPolicies" || q.Body.Policies == nil) {
		e = &soapError{code: "Sender", subcode: "ActionNotSupported", space: addressSpace, reason: "The message cannot be processed at the receiver, due to an action mismatch."}
	}
	if e != nil {
		id := ""
		if q != nil {
			id = q.Header.MessageID
		}
		s.fail(w, id, e)
		return
	}
	body := render("policy", map[string]any{
		"Hours": s.options.NextUpdateHours, "NotChanged": s.options.NotChanged && q.Body.Policies.Client.LastUpdate != "",
		"Templates": s.policies(account), "Services": s.services(),
		"Certificate": s.ca.cert.Raw, "Enroll": s.ca.Roles(account)&RoleEnroll != 0,
	})
	w.Header().Set("Date", time.Now().UTC().Format(http.TimeFormat))
	s.answer(w, http.StatusOK, soapReply{Action: policySpace + "/IPolicy/GetPoliciesResponse", RelatesTo: q.Header.MessageID, Body: body})
}

func (s *SOAP) policies(account string) []cepTemplate {
	var list []cepTemplate
	for i, t := range s.ca.Templates() {
		may := slices.ContainsFunc(s.ca.account(account).Enroll, func(name string) bool { return strings.EqualFold(name, t.Name) })
		if !may {
			continue
		}
		p := cepTemplate{Template: t, Reference: i, Bits: t.MinRSABits, Seconds: int(t.Validity / time.Second), Enroll: true}
		if t.SubjectFromRequest {
			p.SubjectFlags = 1
		} else {
			p.SubjectFlags = 0x82000000 // directory path, and the user's principal name
		}
		list = append(list, p)
	}
	return list
}

// services are the CES addresses: those of each kind, a plain one that no
// client may take, and one for renewals alone of the best priority.
func (s *SOAP) services() []cepService {
	list := []cepService{{Kind: soapKinds[SOAPUser], Priority: 0, URI: "http://127.0.0.1/plain/service.svc/CES"}}
	for _, kind := range []string{SOAPCertificate, SOAPUser, SOAPKerberos} {
		list = append(list,
			cepService{Kind: soapKinds[kind], Priority: 10, URI: s.Enrollment(kind)},
			cepService{Kind: soapKinds[kind], Priority: 1, URI: s.URL + "/renewal/service.svc/CES", RenewalOnly: true})
		if s.options.DeadFirst {
			list = append(list, cepService{Kind: soapKinds[kind], Priority: 5, URI: "https://127.0.0.1:1/dead/service.svc/CES"})
		}
	}
	return list
}
