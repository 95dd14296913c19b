// Package servercert gets a listener's certificate from any CA: it makes a key
// and a request (PKCS #10), and puts what the CA answered into the place that
// the configuration names, after it was checked. Until then nothing of what
// serves is touched: the new key waits beside the old one.
package servercert

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/certconnector/certconnector/internal/durable"
	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/internal/secret"
)

// Suffixes of what waits, and of what was replaced.
const (
	newSuffix     = ".new"
	oldSuffix     = ".old"
	requestSuffix = ".csr.pem"
)

const (
	pemRequest = "CERTIFICATE REQUEST"
	maxRequest = 1 << 20 // octets of a file that may be an earlier request
)

// Place is where a listener has its certificate: files, and perhaps a key
// elsewhere.
type Place struct {
	Certificate string // PEM file, the chain after the certificate
	Key         string // as keys.Keys.Load knows it
	Keys        *keys.Keys
	// StateDir is the service's folder. Where root runs this, the files that are
	// put into their places are for the owner of the present key, or of this
	// folder; "": they stay root's.
	StateDir string
}

// Request says what to ask a CA for.
type Request struct {
	Names        []string   // DNS names and IP addresses; empty: those of the present certificate
	Kind         keys.Kind  // of a new key; "": rsa2048, which every device speaks
	Where        keys.Place // of a new key; "": where the present one is
	Organization string     // for CAs that ask for one; "": none
	Out          string     // another file for the request, new or with an earlier one; it is beside the certificate too, for Complete
}

// Made is a request that was written.
type Made struct {
	Request string   `json:"request"` // file, PEM
	Key     string   `json:"key"`     // file of the new key, or the reference of one that is elsewhere
	Names   []string `json:"names"`
	Again   bool     `json:"again,omitempty"` // the key waited already
}

// Ask makes a key and a request for it. Asked again before the answer came, it
// writes a request for the key that waits.
func (p Place) Ask(r Request) (Made, error) {
	if err := p.check(); err != nil {
		return Made{}, err
	}
	if len(r.Names) == 0 {
		r.Names = p.presentNames()
	}
	if len(r.Names) == 0 {
		return Made{}, errors.New("--hostname is missing: name the host as devices do; there is no certificate yet to take names from")
	}
	for _, name := range r.Names {
		if net.ParseIP(name) == nil && !isHostName(name) {
			return Made{}, fmt.Errorf("--hostname %q is neither a host name nor an IP address", name)
		}
	}
	if err := checkOut(r.Out); err != nil {
		return Made{}, err
	}
	made := Made{Request: cmp.Or(r.Out, p.Certificate+requestSuffix), Names: r.Names}
	key, err := p.newKey(r, &made)
	if err != nil {
		return Made{}, err
	}
	der, err := encode(r, key)
	if err != nil {
		return Made{}, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: pemRequest, Bytes: der})
	// Complete knows by it which names the answer must have.
	if err := durable.WriteFile(p.Certificate+requestSuffix, text, 0o644); err != nil || r.Out == "" {
		return made, err
	}
	return made, writeOut(r.Out, text)
}

// writeOut writes the request where the operator wants it.
func writeOut(path string, text []byte) error {
	err := durable.Create(path, text, 0o644)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := checkOut(path); err != nil {
		return err
	}
	return durable.WriteFile(path, text, 0o644)
}

// checkOut refuses to replace what is no earlier request: a slip of the hand
// would cost a key. A link or a device is not followed, but would be replaced.
func checkOut(path string) error {
	info, err := os.Lstat(path)
	if path == "" || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	if info.Mode().IsRegular() {
		text, err := durable.ReadFile(path, maxRequest)
		if err != nil {
			return fmt.Errorf("--out: reading what is there already: %w", err)
		}
		block, rest := pem.Decode(text)
		if block != nil && block.Type == pemRequest && len(bytes.TrimSpace(rest)) == 0 {
			return nil
		}
	}
	return fmt.Errorf("--out: %q is there already, and is no request, which alone is replaced: name another file", path)
}

