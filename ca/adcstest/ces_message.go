package adcstest

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"text/template"
	"time"
)

// soapQuestion is what the services read of a message. It shares nothing with
// what a client of ours writes.
type soapQuestion struct {
	XMLName xml.Name `xml:"http://www.w3.org/2003/05/soap-envelope Envelope"`
	Header  struct {
		Action    string `xml:"http://www.w3.org/2005/08/addressing Action"`
		MessageID string `xml:"http://www.w3.org/2005/08/addressing MessageID"`
		To        string `xml:"http://www.w3.org/2005/08/addressing To"`
		Security  *struct {
			Timestamp *struct {
				Created time.Time `xml:"http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd Created"`
				Expires time.Time `xml:"http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd Expires"`
			} `xml:"http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd Timestamp"`
			Token *struct {
				Username string `xml:"http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd Username"`
				Password struct {
					Type string `xml:"Type,attr"`
					Text string `xml:",chardata"`
				} `xml:"http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd Password"`
			} `xml:"http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd UsernameToken"`
		} `xml:"http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd Security"`
	} `xml:"http://www.w3.org/2003/05/soap-envelope Header"`
	Body struct {
		Token    *soapToken `xml:"http://docs.oasis-open.org/ws-sx/ws-trust/200512 RequestSecurityToken"`
		Policies *struct {
			Client struct {
				LastUpdate string `xml:"http://schemas.microsoft.com/windows/pki/2009/01/enrollmentpolicy lastUpdate"`
			} `xml:"http://schemas.microsoft.com/windows/pki/2009/01/enrollmentpolicy client"`
		} `xml:"http://schemas.microsoft.com/windows/pki/2009/01/enrollmentpolicy GetPolicies"`
	} `xml:"http://www.w3.org/2003/05/soap-envelope Body"`
}

type soapToken struct {
	TokenType   string `xml:"http://docs.oasis-open.org/ws-sx/ws-trust/200512 TokenType"`
	RequestType string `xml:"http://docs.oasis-open.org/ws-sx/ws-trust/200512 RequestType"`
	Binary      *struct {
		ValueType    string `xml:"ValueType,attr"`
		EncodingType string `xml:"EncodingType,attr"`
		Text         string `xml:",chardata"`
	} `xml:"http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd BinarySecurityToken"`
	Context []struct {
		Name  string `xml:"Name,attr"`
		Value string `xml:"http://schemas.xmlsoap.org/ws/2006/12/authorization Value"`
	} `xml:"http://schemas.xmlsoap.org/ws/2006/12/authorization AdditionalContext>ContextItem"`
	RequestID string `xml:"http://schemas.microsoft.com/windows/pki/2009/01/enrollment RequestID"`
}

// soapError is a fault that answers a message.
type soapError struct {
	code, subcode string // of s:Code; subcode "" or a name of its own namespace
	space         string // of subcode
	reason        string
	hresult       int32
	invalid       bool
	requestID     uint32
	detail        bool // CertificateEnrollmentWSDetail is there
}

const (
	secextSpace    = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"
	wcfSpace       = "http://schemas.microsoft.com/net/2005/12/windowscommunicationfoundation/dispatcher"
	enrollSpace    = "http://schemas.microsoft.com/windows/pki/2009/01/enrollment"
	trustSpace     = "http://docs.oasis-open.org/ws-sx/ws-trust/200512"
	policySpace    = "http://schemas.microsoft.com/windows/pki/2009/01/enrollmentpolicy"
	addressSpace   = "http://www.w3.org/2005/08/addressing"
	wrongSecurity  = "An error occurred when verifying security for the message."
	wrongUser      = "At least one security token in the message could not be validated."
	internalReason = "The server was unable to process the request due to an internal error."
)

// readQuestion reads a message and who sent it, if the transport did not tell.
func (s *SOAP) readQuestion(r *http.Request, account string) (*soapQuestion, string, *soapError) {
	kind, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/soap+xml" || !strings.EqualFold(parameters["charset"], "utf-8") {
		return nil, "", &soapError{code: "Sender", reason: "Content Type was not supported by the service."}
	}
	b, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	var q soapQuestion
	if err != nil || xml.Unmarshal(b, &q) != nil {
		return nil, "", &soapError{code: "Sender", subcode: "DeserializationFailed", space: wcfSpace, reason: "The message does not read."}
	}
	s.note(q.Header.Action)
	if q.Header.MessageID == "" || q.Header.To == "" {
		return &q, "", &soapError{code: "Sender", subcode: "MessageAddressingHeaderRequired", space: addressSpace, reason: "A required header is missing."}
	}
	if account != "" { // the transport knows
		return &q, account, nil
	}
	security := q.Header.Security
	if security == nil || security.Token == nil || security.Timestamp == nil {
		return &q, "", &soapError{code: "Sender", subcode: "InvalidSecurity", space: secextSpace, reason: wrongSecurity}
	}
	now := time.Now()
	if security.Timestamp.Created.After(now.Add(5*time.Minute)) || !security.Timestamp.Expires.After(now.Add(-5*time.Minute)) {
		return &q, "", &soapError{code: "Sender", subcode: "InvalidSecurity", space: secextSpace, reason: wrongSecurity}
	}
	want, ok := s.ca.Password(security.Token.Username)
	if !ok || security.Token.Password.Text != want || !strings.HasSuffix(security.Token.Password.Type, "#PasswordText") {
		return &q, "", &soapError{code: "Sender", subcode: "FailedAuthentication", space: secextSpace, reason: wrongUser}
	}
	return &q, security.Token.Username, nil
}

