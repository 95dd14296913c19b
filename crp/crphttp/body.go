package crphttp

import (
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/certconnector/certconnector/policymodule"
)

// Limits on members, in octets.
const (
	mostName        = 255
	mostTransaction = 255 // SCEP transaction IDs are 1 to 255 octets here
	mostDER         = 128 << 10
	mostDescription = 4096
)

// question is the body of VerifyRequest.
type question struct {
	tenant      string
	endpoint    string
	transaction string // octets
	csr         []byte // DER
	template    string
	renewal     *x509.Certificate
}

// report is the body of Notify.
type report struct {
	tenant  string
	outcome policymodule.Outcome
	kind    string // policymodule.OutcomeIssued or OutcomeFailed
}

// parseVerify reads the body of VerifyRequest.
func parseVerify(body []byte) (question, error) {
	var q question
	o, err := readObject(body)
	if err != nil {
		return q, err
	}
	var transaction, renewal []byte
	err = firstError(
		func() (err error) { q.tenant, err = o.text("tenant", mostName); return },
		func() (err error) { q.endpoint, err = o.required("endpoint", mostName); return },
		func() (err error) { transaction, err = o.requiredOctets("transactionId", mostTransaction); return },
		func() (err error) { q.csr, err = o.requiredOctets("certificateRequest", mostDER); return },
		func() (err error) { q.template, err = o.text("template", mostName); return },
		func() (err error) { renewal, err = o.octets("renewalCertificate", mostDER); return },
	)
	if err != nil {
		return q, err
	}
	q.transaction = string(transaction)
	if renewal != nil {
		q.renewal, err = certificate("renewalCertificate", renewal)
	}
	return q, err
}

// parseNotify reads the body of Notify.
func parseNotify(body []byte) (report, error) {
	var n report
	o, err := readObject(body)
	if err != nil {
		return n, err
	}
	var transaction, issued []byte
	err = firstError(
		func() (err error) { n.tenant, err = o.text("tenant", mostName); return },
		func() (err error) { n.outcome.Endpoint, err = o.required("endpoint", mostName); return },
		func() (err error) { transaction, err = o.requiredOctets("transactionId", mostTransaction); return },
		func() (err error) { n.outcome.CSR, err = o.requiredOctets("certificateRequest", mostDER); return },
		func() (err error) { n.kind, err = o.required("outcome", mostName); return },
		func() (err error) { issued, err = o.octets("certificate", mostDER); return },
		func() (err error) { n.outcome.IssuingCA, err = o.text("issuingCa", mostName); return },
		func() (err error) { n.outcome.HResult, err = o.hresult("hresult"); return },
		func() (err error) { n.outcome.Description, err = o.text("description", mostDescription); return },
	)
	if err != nil {
		return n, err
	}
	n.outcome.TransactionID = string(transaction)
	return n, n.fit(issued)
}

// fit reads the certificate and wants the members to agree with the outcome.
func (n *report) fit(issued []byte) (err error) {
	switch n.kind {
	case policymodule.OutcomeIssued:
		switch {
		case issued == nil:
			return errors.New("certificate is missing")
		case n.outcome.IssuingCA == "":
			return errors.New("issuingCa is missing")
		}
		n.outcome.Certificate, err = certificate("certificate", issued)
		n.outcome.HResult, n.outcome.Description = 0, ""
		return err
	case policymodule.OutcomeFailed:
		if issued != nil {
			return errors.New("certificate comes with a failure")
		}
		return nil
	}
	return errors.New(`outcome is neither "issued" nor "failed"`)
}

func certificate(name string, der []byte) (*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%s is not an X.509 certificate", name)
	}
	return cert, nil
}

func firstError(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}