// check refuses places in which one file would be written over another, and
// those in which nothing can be written that the service could read.
func (p Place) check() error {
	if err := keys.CheckApart(p.Certificate, p.Key); err != nil {
		return err
	}
	folders := []string{filepath.Dir(p.Certificate)}
	if !keys.IsURI(p.Key) {
		folders = append(folders, filepath.Dir(p.Key))
	}
	return secret.CheckMaker(folders...)
}

// newKey finds the key that waits, or makes it. One that is in a module or a
// certificate store was made there, and is used on.
func (p Place) newKey(r Request, made *Made) (crypto.Signer, error) {
	if keys.IsURI(p.Key) {
		made.Key = keys.Shown(p.Key)
		return p.Keys.Load(p.Key)
	}
	made.Key = p.Key + newSuffix
	key, err := p.Keys.Load(made.Key)
	if err == nil {
		made.Again = true
		return key, p.sameKind(r.Kind, key, made.Key)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("a key waits already, and cannot be used; remove it to begin anew: %w", err)
	}
	if r.Kind == "" {
		r.Kind = keys.RSA2048
	}
	if r.Where == "" {
		r.Where = keys.PlaceOfFile(p.Key)
	}
	return p.Keys.Create(made.Key, r.Where, r.Kind)
}

// sameKind refuses to ask for another kind of key than the one that waits.
func (p Place) sameKind(want keys.Kind, key crypto.Signer, file string) error {
	have := ""
	switch k := key.Public().(type) {
	case *rsa.PublicKey:
		have = fmt.Sprintf("rsa%d", k.N.BitLen())
	case *ecdsa.PublicKey:
		have = fmt.Sprintf("p%d", k.Curve.Params().BitSize)
	}
	if want != "" && string(want) != have {
		return fmt.Errorf("a key of kind %s waits already for its certificate; remove %q to begin anew", have, file)
	}
	return nil
}

// presentNames are the names of the certificate that serves now.
func (p Place) presentNames() []string {
	b, err := os.ReadFile(p.Certificate)
	if err != nil {
		return nil
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return namesOf(cert.DNSNames, cert.IPAddresses)
}

func namesOf(dns []string, addresses []net.IP) []string {
	names := append([]string{}, dns...)
	for _, ip := range addresses {
		names = append(names, ip.String())
	}
	return names
}

// Extensions that are asked for; CAs that go by templates of their own pass
// them over.
var (
	oidKeyUsage    = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidExtKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidServerAuth  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
)

func encode(r Request, key crypto.Signer) ([]byte, error) {
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: commonName(r.Names)}}
	if r.Organization != "" {
		template.Subject.Organization = []string{r.Organization}
	}
	for _, name := range r.Names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	usage := asn1.BitString{Bytes: []byte{0x80}, BitLength: 1} // digitalSignature
	if _, ok := key.Public().(*rsa.PublicKey); ok {
		usage = asn1.BitString{Bytes: []byte{0xA0}, BitLength: 3} // and keyEncipherment, for TLS 1.2 without forward secrecy
	}
	for _, e := range []struct {
		id       asn1.ObjectIdentifier
		critical bool
		value    any
	}{{oidKeyUsage, true, usage}, {oidExtKeyUsage, false, []asn1.ObjectIdentifier{oidServerAuth}}} {
		value, err := asn1.Marshal(e.value)
		if err != nil {
			return nil, fmt.Errorf("encoding the request: %w", err)
		}
		template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: e.id, Critical: e.critical, Value: value})
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, key)
	if err != nil {
		return nil, fmt.Errorf("signing the request: %w", err)
	}
	return der, nil
}

// commonName is the first name, if it fits (RFC 5280, ub-common-name).
func commonName(names []string) string {
	if len(names[0]) > 64 {
		return ""
	}
	return names[0]
}

// isHostName accepts what a DNS name of a server looks like, with a wildcard
// as its first label.
func isHostName(name string) bool {
	if len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimPrefix(name, "*."), ".") {
		if label == "" || len(label) > 63 || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") ||
			bytes.ContainsFunc([]byte(label), func(r rune) bool {
				return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
			}) {
			return false
		}
	}
	return true
}
