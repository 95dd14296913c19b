package wstep

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"time"
)

// Actions (WS-Addressing) of questions and their replies.
const (
	actionPolicies      = nsPolicy + "/IPolicy/GetPolicies"
	actionPoliciesReply = nsPolicy + "/IPolicy/GetPoliciesResponse"
	actionToken         = nsEnroll + "/RST/wstep"
	actionTokenReply    = nsEnroll + "/RSTRC/wstep"
)

// Values of [MS-WSTEP], sections 3.1.4.1.2.7 and 3.1.4.1.2.8.
const (
	tokenType     = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-x509-token-profile-1.0#X509v3"
	requestIssue  = nsTrust + "/Issue"
	requestQuery  = nsEnroll + "/QueryTokenStatus"
	valuePKCS10   = nsEnroll + "#PKCS10"
	encodeBase64  = nsSecurity + "#base64binary"
	passwordText  = "http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-username-token-profile-1.0#PasswordText"
	anonymousBack = nsAddressing + "/anonymous"
)

// The messages as they are written. Their prefixes are declared in envelope
// and where they are first used; WCF, which answers, reads any.
type (
	envelope struct {
		XMLName    xml.Name `xml:"s:Envelope"`
		SOAP       string   `xml:"xmlns:s,attr"`
		Addressing string   `xml:"xmlns:a,attr"`
		Header     header   `xml:"s:Header"`
		Body       body     `xml:"s:Body"`
	}
	header struct {
		Action    must          `xml:"a:Action"`
		MessageID string        `xml:"a:MessageID"`
		ReplyTo   string        `xml:"a:ReplyTo>a:Address"`
		To        must          `xml:"a:To"`
		Security  *securityPart `xml:"o:Security"`
	}
	must struct {
		Understand int    `xml:"s:mustUnderstand,attr"`
		Text       string `xml:",chardata"`
	}
	body struct {
		Instance string `xml:"xmlns:xsi,attr"`
		Content  any
	}

	securityPart struct {
		Security   string    `xml:"xmlns:o,attr"`
		Utility    string    `xml:"xmlns:u,attr"`
		Understand int       `xml:"s:mustUnderstand,attr"`
		Timestamp  timestamp `xml:"u:Timestamp"`
		Token      userToken `xml:"o:UsernameToken"`
	}
	timestamp struct {
		ID      string `xml:"u:Id,attr"`
		Created string `xml:"u:Created"`
		Expires string `xml:"u:Expires"`
	}
	userToken struct {
		ID       string   `xml:"u:Id,attr"`
		Username string   `xml:"o:Username"`
		Password password `xml:"o:Password"`
	}
	password struct {
		Type string `xml:"Type,attr"`
		Text string `xml:",chardata"`
	}

	getPolicies struct {
		XMLName    xml.Name `xml:"GetPolicies"`
		Space      string   `xml:"xmlns,attr"`
		LastUpdate nillable `xml:"client>lastUpdate"`
		Language   nillable `xml:"client>preferredLanguage"`
		Filter     nillable `xml:"requestFilter"`
	}
	nillable struct {
		Nil  string `xml:"xsi:nil,attr,omitempty"`
		Text string `xml:",chardata"`
	}

	tokenRequest struct {
		XMLName     xml.Name     `xml:"RequestSecurityToken"`
		Space       string       `xml:"xmlns,attr"`
		TokenType   string       `xml:"TokenType"`
		RequestType string       `xml:"RequestType"`
		Token       *binaryToken `xml:"BinarySecurityToken"`
		Context     *extra       `xml:"auth:AdditionalContext"`
		RequestID   requestID    `xml:"RequestID"`
	}
	binaryToken struct {
		Space        string `xml:"xmlns,attr"`
		ValueType    string `xml:"ValueType,attr"`
		EncodingType string `xml:"EncodingType,attr"`
		Text         string `xml:",chardata"`
	}
	extra struct {
		Space string        `xml:"xmlns:auth,attr"`
		Items []contextItem `xml:"auth:ContextItem"`
	}
	contextItem struct {
		Name  string `xml:"Name,attr"`
		Value string `xml:"auth:Value"`
	}
	requestID struct {
		Space string `xml:"xmlns,attr"`
		Nil   string `xml:"xsi:nil,attr,omitempty"`
		Text  string `xml:",chardata"`
	}
)

// policiesQuestion asks for all policies, or whether they changed since the
// time (the service's own) of the last answer.
func policiesQuestion(since time.Time) getPolicies {
	q := getPolicies{Space: nsPolicy, LastUpdate: nillable{Nil: "true"}, Language: nillable{Nil: "true"}, Filter: nillable{Nil: "true"}}
	if !since.IsZero() {
		q.LastUpdate = nillable{Text: since.UTC().Format("2006-01-02T15:04:05Z")}
	}
	return q
}

// issueQuestion carries a PKCS #10 request and the request attributes.
func issueQuestion(csr []byte, attributes []contextItem) tokenRequest {
	q := tokenRequest{
		Space: nsTrust, TokenType: tokenType, RequestType: requestIssue,
		Token: &binaryToken{
			Space: nsSecurity, ValueType: valuePKCS10, EncodingType: encodeBase64,
			Text: base64.StdEncoding.EncodeToString(csr),
		},
		RequestID: requestID{Space: nsEnroll, Nil: "true"},
	}
	if len(attributes) > 0 {
		q.Context = &extra{Space: nsAuthorize, Items: attributes}
	}
	return q
}

// statusQuestion asks what became of a parked request.
func statusQuestion(id string) tokenRequest {
	return tokenRequest{
		Space: nsTrust, TokenType: tokenType, RequestType: requestQuery,
		RequestID: requestID{Space: nsEnroll, Text: id},
	}
}

// write puts a question into an envelope. user is nil where the transport
// signs in.
func write(action, id, to string, question any, user *User, now time.Time) ([]byte, error) {
	e := envelope{
		SOAP: nsSOAP, Addressing: nsAddressing,
		Header: header{Action: must{1, action}, MessageID: id, ReplyTo: anonymousBack, To: must{1, to}},
		Body:   body{Instance: nsInstance, Content: question},
	}
	if user != nil {
		const form = "2006-01-02T15:04:05.000Z"
		e.Header.Security = &securityPart{
			Security: nsSecurity, Utility: nsUtility, Understand: 1,
			// WCF wants a time stamp beside a token, and one that fits its clock
			// within five minutes.
			Timestamp: timestamp{"_0", now.UTC().Format(form), now.UTC().Add(5 * time.Minute).Format(form)},
			Token:     userToken{"user", user.Name, password{passwordText, user.Password.Reveal()}},
		}
	}
	b, err := xml.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("writing a SOAP message: %w", err)
	}
	return b, nil
}

// newMessageID is a random UUID (RFC 9562, section 5.4).
func newMessageID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
