package servercert_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/installer/servercert"
	"github.com/certconnector/certconnector/internal/certfiles"
	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/internal/keys/keystest"
)

// bench is a listener's folder, and a CA of two levels in another one, made
// and driven by openssl.
type bench struct {
	t     *testing.T
	ca    string
	place servercert.Place
}

func newBench(t *testing.T) *bench {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("openssl is missing: install the package openssl")
	}
	dir := t.TempDir()
	known := keys.New(keys.Config{})
	t.Cleanup(func() { _ = known.Close() })
	b := &bench{t: t, ca: t.TempDir(), place: servercert.Place{
		Certificate: filepath.Join(dir, "tls.crt.pem"), Key: filepath.Join(dir, "tls.key.pem"), Keys: known,
	}}
	b.write("ca.cnf", "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n")
	b.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "root.key", "-out", "root.pem", "-subj", "/CN=Root", "-days", "3650")
	b.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "sub.key", "-out", "sub.csr", "-subj", "/CN=Issuing")
	b.openssl("x509", "-req", "-in", "sub.csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial", "-out", "sub.pem", "-days", "1000", "-extfile", "ca.cnf")
	return b
}

func (b *bench) write(name, text string) {
	b.t.Helper()
	if err := os.WriteFile(filepath.Join(b.ca, name), []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// openssl runs in the CA's folder.
func (b *bench) openssl(args ...string) string {
	b.t.Helper()
	c := exec.CommandContext(b.t.Context(), "openssl", args...)
	c.Dir = b.ca
	out, err := c.CombinedOutput()
	if err != nil {
		b.t.Fatalf("openssl %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func (b *bench) read(path string) []byte {
	b.t.Helper()
	if !filepath.IsAbs(path) {
		path = filepath.Join(b.ca, path)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		b.t.Fatal(err)
	}
	return text
}

func (b *bench) ask(r servercert.Request) servercert.Made {
	b.t.Helper()
	made, err := b.place.Ask(r)
	if err != nil {
		b.t.Fatal(err)
	}
	return made
}

// sign has the CA sign the request with extensions, as those of a web server.
func (b *bench) sign(made servercert.Made, extensions, days string) {
	b.t.Helper()
	b.write("ext.cnf", extensions)
	b.openssl("x509", "-req", "-in", made.Request, "-CA", "sub.pem", "-CAkey", "sub.key", "-CAcreateserial", "-out", "leaf.pem", "-days", days, "-extfile", "ext.cnf")
}

const web = "subjectAltName=DNS:scep.example,IP:192.0.2.1\nextendedKeyUsage=serverAuth\nkeyUsage=digitalSignature,keyEncipherment\n"

func (b *bench) complete(now time.Time, files ...string) (servercert.Installed, error) {
	b.t.Helper()
	a := servercert.Answer{Now: now}
	for _, f := range files {
		certs, err := certfiles.Load(filepath.Join(b.ca, f))
		if err != nil {
			b.t.Fatal(err)
		}
		a.Certificates = append(a.Certificates, certs...)
	}
	return b.place.Complete(a)
}

// serves checks the installed pair as a TLS server's.
func (b *bench) serves() *x509.Certificate {
	b.t.Helper()
	pair, err := tls.LoadX509KeyPair(b.place.Certificate, b.place.Key)
	if err != nil {
		b.t.Fatal(err)
	}
	if out := b.openssl("verify", "-CAfile", "root.pem", "-untrusted", b.place.Certificate, "-purpose", "sslserver", "-verify_hostname", "scep.example", b.place.Certificate); !strings.HasSuffix(strings.TrimSpace(out), "OK") {
		b.t.Errorf("openssl says %s", out)
	}
	return pair.Leaf
}

func (b *bench) files() []string {
	b.t.Helper()
	entries, err := os.ReadDir(filepath.Dir(b.place.Key))
	if err != nil {
		b.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestRequestAsOpensslReadsIt(t *testing.T) {
	for kind, says := range map[keys.Kind][]string{
		"":        {"Public-Key: (2048 bit)", "Digital Signature, Key Encipherment"},
		keys.P384: {"ASN1 OID: secp384r1", "Digital Signature\n"},
	} {
		b := newBench(t)
		made := b.ask(servercert.Request{Names: []string{"scep.example", "192.0.2.1"}, Kind: kind, Organization: "Example"})
		text := b.openssl("req", "-in", made.Request, "-noout", "-text", "-verify", "-nameopt", "RFC2253")
		for _, want := range append(says, "DNS:scep.example, IP Address:192.0.2.1", "TLS Web Server Authentication", "Subject: CN=scep.example,O=Example") {
			if !strings.Contains(text, want) {
				t.Errorf("%s: the request lacks %q:\n%s", kind, want, text)
			}
		}
		if bytes.Contains(b.read(made.Request), []byte("PRIVATE")) {
			t.Error("the request has a key in it")
		}
		if info, err := os.Stat(made.Key); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("the key: %v, %v", info.Mode(), err)
		}
	}
}

// Whatever form a CA hands out, in whatever order, the chain that is served
// begins with the certificate and has no root.
func TestAnswersInEachForm(t *testing.T) {
	b := newBench(t)
	made := b.ask(servercert.Request{Names: []string{"scep.example", "192.0.2.1"}})
	b.sign(made, web, "365")
	b.write("upside-down.pem", string(b.read("root.pem"))+string(b.read("sub.pem"))+string(b.read("leaf.pem")))
	b.openssl("crl2pkcs7", "-nocrl", "-certfile", "upside-down.pem", "-out", "chain.p7b")
	b.openssl("crl2pkcs7", "-nocrl", "-certfile", "upside-down.pem", "-outform", "DER", "-out", "chain.p7c")
	b.openssl("x509", "-in", "leaf.pem", "-outform", "DER", "-out", "leaf.cer")
	b.write("certsrv.p7b", strings.ReplaceAll(string(b.read("chain.p7b")), "PKCS7", "CERTIFICATE"))
	b.write("bare.txt", base64.StdEncoding.EncodeToString(b.read("chain.p7c")))
	b.write("dos.pem", strings.ReplaceAll(string(b.read("upside-down.pem")), "\n", "\r\n"))
	for _, files := range [][]string{{"upside-down.pem"}, {"chain.p7b"}, {"chain.p7c"}, {"certsrv.p7b"}, {"bare.txt"}, {"dos.pem"}, {"leaf.cer", "chain.p7b"}} {
		got, err := b.complete(time.Now(), files...)
		if err != nil {
			t.Errorf("%v: %v", files, err)
			continue
		}
		if got.Chain != 2 || len(got.Warnings) != 0 || !slices.Equal(got.Names, []string{"scep.example", "192.0.2.1"}) {
			t.Errorf("%v: %+v", files, got)
		}
		if leaf := b.serves(); leaf.Subject.CommonName != "scep.example" {
			t.Errorf("%v: %s comes first", files, leaf.Subject)
		}
	}
	if got := b.files(); !slices.Equal(got, []string{"tls.crt.pem", "tls.crt.pem.old", "tls.key.pem"}) {
		t.Errorf("left behind: %v", got)
	}
}

// A pair that serves is replaced by another one only when that is whole.
func TestRenewal(t *testing.T) {
	b := newBench(t)
	b.sign(b.ask(servercert.Request{Names: []string{"scep.example"}}), web, "365")
	if _, err := b.complete(time.Now(), "leaf.pem", "sub.pem"); err != nil {
		t.Fatal(err)
	}
	first := b.serves()
	made := b.ask(servercert.Request{}) // names of the present one
	if !slices.Equal(made.Names, []string{"scep.example", "192.0.2.1"}) {
		t.Errorf("names %v", made.Names)
	}
	if now := b.serves(); !now.Equal(first) {
		t.Error("a request changed what serves")
	}
	if again := b.ask(servercert.Request{}); !again.Again {
		t.Error("a second request made another key")
	}
	if _, err := b.place.Ask(servercert.Request{Kind: keys.P256}); err == nil || !strings.Contains(err.Error(), "rsa2048 waits already") {
		t.Errorf("another kind of key: %v", err)
	}
	// The CA's old answer is for the old key: it is taken for what it is.
	b.sign(made, web, "365")
	if _, err := b.complete(time.Now(), "leaf.pem", "sub.pem"); err != nil {
		t.Fatal(err)
	}
	if now := b.serves(); now.Equal(first) {
		t.Error("the new pair was not installed")
	}
	if got := b.files(); !slices.Equal(got, []string{"tls.crt.pem", "tls.crt.pem.old", "tls.key.pem", "tls.key.pem.old"}) {
		t.Errorf("files %v", got)
	}
	if _, err := tls.LoadX509KeyPair(b.place.Certificate+".old", b.place.Key+".old"); err != nil {
		t.Errorf("the former pair is no pair: %v", err)
	}
}

// Cut off between the two files, it is done again.
func TestInterruptedInstallation(t *testing.T) {
	b := newBench(t)
	made := b.ask(servercert.Request{Names: []string{"scep.example"}})
	b.sign(made, web, "365")
	if err := os.Rename(made.Key, b.place.Key); err != nil {
		t.Fatal(err)
	}
	if _, err := b.complete(time.Now(), "leaf.pem", "sub.pem"); err != nil {
		t.Fatal(err)
	}
	b.serves()
}

// A certificate that cannot be put into its place leaves key and certificate
// as they were.
func TestFailedInstallationIsTakenBack(t *testing.T) {
	b := newBench(t)
	made := b.ask(servercert.Request{Names: []string{"scep.example"}})
	b.sign(made, web, "365")
	if err := os.MkdirAll(filepath.Join(b.place.Certificate, "in-the-way"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := b.complete(time.Now(), "leaf.pem", "sub.pem"); err == nil {
		t.Fatal("a folder was replaced")
	}
	if _, err := os.Stat(made.Key); err != nil {
		t.Errorf("the key does not wait any more: %v", err)
	}
	if _, err := os.Stat(b.place.Key); err == nil {
		t.Error("the key was installed without its certificate")
	}
}

func TestAnswersThatAreRefused(t *testing.T) {
	b := newBench(t)
	if _, err := b.complete(time.Now(), "root.pem"); err == nil || !strings.Contains(err.Error(), "make a request first") {
		t.Errorf("without a request: %v", err)
	}
	made := b.ask(servercert.Request{Names: []string{"scep.example", "192.0.2.1"}})
	now := time.Now().Add(time.Minute)
	for _, row := range []struct {
		name, extensions string
		now              time.Time
		says             string
	}{
		{"a name is missing", "subjectAltName=DNS:scep.example\nextendedKeyUsage=serverAuth\n", now, "lacks the name 192.0.2.1"},
		{"no names at all", "extendedKeyUsage=serverAuth\n", now, "lacks the name scep.example"},
		{"for clients", strings.ReplaceAll(web, "serverAuth", "clientAuth"), now, "Server Authentication"},
		{"for encryption only", strings.ReplaceAll(web, "digitalSignature,", ""), now, "digitalSignature"},
		{"that of a CA", web + "basicConstraints=CA:TRUE\n", now, "that of a CA"},
		{"ended", web, now.AddDate(2, 0, 0), "ended on"},
		{"not valid yet", web, now.Add(-time.Hour), "not valid before"},
	} {
		b.sign(made, row.extensions, "365")
		if _, err := b.complete(row.now, "leaf.pem", "sub.pem"); err == nil || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: %v", row.name, err)
		}
	}
	if _, err := b.complete(now, "sub.pem", "root.pem"); err == nil || !strings.Contains(err.Error(), "none of the certificates is for the key") {
		t.Errorf("another's certificate: %v", err)
	}
	if got := b.files(); !slices.Equal(got, []string{"tls.crt.pem.csr.pem", "tls.key.pem.new"}) {
		t.Errorf("a refused answer left %v", got)
	}
	// With names of one's own the request's do not count.
	b.sign(made, "subjectAltName=DNS:scep.example\n", "365")
	certs, err := certfiles.Load(filepath.Join(b.ca, "leaf.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.place.Complete(servercert.Answer{Certificates: certs, Names: []string{"scep.example"}, Now: now}); err != nil {
		t.Error(err)
	}
}

// The names of the last request count, wherever it was written; where no
// request is known, somebody must say them.
func TestNamesOfTheAnswerAreAlwaysChecked(t *testing.T) {
	b := newBench(t)
	b.ask(servercert.Request{Names: []string{"old.example"}})
	made := b.ask(servercert.Request{Names: []string{"scep.example"}, Out: filepath.Join(b.ca, "elsewhere.csr")})
	if made.Request != filepath.Join(b.ca, "elsewhere.csr") {
		t.Errorf("the request is at %s", made.Request)
	}
	b.sign(made, strings.ReplaceAll(web, "scep.example", "old.example"), "365")
	if _, err := b.complete(time.Now(), "leaf.pem", "sub.pem"); err == nil || !strings.Contains(err.Error(), "lacks the name scep.example") {
		t.Errorf("the names of an earlier request: %v", err)
	}
	b.sign(made, web, "365")
	request := b.place.Certificate + ".csr.pem"
	text := b.read(request)
	if err := os.Remove(request); err != nil {
		t.Fatal(err)
	}
	if _, err := b.complete(time.Now(), "leaf.pem", "sub.pem"); err == nil || !strings.Contains(err.Error(), "--hostname") {
		t.Errorf("without any names: %v", err)
	}
	if _, err := os.Stat(b.place.Certificate); err == nil {
		t.Error("a refused answer was installed")
	}
	if err := os.WriteFile(request, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := b.complete(time.Now(), "leaf.pem", "sub.pem"); err != nil {
		t.Error(err)
	}
}

func TestAnswersThatDevicesMayStumbleOver(t *testing.T) {
	for _, row := range []struct{ name, days, files, says string }{
		{"without its issuer", "365", "leaf.pem", "--chain"},
		{"for a month", "20", "leaf.pem sub.pem", "ends on"},
		{"for three years", "900", "leaf.pem sub.pem", "825 days"},
	} {
		b := newBench(t)
		b.sign(b.ask(servercert.Request{Names: []string{"scep.example"}}), web, row.days)
		got, err := b.complete(time.Now(), strings.Fields(row.files)...)
		if err != nil || len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], row.says) {
			t.Errorf("%s: %v, %v", row.name, got.Warnings, err)
		}
		if _, err := json.Marshal(got); err != nil {
			t.Error(err)
		}
	}
}

// New files wait beside the names of the old ones: with one name for both the
// certificate would be written over the key.
func TestOneFileForCertificateAndKey(t *testing.T) {
	b := newBench(t)
	b.sign(b.ask(servercert.Request{Names: []string{"scep.example"}}), web, "365")
	if _, err := b.complete(time.Now(), "leaf.pem", "sub.pem"); err != nil {
		t.Fatal(err)
	}
	one := filepath.Join(t.TempDir(), "one.pem")
	text := slices.Concat(b.read(b.place.Certificate), b.read(b.place.Key))
	if err := os.WriteFile(one, text, 0o600); err != nil {
		t.Fatal(err)
	}
	b.place.Certificate, b.place.Key = one, one
	if _, err := b.place.Ask(servercert.Request{}); err == nil || !strings.Contains(err.Error(), "a file of its own") {
		t.Errorf("a request: %v", err)
	}
	if _, err := b.complete(time.Now(), "leaf.pem", "sub.pem"); err == nil || !strings.Contains(err.Error(), "a file of its own") {
		t.Errorf("an answer: %v", err)
	}
	if got := b.files(); !slices.Equal(got, []string{"one.pem"}) || !bytes.Equal(b.read(one), text) {
		t.Errorf("the file was touched; there are %v", got)
	}
}

// The file for the request is the operator's choice: what is there already
// stays, unless it is nothing but a request.
func TestOutReplacesRequestsOnly(t *testing.T) {
	b := newBench(t)
	out := filepath.Join(b.ca, "out.csr")
	first := b.ask(servercert.Request{Names: []string{"scep.example"}, Out: out})
	text := b.read(out)
	if b.ask(servercert.Request{Names: []string{"other.example"}, Out: out}); bytes.Equal(b.read(out), text) {
		t.Error("a request was not replaced by a later one")
	}
	b.sign(first, web, "365")
	b.write("both.pem", string(text)+string(b.read("sub.key")))
	b.write("empty", "")
	if err := os.Mkdir(filepath.Join(b.ca, "folder"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"sub.key", "leaf.pem", "ca.cnf", "both.pem", "empty"} {
		before := b.read(file)
		if _, err := b.place.Ask(servercert.Request{Names: []string{"scep.example"}, Out: filepath.Join(b.ca, file)}); err == nil || !strings.Contains(err.Error(), "--out") {
			t.Errorf("%s: %v", file, err)
		}
		if !bytes.Equal(b.read(file), before) {
			t.Errorf("%s was replaced", file)
		}
	}
	if _, err := b.place.Ask(servercert.Request{Names: []string{"scep.example"}, Out: filepath.Join(b.ca, "folder")}); err == nil {
		t.Error("a folder was taken for a file")
	}
	if runtime.GOOS == "windows" {
		return // links need a right of their own there
	}
	link := filepath.Join(b.ca, "link")
	if err := os.Symlink(out, link); err != nil {
		t.Fatal(err)
	}
	if _, err := b.place.Ask(servercert.Request{Names: []string{"scep.example"}, Out: link}); err == nil {
		t.Error("a link was taken for a file")
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v", err)
	}
}

// A refused file for the request leaves no key that waits, and one that is
// made meanwhile is not replaced: here the key itself has the name.
func TestRefusedOutMakesNoKey(t *testing.T) {
	b := newBench(t)
	b.write("precious", "x")
	if _, err := b.place.Ask(servercert.Request{Names: []string{"scep.example"}, Out: filepath.Join(b.ca, "precious")}); err == nil {
		t.Error("a file was replaced")
	}
	if got := b.files(); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
	waits := b.place.Key + ".new"
	if _, err := b.place.Ask(servercert.Request{Names: []string{"scep.example"}, Out: waits}); err == nil {
		t.Error("the new key was replaced by its request")
	}
	if !bytes.Contains(b.read(waits), []byte("PRIVATE KEY")) {
		t.Error("the new key is lost")
	}
}

// A key whose device is missing waits all the same.
func TestKeyInADeviceThatIsMissing(t *testing.T) {
	b := newBench(t)
	b.sign(b.ask(servercert.Request{Names: []string{"scep.example"}}), web, "365")
	absent := filepath.Join(t.TempDir(), "absent")
	b.place.Keys = keys.New(keys.Config{TPM: absent, PKCS11: keys.PKCS11{Module: absent}})
	if err := os.WriteFile(b.place.Key+".new", []byte(keystest.ForeignTPMKey), 0o600); err != nil {
		t.Fatal(err)
	}
	ask := func() error {
		_, err := b.place.Ask(servercert.Request{Names: []string{"scep.example"}})
		return err
	}
	answer := func() error {
		_, err := b.complete(time.Now(), "leaf.pem", "sub.pem")
		return err
	}
	tpm := "is there a TPM 2.0"
	if runtime.GOOS == "windows" {
		tpm = "TPM" // there is no device file to look for
	}
	for _, do := range []func() error{ask, answer} {
		if err := do(); err == nil || !strings.Contains(err.Error(), tpm) || strings.Contains(err.Error(), "exists") {
			t.Errorf("without the TPM: %v", err)
		}
	}
	b.place.Key = "pkcs11:token=ra;object=tls"
	if err := answer(); err == nil || strings.Contains(err.Error(), "make a request first") {
		t.Errorf("without the module: %v", err)
	}
}

func TestNamesThatAreNone(t *testing.T) {
	b := newBench(t)
	for _, name := range []string{"https://scep.example", "scep.example/x", "a b", "-x.example", "", strings.Repeat("a", 64) + ".example"} {
		if _, err := b.place.Ask(servercert.Request{Names: []string{name}}); err == nil {
			t.Errorf("%q was taken", name)
		}
	}
	if _, err := b.place.Ask(servercert.Request{}); err == nil || !strings.Contains(err.Error(), "--hostname is missing") {
		t.Errorf("without names: %v", err)
	}
	if got := b.files(); len(got) != 0 {
		t.Errorf("left behind: %v", got)
	}
	long := strings.Repeat("a", 60) + ".example"
	made := b.ask(servercert.Request{Names: []string{long, "*.devices.example"}})
	block, _ := pem.Decode(b.read(made.Request))
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || request.Subject.CommonName != "" || !slices.Equal(request.DNSNames, made.Names) {
		t.Errorf("%+v, %v", request, err)
	}
}
