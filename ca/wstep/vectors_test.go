package wstep

import (
	"bytes"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/internal/pkcs10"
)

// vectorID is the message that the replies in testdata relate to.
const vectorID = "urn:uuid:5eed0000-0000-4000-8000-000000004711"

func vector(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatalf("reading a message: %v", err)
	}
	return b
}

func vectorCSR(t testing.TB) *pkcs10.Request {
	t.Helper()
	block, _ := pem.Decode(vector(t, "request.csr.pem"))
	csr, err := pkcs10.Parse(block.Bytes)
	if err != nil {
		t.Fatalf("reading a request: %v", err)
	}
	return csr
}

var (
	tokenQuestion  = question{replyAction: actionTokenReply}
	policyQuestion = question{replyAction: actionPoliciesReply, loose: true}
)

func TestQuestionsAreThoseOfTheDocuments(t *testing.T) {
	at := time.Date(2026, 1, 5, 10, 0, 0, 0, time.UTC)
	const ces = "https://pki.corp.test/Vector%20CA_CES_UsernamePassword/service.svc/CES"
	c := &CA{config: Config{SendValidity: true}}
	attributes := c.attributes(ca.Request{Template: "VectorDevice & Co", Validity: 20 * 24 * time.Hour})
	for _, q := range []struct {
		name, action, to string
		content          any
		user             *User
	}{
		{"ask-issue.xml", actionToken, ces, issueQuestion(vectorCSR(t).Raw, attributes), &User{`CORP\vector`, "a<b&c"}},
		{"ask-status.xml", actionToken, ces, statusQuestion("65"), nil},
		{"ask-policies.xml", actionPolicies, "https://pki.corp.test/ADPolicyProvider_CEP_Kerberos/service.svc/CEP", policiesQuestion(at), nil},
	} {
		written, err := write(q.action, vectorID, q.to, q.content, q.user, at)
		if err != nil {
			t.Fatalf("%s: %v", q.name, err)
		}
		got, err := parseXML(written)
		if err != nil {
			t.Fatalf("%s: what was written does not read: %v", q.name, err)
		}
		want, err := parseXML(vector(t, q.name))
		if err != nil {
			t.Fatalf("%s: %v", q.name, err)
		}
		if at, ok := same(got, want); !ok {
			t.Errorf("%s differs at %s:\n%s", q.name, at, written)
		}
		wellFormed(t, q.name, written)
	}
}

// same compares two documents, whatever their prefixes and white space
// between elements.
func same(a, b *element) (where string, ok bool) {
	if a.name != b.name || a.content() != b.content() || len(a.children) != len(b.children) || !slices.Equal(attributesOf(a), attributesOf(b)) {
		return a.name.Local, false
	}
	for i := range a.children {
		if where, ok := same(a.children[i], b.children[i]); !ok {
			return a.name.Local + "/" + where, false
		}
	}
	return "", true
}

// attributesOf are those that declare no namespace, in an order.
func attributesOf(e *element) []string {
	var list []string
	for _, a := range e.attrs {
		if a.Name.Space != "xmlns" && a.Name.Local != "xmlns" {
			list = append(list, a.Name.Space+" "+a.Name.Local+"="+a.Value)
		}
	}
	slices.Sort(list)
	return list
}

// wellFormed asks a parser that is not Go's, where there is one.
func wellFormed(t *testing.T, name string, document []byte) {
	t.Helper()
	for _, judge := range [][]string{
		{"xmllint", "--noout", "--nonet", "-"},
		{"python3", "-c", "import sys, xml.dom.minidom; xml.dom.minidom.parseString(sys.stdin.buffer.read())"},
	} {
		if path, err := exec.LookPath(judge[0]); err == nil {
			cmd := exec.Command(path, judge[1:]...)
			cmd.Stdin = bytes.NewReader(document)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s says of %s: %v\n%s", judge[0], name, err, out)
			}
		}
	}
}

