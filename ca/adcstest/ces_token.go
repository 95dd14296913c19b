package adcstest

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

const tokenText = `{{define "token"}}<RequestSecurityTokenResponseCollection xmlns="http://docs.oasis-open.org/ws-sx/ws-trust/200512">
<RequestSecurityTokenResponse>
<TokenType>http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-x509-token-profile-1.0#X509v3</TokenType>
<DispositionMessage xml:lang="en-US" xmlns="http://schemas.microsoft.com/windows/pki/2009/01/enrollment">{{x .Message}}</DispositionMessage>
<BinarySecurityToken ValueType="http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd#PKCS7" EncodingType="http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd#base64binary" xmlns="http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd">{{b64 .Chain}}</BinarySecurityToken>
{{- if .Certificate}}
<RequestedSecurityToken>
<BinarySecurityToken ValueType="http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-x509-token-profile-1.0#X509v3" EncodingType="http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd#base64binary" xmlns="http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd">{{b64 .Certificate}}</BinarySecurityToken>
</RequestedSecurityToken>
{{- else if .Reference}}
<RequestedSecurityToken>
<SecurityTokenReference xmlns="http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"><Reference URI="{{x .Reference}}"/></SecurityTokenReference>
</RequestedSecurityToken>
{{- end}}
<RequestID xmlns="http://schemas.microsoft.com/windows/pki/2009/01/enrollment">{{.RequestID}}</RequestID>
</RequestSecurityTokenResponse>
</RequestSecurityTokenResponseCollection>{{end}}`

// enroll is the enrolment service ([MS-WSTEP], section 3.1.4.2).
func (s *SOAP) enroll(w http.ResponseWriter, r *http.Request, account string) {
	switch {
	case s.take(Redirect):
		http.Redirect(w, r, "https://elsewhere.corp.test/", http.StatusFound)
		return
	case s.take(BareUnavailable):
		http.Error(w, "upstream connect error", http.StatusServiceUnavailable)
		return
	case s.ca.takeFault(GarbagePage):
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, "<html><body>Welcome to the guest network</body></html>")
		return
	}
	q, account, e := s.readQuestion(r, account)
	if e == nil && q.Header.Action != enrollSpace+"/RST/wstep" {
		e = &soapError{code: "Sender", subcode: "ActionNotSupported", space: addressSpace, reason: "The message cannot be processed at the receiver, due to an action mismatch."}
	}
	var o Outcome
	if e == nil {
		o, e = s.process(r, q.Body.Token, account)
	}
	s.ca.stall(r.Context())
	if e == nil && s.ca.takeFault(DropAfterIssue) {
		cut(w)
		return
	}
	if e == nil && s.take(InternalFault) {
		e = &soapError{code: "Receiver", subcode: "InternalServiceFault", space: wcfSpace, reason: internalReason}
	}
	switch {
	case q == nil:
		s.fail(w, "", e)
	case e != nil:
		s.fail(w, q.Header.MessageID, e)
	default:
		s.token(w, r, q, o)
	}
}

// process has the CA do what a message asks for.
func (s *SOAP) process(r *http.Request, token *soapToken, account string) (Outcome, *soapError) {
	invalid := &soapError{code: "Sender", reason: "The request is not valid.", hresult: InvalidArgument, detail: true}
	if token == nil || !strings.HasSuffix(token.TokenType, "#X509v3") {
		return Outcome{}, invalid
	}
	var o Outcome
	switch token.RequestType {
	case trustSpace + "/Issue":
		if token.Binary == nil || token.Binary.ValueType != enrollSpace+"#PKCS10" || token.Binary.EncodingType != secextSpace+"#base64binary" {
			return o, invalid
		}
		csr, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(token.Binary.Text), ""))
		if err != nil {
			return o, invalid
		}
		var attributes strings.Builder
		for _, item := range token.Context {
			fmt.Fprintf(&attributes, "%s:%s\n", item.Name, item.Value)
		}
		o = s.ca.Submit(r.Context(), account, attributes.String(), csr)
	case enrollSpace + "/QueryTokenStatus":
		id, err := strconv.ParseUint(strings.TrimSpace(token.RequestID), 10, 32)
		if err != nil {
			return o, invalid
		}
		o = s.ca.Retrieve(account, uint32(id), "")
	default:
		return o, invalid
	}
	if o.Disposition == DispositionIssued || o.Disposition == DispositionUnderSubmission {
		return o, nil
	}
	return o, &soapError{
		code: "Receiver", reason: o.Message, hresult: o.HResult, requestID: o.RequestID, detail: true,
		invalid: o.Disposition == DispositionDenied || o.Disposition == DispositionFailed,
	}
}

// token sends a certificate, or where to ask for one later.
func (s *SOAP) token(w http.ResponseWriter, r *http.Request, q *soapQuestion, o Outcome) {
	id := o.RequestID
	if s.take(OtherRequestID) {
		id += 1000
	}
	data := map[string]any{"Message": o.Message, "Chain": o.Chain, "Certificate": o.Certificate, "Reference": "", "RequestID": id}
	if o.Disposition == DispositionUnderSubmission {
		// A real one is a CMC full response of status pending; to a client it is
		// a SignedData with the CA's certificates alike.
		data["Chain"], data["Certificate"] = certsOnly(s.ca.cert.Raw, s.ca.root.Raw), []byte(nil)
		data["Reference"] = s.URL + r.URL.Path
	} else if s.take(OnlyCMC) {
		data["Certificate"] = []byte(nil)
	}
	reply := soapReply{Action: enrollSpace + "/RSTRC/wstep", RelatesTo: q.Header.MessageID, Body: render("token", data)}
	if q.Header.Security != nil {
		reply.Created = time.Now().UTC().Format(time.RFC3339)
	}
	switch {
	case s.take(WrongRelatesTo):
		reply.RelatesTo = "urn:uuid:00000000-0000-4000-8000-000000000000"
	case s.take(WrongAction):
		reply.Action = policySpace + "/IPolicy/GetPoliciesResponse"
	case s.take(EndlessReply):
		reply.Body += strings.Repeat(" ", 2<<20)
	case s.take(DeepReply):
		reply.Body = strings.Repeat("<d>", 5000) + strings.Repeat("</d>", 5000)
	case s.take(DocumentType):
		w.Header().Set("Content-Type", "application/soap+xml; charset=utf-8")
		io.WriteString(w, `<!DOCTYPE s [<!ENTITY e SYSTEM "file:///etc/hostname">]>`+render("envelope", reply))
		return
	}
	s.answer(w, http.StatusOK, reply)
}
