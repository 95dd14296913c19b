package adcstest

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"html"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// words are what a page says to people. Programs must not need them.
type words struct {
	title, issued, issuedText, download     string
	pending, pendingText, pendingID         string
	denied, deniedText, dispositionText     string
	failed, failedText, disposition, result string
	underSubmission                         string
	mode                                    string
}

var english = words{
	title:  "Microsoft Active Directory Certificate Services",
	issued: "Certificate Issued", issuedText: "The certificate you requested was issued to you.", download: "Download certificate",
	pending: "Certificate Pending", pendingText: "Your certificate request has been received. Now an administrator has to issue it.",
	pendingID: "Your Request Id is %d.",
	denied:    "Certificate Request Denied", deniedText: "Your certificate request was denied.", dispositionText: "Your Request Id is %d. The disposition message is &quot;%s&quot;.",
	failed: "Error", failedText: "Your request failed. An error occurred while the server was processing it.",
	disposition: "Disposition message:", result: "Result:", underSubmission: "Taken Under Submission", mode: "Request Mode:",
}

var german = words{
	title:  "Microsoft Active Directory-Zertifikatdienste",
	issued: "Zertifikat wurde ausgestellt", issuedText: "Das angeforderte Zertifikat wurde Ihnen ausgestellt.", download: "Zertifikat herunterladen",
	pending: "Ausstehendes Zertifikat", pendingText: "Ihre Anforderung ist angekommen. Jetzt muss ein Administrator das Zertifikat ausstellen.",
	pendingID: "Die Anforderungskennung lautet %d.",
	denied:    "Zertifikatanforderung verweigert", deniedText: "Ihre Zertifikatanforderung wurde verweigert.", dispositionText: "Die Anforderungskennung lautet %d. Die Meldung ist &quot;%s&quot;.",
	failed: "Fehler", failedText: "Die Anforderung ist fehlgeschlagen. Beim Verarbeiten ist ein Fehler aufgetreten.",
	disposition: "Meldung:", result: "Ergebnis:", underSubmission: "In der Warteschlange", mode: "Modus:",
}

// pages answers /certsrv/ for one language.
type pages struct {
	ca    *CA
	words words
}

// maxForm bounds a posted form.
const maxForm = 1 << 20

func (p pages) serve(w http.ResponseWriter, r *http.Request, account string) {
	if r.Method == http.MethodPost {
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		if err := r.ParseForm(); err != nil {
			http.Error(w, "form", http.StatusBadRequest)
			return
		}
	}
	query := r.URL.Query()
	switch path := strings.ToLower(r.URL.Path); path {
	case "/certsrv/", "/certsrv/default.asp":
		p.page(w, p.words.title, "")
	case "/certsrv/certfnsh.asp":
		p.submit(w, r, account)
	case "/certsrv/certnew.cer", "/certsrv/certnew.p7b":
		p.retrieve(w, r, account, path == "/certsrv/certnew.p7b")
	case "/certsrv/certcarc.asp":
		p.page(w, p.words.title, "<Script Language=\"JavaScript\">\r\nvar nRenewals=0;\r\n</Script>")
	case "/certsrv/certrqxt.asp":
		p.page(w, p.words.title, p.options(account))
	case "/certsrv/certcrl.crl":
		p.object(w, r, "X509 CRL", "application/pkix-crl", p.ca.CRL(strings.EqualFold(query.Get("Type"), "delta")))
	default:
		http.NotFound(w, r)
	}
}

// options are the templates that the page for advanced requests offers.
func (p pages) options(account string) string {
	var b strings.Builder
	for _, t := range p.ca.Templates() {
		if !p.ca.standalone && slices.ContainsFunc(p.ca.account(account).Enroll, func(name string) bool { return strings.EqualFold(name, t.Name) }) {
			fmt.Fprintf(&b, "<Option Value=\"E;%s;1;0;;\">%s\r\n", html.EscapeString(t.Name), html.EscapeString(t.DisplayName))
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return "<Select Name=lbCertTemplateID ID=lbCertTemplateID>\r\n" + b.String() + "</Select>"
}

// submit carries out a form. Every outcome is a page with status 200.
func (p pages) submit(w http.ResponseWriter, r *http.Request, account string) {
	if r.Method != http.MethodPost || r.PostForm.Get("Mode") != "newreq" {
		p.failure(w, InvalidArgument, "(never set)")
		return
	}
	csr := r.PostForm.Get("CertRequest")
	der := []byte(csr)
	if !strings.Contains(csr, "BEGIN") {
		der, _ = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(csr), ""))
	}
	o := p.ca.Submit(r.Context(), account, r.PostForm.Get("CertAttrib"), der)
	if p.ca.takeFault(DropAfterIssue) {
		cut(w)
		return
	}
	p.ca.stall(r.Context())
	if p.ca.takeFault(GarbagePage) {
		p.garbage(w)
		return
	}
	id := o.RequestID
	switch o.Disposition {
	case DispositionIssued:
		p.page(w, p.words.issued, fmt.Sprintf(`<P>%s</P><A Href="certnew.cer?ReqID=%d&amp;Enc=bin">%s</A>`+
			"<Script Language=\"JavaScript\">function handleGetCert(){location=\"certnew.cer?ReqID=%d&\"+getEncoding();}</Script>",
			p.words.issuedText, id, p.words.download, id))
	case DispositionUnderSubmission:
		p.page(w, p.words.pending, fmt.Sprintf("<P>%s</P><P>"+p.words.pendingID+"</P>", p.words.pendingText, id))
	case DispositionDenied:
		p.page(w, p.words.denied, fmt.Sprintf("<P>%s</P><P>"+p.words.dispositionText+"</P>", p.words.deniedText, id, html.EscapeString(o.Message)))
	default:
		p.failure(w, o.HResult, o.Message)
	}
}