// soapTemplates are the messages of the services, as [MS-WSTEP], section 4 and
// [MS-XCEP], section 4 print them.
var soapTemplates = template.Must(template.New("").Funcs(template.FuncMap{
	"x": func(v any) string {
		var b bytes.Buffer
		xml.EscapeText(&b, fmt.Append(nil, v))
		return b.String()
	},
	// Windows breaks base64 into lines, with a character reference for the
	// carriage return.
	"b64": func(der []byte) string {
		text := base64.StdEncoding.EncodeToString(der)
		var b strings.Builder
		for len(text) > 64 {
			b.WriteString(text[:64] + "&#xD;\n")
			text = text[64:]
		}
		return b.String() + text + "&#xD;\n"
	},
}).Parse(envelopeText + policyText + tokenText + faultText))

const envelopeText = `{{define "envelope"}}<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://www.w3.org/2005/08/addressing" xmlns:u="http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd">
<s:Header><a:Action s:mustUnderstand="1">{{x .Action}}</a:Action>
{{- if .RelatesTo}}<a:RelatesTo>{{x .RelatesTo}}</a:RelatesTo>{{end -}}
<ActivityId CorrelationId="4f0e4425-4883-41c1-b704-771135d18f84" xmlns="http://schemas.microsoft.com/2004/09/ServiceModel/Diagnostics">eda7e63d-0c42-455d-9c4f-47ab85803a50</ActivityId>
{{- if .Created}}<o:Security s:mustUnderstand="1" xmlns:o="http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd"><u:Timestamp u:Id="_0"><u:Created>{{.Created}}</u:Created></u:Timestamp></o:Security>{{end -}}
</s:Header>
<s:Body xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema">{{.Body}}</s:Body></s:Envelope>{{end}}`

const faultText = `{{define "fault"}}<s:Fault><s:Code><s:Value>s:{{.Code}}</s:Value>
{{- if .Subcode}}<s:Subcode><s:Value xmlns:q="{{x .Space}}">q:{{.Subcode}}</s:Value></s:Subcode>{{end -}}
</s:Code><s:Reason><s:Text xml:lang="en-US">{{x .Reason}}</s:Text></s:Reason>
{{- if .Detail}}<s:Detail><CertificateEnrollmentWSDetail xmlns="http://schemas.microsoft.com/windows/pki/2009/01/enrollment"><BinaryResponse xsi:nil="true"/><ErrorCode>{{.HResult}}</ErrorCode><InvalidRequest>{{.Invalid}}</InvalidRequest>
{{- if .RequestID}}<RequestID>{{.RequestID}}</RequestID>{{else}}<RequestID xsi:nil="true"/>{{end -}}
</CertificateEnrollmentWSDetail></s:Detail>{{end -}}
</s:Fault>{{end}}`

// render fills a template.
func render(name string, data any) string {
	var b strings.Builder
	if err := soapTemplates.ExecuteTemplate(&b, name, data); err != nil {
		panic(fmt.Sprintf("SOAP face: %v", err)) // the templates are ours
	}
	return b.String()
}

// soapReply is the envelope of an answer.
type soapReply struct{ Action, RelatesTo, Created, Body string }

// answer sends an envelope.
func (s *SOAP) answer(w http.ResponseWriter, status int, reply soapReply) {
	text := render("envelope", reply)
	if s.ca.takeFault(CorruptReply) {
		text = text[:len(text)/2]
	}
	w.Header().Set("Content-Type", "application/soap+xml; charset=utf-8")
	w.Header().Set("Server", "Microsoft-IIS/10.0")
	w.WriteHeader(status)
	io.WriteString(w, text)
}

// fail sends a fault.
func (s *SOAP) fail(w http.ResponseWriter, relatesTo string, e *soapError) {
	action := wcfSpace + "/fault"
	if e.detail {
		action = enrollSpace + "/RequestSecurityTokenCertificateEnrollmentWSDetailFault"
	}
	body := render("fault", map[string]any{
		"Code": e.code, "Subcode": e.subcode, "Space": e.space, "Reason": e.reason,
		"Detail": e.detail, "HResult": e.hresult, "Invalid": e.invalid, "RequestID": e.requestID,
	})
	s.answer(w, http.StatusInternalServerError, soapReply{Action: action, RelatesTo: relatesTo, Body: body})
}
