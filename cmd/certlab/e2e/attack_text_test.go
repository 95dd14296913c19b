//go:build e2e

package e2e

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"unicode"

	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// transactions polls with the transaction ID of another device, which is no
// secret: most are a digest of the public key (P13).
func (b *besieged) transactions(t *testing.T) {
	victim, thief := testkeys.RSA2048(0), testkeys.RSA2048(1)
	id := rand.Text()
	d := &scepclient.Client{URL: b.url(approvalPath)}
	theirs, err := d.Prepare(t.Context(), scepclient.EnrollRequest{Key: victim, CSR: b.request("victim", b.static), TransactionID: id})
	if err != nil {
		t.Fatal(err)
	}
	b.secretCSR(theirs.DER)
	before := len(b.certificates())
	if r := send(t, d, theirs.Message); r.Status != scep.Pending {
		t.Fatalf("the answer is %s, want PENDING", describe(r))
	}
	// The thief has the ID, the names and a key of his own. His poll bears his
	// signer; he cannot sign with the victim's.
	mine, err := d.Prepare(t.Context(), scepclient.EnrollRequest{Key: thief, CSR: b.request("victim", "wrong"), TransactionID: id})
	if err != nil {
		t.Fatal(err)
	}
	steal := func() {
		t.Helper()
		r, err := d.Poll(t.Context(), mine)
		if err != nil {
			t.Fatal(err)
		}
		mustRefuse(t, r, scep.BadCertID)
		if events := b.trace(id); len(events) < 2 || events[0].Rule != "no_such_request" && events[1].Rule != "no_such_request" {
			t.Errorf("the trace has %+v, want the rule no_such_request", events)
		}
		forged := *mine
		message := *mine.Message
		message.Signer.Certificate = theirs.Message.Signer.Certificate
		forged.Message = &message
		if r, err = d.Poll(t.Context(), &forged); err != nil {
			t.Fatal(err)
		}
		mustRefuse(t, r, scep.BadMessageCheck)
	}
	steal()
	parked := b.awaitRequest("approval", "parked")
	if _, err := b.command("requests", "approve", parked.ID); err != nil {
		t.Fatal(err)
	}
	b.awaitRequest("approval", "released")
	steal()
	// Nor does it open anything at another endpoint.
	elsewhere := scepclient.Client{URL: b.url(staticPath)}
	r, err := elsewhere.Poll(t.Context(), theirs)
	if err != nil {
		t.Fatal(err)
	}
	mustRefuse(t, r, scep.BadCertID)
	cert := b.mustIssue(until(t, d, theirs.Message, scep.Success), victim)
	// GetCert and GetCRL are for those who have a certificate of this CA.
	for what, ask := range map[string]func(context.Context, scepclient.Identity, *x509.Certificate) (*scepclient.Reply, error){"GetCert": d.GetCert, "GetCRL": d.GetCRL} {
		if r, err = ask(t.Context(), mine.Message.Signer, cert); err != nil || r.Status != scep.Failure || r.FailInfo != scep.BadCertID {
			t.Errorf("%s by a stranger: %s, %v", what, describe(r), err)
		}
	}
	if n := len(b.certificates()) - before; n != 1 {
		t.Errorf("the CA issued %d certificates, want the victim's", n)
	}
}

// text sends names and transaction IDs that would do something in a terminal,
// in a log or as a path (P13).
func (b *besieged) text(t *testing.T) {
	const forged = "forged line"
	texts := []string{
		"../../../../etc/passwd", "..\\..\\windows\\system32", "/dev/null", "-rf", "--help", "%s%n%00", "'; DROP TABLE entries; --",
		"a\r\n{\"level\":\"error\",\"msg\":\"" + forged + "\"}\r\n", "\x1b[2J\x1b]0;owned\x07", "\x9b31m\xff\xfe", "\u202egnp.exe", "\u009b31mC1 in UTF-8", "a\tb\vc\x7f",
	}
	before := len(b.certificates())
	for i, s := range texts {
		id := s + rand.Text()
		csr := b.request("thirteen", "wrong-"+rand.Text())
		csr.Subject = pkix.Name{CommonName: strings.ToValidUTF8(s, "?"), Organization: []string{"\x1b[31mred"}}
		reply, _ := b.try(staticPath, scepclient.EnrollRequest{Key: testkeys.RSA2048(i % 8), CSR: csr, TransactionID: id})
		mustRefuse(t, reply, scep.BadRequest)
	}
	events := b.trace("")
	for _, s := range texts {
		found := false
		for _, e := range events {
			found = found || strings.HasPrefix(e.TransactionID, strings.ToValidUTF8(s, "\ufffd")) && e.Rule == "static_challenge_wrong"
		}
		if !found {
			t.Errorf("the trace does not tell of transaction %q", s)
		}
	}
	if n := len(b.certificates()) - before; n != 0 {
		t.Errorf("the CA issued %d certificates", n)
	}
	for _, command := range [][]string{{"trace"}, {"trace", "--json"}, {"trace", "--", texts[8]}, {"requests", "list"}} {
		out, err := b.command(command...)
		if err != nil {
			t.Fatal(err)
		}
		b.harmless(strings.Join(command[:1], " "), out)
		if strings.Contains(out, "\n"+`{"level"`) {
			t.Errorf("%s shows a line that a device wrote", command[0])
		}
	}
	log := b.logText()
	b.harmless("the log", log)
	for line := range strings.Lines(log) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("a line is no JSON: %v: %.200q", err, line)
		}
		if fields["msg"] == forged {
			t.Error("a device has written a line of the log")
		}
	}
	t.Run("P13 length", func(t *testing.T) {
		defer b.during(t)()
		b.get(staticPath, scepclient.EnrollRequest{
			Key: testkeys.RSA2048(6), CSR: b.request("long", b.static), TransactionID: rand.Text() + strings.Repeat("x", 255-26),
		})
		d := &scepclient.Client{URL: b.url(staticPath)}
		for _, id := range []string{strings.Repeat("x", 256), strings.Repeat("x", 60_000)} {
			r, err := d.Enroll(t.Context(), scepclient.EnrollRequest{Key: testkeys.RSA2048(6), CSR: b.request("long", b.static), TransactionID: id})
			if err == nil || r == nil || r.HTTPStatus != http.StatusBadRequest {
				t.Errorf("transaction ID of %d octets: %v, want HTTP 400", len(id), err)
			}
		}
	})
}

// harmless wants text without what a terminal obeys.
func (b *besieged) harmless(where, text string) {
	b.t.Helper()
	for _, r := range text {
		if r != '\n' && (unicode.IsControl(r) || r == '\u202e') {
			b.t.Errorf("%s shows %q", where, r)
			return
		}
	}
}