func TestTokenRepliesOfTheDocuments(t *testing.T) {
	csr := vectorCSR(t)
	read := func(name string, spki []byte) *answer {
		t.Helper()
		r, err := readReply(vector(t, name), tokenQuestion, vectorID)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		a, err := readAnswer(r.body, spki)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return a
	}
	a := read("issued.xml", csr.RawSubjectPublicKeyInfo)
	if a.requestID != "61" || a.message != "Ausgestellt" || a.certificate == nil || a.certificate.SerialNumber.Int64() != 0x4711 ||
		!bytes.Equal(a.certificate.RawSubjectPublicKeyInfo, csr.RawSubjectPublicKeyInfo) || len(a.others) != 2 {
		t.Errorf("issued: %+v", a)
	}
	// The PKCS #7 of this one holds a certificate that fits; the reference says
	// that it is not ours yet.
	for _, spki := range [][]byte{csr.RawSubjectPublicKeyInfo, nil} {
		if a := read("pending.xml", spki); a.requestID != "65" || a.certificate != nil {
			t.Errorf("pending: %+v", a)
		}
	}
}

func TestFaultsOfTheDocuments(t *testing.T) {
	for _, c := range []struct {
		name   string
		code   int32 // of *ca.Denied; 0: another error
		is     []error
		isNot  error
		fields fault
	}{
		{"denied.xml", ca.HResultTemplateDenied, nil, ca.ErrUnavailable, fault{code: "Receiver", hresult: ca.HResultTemplateDenied, invalid: true, id: "66"}},
		{"suspended.xml", 0, []error{ca.ErrUnavailable}, ca.ErrOutcomeUnknown, fault{code: "Receiver", hresult: code(0x80094006)}},
		{"internal.xml", 0, []error{ca.ErrOutcomeUnknown}, ca.ErrUnavailable, fault{code: "Receiver", subcode: "InternalServiceFault"}},
		{"credentials.xml", 0, []error{ca.ErrUnavailable, ca.ErrForbidden}, ca.ErrOutcomeUnknown, fault{code: "Sender", subcode: "FailedAuthentication"}},
	} {
		_, err := readReply(vector(t, c.name), tokenQuestion, vectorID)
		f, ok := errors.AsType[*fault](err)
		if !ok {
			t.Errorf("%s: got error %v, want a fault", c.name, err)
			continue
		}
		fields := *f
		fields.reason = ""
		if fields != c.fields {
			t.Errorf("%s: read %+v, want %+v", c.name, fields, c.fields)
		}
		outcome := f.outcome()
		denied, isDenied := errors.AsType[*ca.Denied](outcome)
		if isDenied != (c.code != 0) || isDenied && (denied.HResult != c.code || denied.Text == "") {
			t.Errorf("%s: got error %v, want denied with 0x%08X", c.name, outcome, uint32(c.code))
		}
		for _, want := range c.is {
			if !errors.Is(outcome, want) {
				t.Errorf("%s: got error %v, want one that is %v", c.name, outcome, want)
			}
		}
		if errors.Is(outcome, c.isNot) {
			t.Errorf("%s: got error %v, which must not be %v", c.name, outcome, c.isNot)
		}
	}
}

func TestPoliciesOfTheDocuments(t *testing.T) {
	r, err := readReply(vector(t, "policies.xml"), policyQuestion, vectorID)
	if err != nil {
		t.Fatalf("readReply: %v", err)
	}
	p, err := readPolicy(r.body)
	if err != nil || len(p.cas) != 1 || len(p.templates) != 1 {
		t.Fatalf("readPolicy: %+v, %v", p, err)
	}
	if p.update != 12*time.Hour || p.unchanged || p.cas[0].certificate.Subject.CommonName != "Vector CA" || !p.cas[0].enroll {
		t.Errorf("policy %+v", p)
	}
	got := p.templates[0]
	if got.Name != "VectorDevice" || got.OID != "1.3.6.1.4.1.311.21.8.1.2.3.4.5.6.7.8" || !got.Enroll || !got.SubjectFromRequest ||
		got.MinKeyBits != 3072 || got.Validity != 365*24*time.Hour || got.Signatures != 1 || !slices.Equal(got.cas, []int{0}) {
		t.Errorf("template %+v", got)
	}
	for kind, want := range map[int][]string{
		byKerberos:    {"https://pki2.corp.test/Vector%20CA_CES_Kerberos/service.svc/CES", "https://pki.corp.test/Vector%20CA_CES_Kerberos/service.svc/CES"},
		byUser:        {"https://pki.corp.test/Vector%20CA_CES_UsernamePassword/service.svc/CES"},
		byCertificate: nil, // http alone
	} {
		if got := p.cas[0].addresses(kind); !slices.Equal(got, want) {
			t.Errorf("kind %d: addresses %q, want %q", kind, got, want)
		}
	}
	r, err = readReply(vector(t, "unchanged.xml"), policyQuestion, vectorID)
	if err != nil {
		t.Fatalf("unchanged: readReply: %v", err)
	}
	if p, err := readPolicy(r.body); err != nil || !p.unchanged || p.update != 8*time.Hour || len(p.cas)+len(p.templates) != 0 {
		t.Errorf("unchanged: %+v, %v", p, err)
	}
}

