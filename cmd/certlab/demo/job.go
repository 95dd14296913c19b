package demo

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/certconnector/certconnector/agent/jobs/jobqueuetest"
	"github.com/certconnector/certconnector/cmd/certlab/device"
	"github.com/certconnector/certconnector/internal/cms"
	"github.com/certconnector/certconnector/internal/pfx"
	"github.com/certconnector/certconnector/internal/secret"
)

// jobFolder gets what the recipient opens.
const jobFolder = "job"

// parcel is what a recipient finds in the envelope; see docs/issuance-jobs.md.
type parcel struct {
	Format   string `json:"format"`
	Password string `json:"password"`
	PFX      []byte `json:"pfx"`
	Source   string `json:"source"`
	Context  string `json:"requestContext"`
}

// job puts a job into the queue, and opens the result as its recipient.
func (w *world) job(ctx context.Context, e *evidence) error {
	b, err := os.ReadFile(w.path(recipient + ".pem"))
	if err != nil {
		return err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return errors.New("the recipient's certificate is no PEM")
	}
	pin := sha256.Sum256(block.Bytes)
	const handle, subject = "7b1e", "CN=ann"
	began := time.Now()
	if err := w.queue.Add(ctx, jobqueuetest.Job{
		RequestContext: handle, Subject: subject, SANs: []string{"email:ann@contoso.example"}, EKUs: []string{"clientAuth"},
		Recipient: hex.EncodeToString(pin[:]),
	}); err != nil {
		return err
	}
	e.saw("the queue has job %s: %s, for the recipient with certificate %X…", handle, subject, pin[:8])
	result, err := w.jobResult(ctx, handle)
	if err != nil {
		return err
	}
	if !result.Succeeded {
		return fmt.Errorf("the job failed: %s, %s", result.ErrorCode, result.ErrorMessage)
	}
	e.saw("%.1fs later the queue has the result, %d octets of CMS", time.Since(began).Seconds(), len(result.Sealed))
	if err := os.Mkdir(w.path(jobFolder), 0o700); err != nil {
		return fmt.Errorf("opening the result: %w", err)
	}
	if err := os.WriteFile(w.inJob("result.der"), result.Sealed, 0o600); err != nil {
		return fmt.Errorf("opening the result: %w", err)
	}
	cert, err := w.open(ctx, e)
	if err != nil {
		return err
	}
	if cert.Subject.String() != subject {
		return fmt.Errorf("the certificate is for %s, but the job said %s", cert.Subject, subject)
	}
	w.delivered = append(w.delivered, &delivery{platform: "job " + handle, holding: &device.Holding{Certificate: cert}, untold: true})
	e.saw("serial %s, subject %s, %v, until %s, and its key", device.Serial(cert.SerialNumber), cert.Subject, cert.EmailAddresses, cert.NotAfter.Format(time.DateOnly))
	return nil
}

// jobResult waits for what the queue is told of a job.
func (w *world) jobResult(ctx context.Context, handle string) (result jobqueuetest.Result, err error) {
	err = until(ctx, patience, func() error {
		all, err := w.queue.Results(ctx)
		if err != nil {
			return err
		}
		var there bool
		if result, there = all[handle]; !there {
			return errors.New("the queue has no result")
		}
		return nil
	})
	return result, err
}

func (w *world) inJob(name string) string { return filepath.Join(w.path(jobFolder), name) }

// open opens the result as the recipient does: the envelope with the
// recipient's key, and the file in it with the password that is beside it.
func (w *world) open(ctx context.Context, e *evidence) (*x509.Certificate, error) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		return w.openInGo(e)
	}
	run := func(args ...string) error {
		if out, err := exec.CommandContext(ctx, openssl, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("openssl %s: %w: %s", args[0], err, out)
		}
		return nil
	}
	if err := run("cms", "-decrypt", "-inform", "DER", "-in", w.inJob("result.der"), "-recip", w.path(recipient+".pem"),
		"-inkey", w.path(recipient+".key"), "-out", w.inJob("bundle.json")); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(w.inJob("bundle.json"))
	if err != nil {
		return nil, err
	}
	p, err := w.unpack(e, "openssl cms -decrypt", text)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(os.WriteFile(w.inJob("password"), []byte(p.Password), 0o600), os.WriteFile(w.inJob("certificate.pfx"), p.PFX, 0o600)); err != nil {
		return nil, err
	}
	if err := run("pkcs12", "-in", w.inJob("certificate.pfx"), "-passin", "file:"+w.inJob("password"), "-nodes", "-out", w.inJob("opened.pem")); err != nil {
		return nil, err
	}
	if text, err = os.ReadFile(w.inJob("opened.pem")); err != nil {
		return nil, err
	}
	e.saw("openssl pkcs12 -in certificate.pfx: opened with the password in the envelope")
	pair, err := tls.X509KeyPair(text, text) // fails where they do not belong together
	if err != nil {
		return nil, fmt.Errorf("reading what openssl found in the file: %w", err)
	}
	return pair.Leaf, nil
}

// unpack reads what was in the envelope.
func (w *world) unpack(e *evidence, with string, text []byte) (p parcel, err error) {
	if err := json.Unmarshal(text, &p); err != nil {
		return p, fmt.Errorf("what is in the envelope is no JSON: %w", err)
	}
	if p.Format == "" || len(p.PFX) == 0 || p.Password == "" {
		return p, errors.New("something is missing in the envelope")
	}
	e.saw("%s with the recipient's key: a %s of source %s, job %s", with, p.Format, p.Source, p.Context)
	return p, nil
}

// openInGo opens the result where openssl is not installed.
func (w *world) openInGo(e *evidence) (*x509.Certificate, error) {
	e.saw("openssl is not installed: what follows was opened with Go's code")
	pair, err := tls.LoadX509KeyPair(w.path(recipient+".pem"), w.path(recipient+".key"))
	if err != nil {
		return nil, err
	}
	key, ok := pair.PrivateKey.(crypto.Decrypter)
	if !ok {
		return nil, errors.New("the recipient's key cannot decrypt")
	}
	sealed, err := os.ReadFile(w.inJob("result.der"))
	if err != nil {
		return nil, err
	}
	text, err := cms.Open(sealed, []cms.Recipient{{Certificate: pair.Leaf, Key: key}}, cms.Limits{})
	if err != nil {
		return nil, fmt.Errorf("opening the envelope: %w", err)
	}
	p, err := w.unpack(e, "CMS opened", text)
	if err != nil {
		return nil, err
	}
	opened, cert, _, err := pfx.Decode(p.PFX, secret.Text(p.Password))
	if err != nil {
		return nil, err
	}
	if own, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !own.Equal(opened.Public()) {
		return nil, errors.New("key and certificate in the file do not belong together")
	}
	e.saw("PKCS #12 opened with the password in the envelope")
	return cert, nil
}
