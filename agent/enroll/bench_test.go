package enroll

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"io"
	"net/netip"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/certconnector/certconnector/agent/journal"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/testkeys"
	"github.com/certconnector/certconnector/policymodule"
	"github.com/certconnector/certconnector/scep"
)

func benchRequest(b *testing.B) *scep.Request {
	b.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "device 1"}, DNSNames: []string{"device.example.test"},
	}, testkeys.RSA2048(0))
	if err != nil {
		b.Fatal(err)
	}
	csr, err := pkcs10.Parse(der)
	if err != nil {
		b.Fatal(err)
	}
	return &scep.Request{CSR: csr}
}

// BenchmarkRules is what our own rules cost each request: microseconds beside
// the milliseconds of RSA.
func BenchmarkRules(b *testing.B) {
	req := benchRequest(b)
	names, err := policymodule.ParseNames([]string{"CN=device *"}, []string{"dns:*.example.test"})
	if err != nil {
		b.Fatal(err)
	}
	rules := Rules{Names: &names, ExtKeyUsages: []asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 2}}}
	for b.Loop() {
		if d := rules.check(req, false); d != nil {
			b.Fatal(d.Detail)
		}
	}
}

// BenchmarkAuditLine is what the line of an issued certificate costs.
func BenchmarkAuditLine(b *testing.B) {
	req := benchRequest(b)
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	r := &Registration{audit: zap.New(zapcore.NewCore(encoder, zapcore.AddSync(io.Discard), zapcore.InfoLevel))}
	e := journal.Entry{ID: 7, State: journal.Released, Serial: "647AAA5D37438C1C952CFFF393F16411", Intent: journal.Intent{
		Endpoint: "devices", TransactionID: "3F9A77", Subject: req.CSR.SubjectString(), CA: "lab", Template: "device",
	}}
	from := evidence{source: netip.MustParseAddr("192.0.2.1"), csr: req.CSR, module: "static"}
	for b.Loop() {
		r.auditEntry("certificate issued", verdictGranted, e, from, intuneEvent(e.Intent, 4006))
	}
}
