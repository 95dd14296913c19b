package scep_test

import (
	"crypto"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/internal/testkeys"
)

var writeCorpus = flag.Bool("write-corpus", false, "write the seeds of the fuzz targets anew")

// TestWriteCorpus makes the checked-in seeds: messages in the shapes of real
// devices, taken apart layer by layer.
//
//	go test ./scep -run TestWriteCorpus -write-corpus
func TestWriteCorpus(t *testing.T) {
	if !*writeCorpus {
		t.Skip("seeds are checked in; -write-corpus makes them anew")
	}
	w := newWorld(t)
	csr := request{}.build(t)
	toRA := []to{{cert: w.encryption}}
	env := envelope{to: toRA, plain: csr}.build(t)
	appleEnv := envelope{to: toRA, plain: csr, cipher: id3DES, ber: 120}.build(t)
	oaepEnv := envelope{to: []to{{cert: w.ca}, {cert: w.encryption, keyID: true, oaep: crypto.SHA256,
		oaepParam: seq(el(0xa0, alg(idSHA256)), el(0xa1, alg(idMGF1, alg(idSHA256))))}}, plain: csr, cipher: idAES256}.build(t)
	apple := message{content: appleEnv, digest: crypto.SHA512, ber: 409}.build(t)
	windows := rawCert{extensions: [][]byte{criticalAKI()}}.build(t)
	issued := certify(t, raTemplate("device", 78, 0), w.ca, testkeys.RSA2048(deviceKey).Public(), testkeys.RSA2048(caKey))

	save(t, "FuzzParse", "plain", seed(message{content: env}.build(t)))
	save(t, "FuzzParse", "apple", seed(apple))
	save(t, "FuzzParse", "windows", seed(message{cert: windows, content: oaepEnv}.build(t)))
	save(t, "FuzzParse", "renewal", seed(message{cert: issued.Raw, certs: [][]byte{w.ca.Raw, issued.Raw}, keyID: issued.SubjectKeyId, content: env}.build(t)))
	save(t, "FuzzParse", "sha1_attributes_as_sent", seed(message{digest: crypto.SHA1, asSent: true, content: env, id: el(12, transactionID)}.build(t)))
	save(t, "FuzzBER", "apple", seed(apple))
	save(t, "FuzzBER", "segments_of_one_octet", seed(toBER(seq(el(4, []byte("segments")), el(0xa0, seq())), 1)))
	save(t, "FuzzBER", "der", seed(csr))
	save(t, "FuzzOpenInner", "csr", seed(csr), 19)
	save(t, "FuzzOpenInner", "poll", seed(seq(name("ca"), name("device"))), 20)
	save(t, "FuzzOpenInner", "query", seed(seq(name("ca"), []byte{2, 3, 0, 0x80, 1})), 21)
	save(t, "FuzzEnvelope", "plain", seed(env))
	save(t, "FuzzEnvelope", "apple", seed(appleEnv))
	save(t, "FuzzEnvelope", "oaep", seed(oaepEnv))
	save(t, "FuzzSignerCertificate", "windows", seed(windows))
	save(t, "FuzzSignerCertificate", "version1", seed(rawCert{v1: true, serial: []byte{0}}.build(t)))
	save(t, "FuzzSignerCertificate", "issued", seed(issued.Raw))
}

func seed(b []byte) string { return fmt.Sprintf("[]byte(%q)", b) }

// save writes one seed in the format of go test.
func save(t *testing.T, target, file, value string, kind ...int) {
	t.Helper()
	dir := filepath.Join("testdata", "fuzz", target)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	lines := []string{"go test fuzz v1"}
	for _, k := range kind {
		lines = append(lines, fmt.Sprintf("byte('\\x%02x')", k))
	}
	text := strings.Join(append(lines, value), "\n") + "\n"
	if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