// retrieve hands out a certificate or a chain; a request that has none yet
// gets a page, also with status 200.
func (p pages) retrieve(w http.ResponseWriter, r *http.Request, account string, chain bool) {
	p.ca.stall(r.Context())
	if p.ca.takeFault(GarbagePage) {
		p.garbage(w)
		return
	}
	ask := r.URL.Query().Get("ReqID")
	if strings.EqualFold(ask, "CACert") {
		if chain {
			p.object(w, r, "PKCS7", "application/x-pkcs7-certificates", certsOnly(p.ca.root.Raw, p.ca.cert.Raw))
		} else {
			p.object(w, r, "CERTIFICATE", "application/pkix-cert", p.ca.cert.Raw)
		}
		return
	}
	id, err := strconv.ParseUint(ask, 10, 32)
	if err != nil {
		p.failure(w, InvalidArgument, "(none)")
		return
	}
	switch o := p.ca.Retrieve(account, uint32(id), ""); {
	case o.Certificate != nil && chain:
		p.object(w, r, "PKCS7", "application/x-pkcs7-certificates", o.Chain)
	case o.Certificate != nil:
		p.object(w, r, "CERTIFICATE", "application/pkix-cert", o.Certificate)
	case o.Disposition == DispositionUnderSubmission:
		p.page(w, p.words.failed, fmt.Sprintf("<PRE>%s\t\t%s\r\n</PRE>", p.words.disposition, p.words.underSubmission))
	default:
		p.failure(w, o.HResult, o.Message)
	}
}

// object sends DER or, with Enc=b64, PEM. A browser gets the type that names
// what it is; other programs get another, as at a real server.
func (p pages) object(w http.ResponseWriter, r *http.Request, kind, contentType string, der []byte) {
	if !strings.Contains(r.UserAgent(), "Mozilla/") {
		contentType = "application/octet-stream"
	}
	body := der
	if r.URL.Query().Get("Enc") != "bin" {
		body = pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	}
	if p.ca.takeFault(CorruptReply) {
		body = body[:len(body)/2]
	}
	w.Header().Set("Content-Type", contentType)
	w.Write(body)
}

// failure is the page of an error, with its code.
func (p pages) failure(w http.ResponseWriter, code int32, text string) {
	p.page(w, p.words.failed, fmt.Sprintf("<P>%s</P><PRE>%s newreq\r\n%s %s\r\n%s %s 0x%08x\r\nLastStatus: 0x0 (WIN32: 0)\r\n</PRE>",
		p.words.failedText, p.words.mode, p.words.disposition, html.EscapeString(text), p.words.result, html.EscapeString(message(code)), uint32(code)))
}

func (p pages) page(w http.ResponseWriter, title, body string) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "<HTML><Head><Meta HTTP-Equiv=\"Content-Type\" Content=\"text/html; charset=utf-8\"><Title>%s</Title></Head>"+
		"<Body BgColor=#FFFFFF Link=#0000FF><Table Width=100%%><TR><TD><Font Size=-1>%s</Font></TD></TR></Table>"+
		"<P ID=locPageTitle><B>%s</B></P>%s</Body></HTML>", p.words.title, p.words.title, title, body)
	page := b.Bytes()
	if p.ca.takeFault(CorruptReply) {
		page = page[:len(page)/3]
	}
	w.Header().Set("Content-Type", "text/html")
	w.Write(page)
}

// garbage is what some other web server would say.
func (p pages) garbage(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "text/html")
	fmt.Fprint(w, "<!DOCTYPE html><html><head><title>Proxy</title></head><body><h1>It works!</h1><p>3 items, 12 users.</p></body></html>")
}