func TestRepliesThatAreNotBelieved(t *testing.T) {
	issued := vector(t, "issued.xml")
	cut := func(old, replacement string) []byte {
		t.Helper()
		if !bytes.Contains(issued, []byte(old)) {
			t.Fatalf("the message has no %q", old)
		}
		return bytes.Replace(issued, []byte(old), []byte(replacement), 1)
	}
	for name, b := range map[string][]byte{
		"other message":                         cut("000000004711<", "000000004712<"),
		"no message":                            cut("<a:RelatesTo>"+vectorID+"</a:RelatesTo>", ""),
		"other action":                          cut("RSTRC/wstep", "RST/wstep"),
		"SOAP 1.1":                              cut("http://www.w3.org/2003/05/soap-envelope", "http://schemas.xmlsoap.org/soap/envelope/"),
		"WS-Trust of another year":              cut("ws-sx/ws-trust/200512", "ws-sx/ws-trust/200802"),
		"enrolment in another namespace":        cut("<RequestID xmlns=\""+nsEnroll+"\">61</RequestID>", "<RequestID xmlns=\""+nsEnroll+"\">6 1</RequestID>"),
		"two responses":                         cut("<RequestSecurityTokenResponse>", "<RequestSecurityTokenResponse/><RequestSecurityTokenResponse>"),
		"two tokens":                            cut("<RequestedSecurityToken>", "<RequestedSecurityToken/><RequestedSecurityToken>"),
		"token that is no base64":               cut("<RequestedSecurityToken>\n", "<RequestedSecurityToken><BinarySecurityToken xmlns=\""+nsSecurity+"\">%%</BinarySecurityToken>"),
		"document type":                         append([]byte("<!DOCTYPE x>"), issued...),
		"something behind the end":              append(bytes.Clone(issued), "<more/>"...),
		"another encoding than UTF-8":           append([]byte(`<?xml version="1.0" encoding="utf-16"?>`), issued...),
		"entity of its own in the request's ID": cut(">61<", ">&id;<"),
	} {
		r, err := readReply(b, tokenQuestion, vectorID)
		if err == nil {
			_, err = readAnswer(r.body, nil)
		} else if !errors.Is(err, ca.ErrOutcomeUnknown) {
			t.Errorf("%s: got error %v, want ca.ErrOutcomeUnknown", name, err)
		}
		if err == nil {
			t.Errorf("%s: believed", name)
		}
	}
}

func TestHResults(t *testing.T) {
	for text, want := range map[string]int32{
		"-2146877422": ca.HResultTemplateDenied, "2148089874": ca.HResultTemplateDenied, "0": 0, "": 0,
		"-2147483649": 0, "4294967296": 0, "0x80094012": 0, "denied": 0,
	} {
		if got := readHResult(text); got != want {
			t.Errorf("%q: 0x%08X, want 0x%08X", text, uint32(got), uint32(want))
		}
	}
}

// A code that may come after the CA has issued is never taken for a refusal,
// and never for "not submitted".
func TestCodesThatDecideNothing(t *testing.T) {
	for _, hresult := range []uint32{0x80004005, 0x8000FFFF, 0x80010108, 0x800706BE, 0x800705B4, 0x80131500} {
		err := (&fault{code: "Receiver", hresult: code(hresult)}).outcome()
		if !errors.Is(err, ca.ErrOutcomeUnknown) || errors.Is(err, ca.ErrUnavailable) {
			t.Errorf("0x%08X: got error %v, want ca.ErrOutcomeUnknown alone", hresult, err)
		}
	}
}

func TestMessageIDsDiffer(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		seen[newMessageID()] = true
	}
	if len(seen) != 1000 {
		t.Errorf("%d of 1000 message IDs are different", len(seen))
	}
}
