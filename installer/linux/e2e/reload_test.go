//go:build e2elinux

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// reload replaces the listener's certificate under load. The old one is put
// back, by SIGHUP.
func (s *service) reload(t *testing.T) {
	certificate, key := s.tlsFiles(t)
	oldCertificate, oldKey := read(t, certificate), read(t, key)
	pid := s.show(t, "MainPID")

	const load = `n=0; while [ ! -e /run/enough ] || [ $n -lt 20 ]; do touch /run/asking;
		curl -skSf -o /dev/null -o /dev/null --max-time 60 "` + url + `?operation=GetCACaps" "` + url + `?operation=GetCACert" || echo lost; n=$((n+1)); done; echo asked`
	s.run(t, "rm", "-f", "/run/asking", "/run/enough")
	asked := make(chan string, 1)
	go func() {
		out, _ := s.try("sh", "-c", load)
		asked <- out
	}()
	s.within("requests are made", func() bool {
		_, err := s.try("test", "-e", "/run/asking")
		return err == nil
	})
	for range 3 {
		newCertificate, newKey := selfSigned(t)
		write(t, certificate, newCertificate)
		write(t, key, newKey)
		done := stamp(t, "systemctl reload")
		s.run(t, "systemctl", "reload", "certconnector.service")
		done()
		roots := filepath.Join(t.TempDir(), "new.pem")
		write(t, roots, newCertificate)
		if out, err := s.beside("curl", "-sSf", "--max-time", "60", "--cacert", roots, url+"?operation=GetCACaps"); err != nil {
			t.Errorf("the new certificate is not in use: %v %s", err, out)
		}
	}
	write(t, certificate, oldCertificate)
	write(t, key, oldKey)
	s.run(t, "systemctl", "kill", "-s", "HUP", "certconnector.service")
	s.within("SIGHUP puts the old certificate back", func() bool {
		_, err := s.beside("curl", "-sSf", "--max-time", "60", "--cacert", filepath.Join(s.root, state, "ca", "ca.crt.pem"), url+"?operation=GetCACaps")
		return err == nil
	})
	s.run(t, "touch", "/run/enough")
	if out := strings.TrimSpace(<-asked); out != "asked" {
		t.Errorf("requests during the reloads: %s", out)
	}
	if got := s.show(t, "MainPID"); got != pid {
		t.Errorf("the process is %s, it was %s", got, pid)
	}
	s.remembers(t, "first")
	s.enrol(t, "after-reload")
}

func (s *service) reloadBroken(t *testing.T) {
	file := filepath.Join(s.root, config)
	good, pid := read(t, file), s.show(t, "MainPID")
	write(t, file, append(good, "\nnonsense: 1\n"...))
	if out, err := s.try("systemctl", "reload", "certconnector.service"); err == nil {
		t.Errorf("systemctl reload of a broken file succeeds: %s", out)
	}
	if log := s.journal(t); !strings.Contains(log, "nonsense") {
		t.Errorf("the journal does not name the mistake:\n%s", log)
	}
	if got := s.show(t, "ActiveState"); got != "active" || s.show(t, "MainPID") != pid {
		t.Errorf("it is %s", got)
	}
	if out, _ := s.try("certconnector", "status"); !strings.Contains(out, "the file was refused") {
		t.Errorf("status does not say so:\n%s", out)
	}
	s.enrol(t, "despite-the-file")

	// What needs a restart fails too, and is named; the rest applies.
	write(t, file, append(good, "\nlimits: {idle_timeout: 1m}\n"...))
	if out, err := s.try("systemctl", "reload", "certconnector.service"); err == nil {
		t.Errorf("systemctl reload with a setting that needs a restart succeeds: %s", out)
	}
	if log := s.journal(t); !strings.Contains(log, "needs a restart: limits.idle_timeout") {
		t.Errorf("the journal does not name the setting:\n%s", log)
	}
	write(t, file, good)
	s.run(t, "systemctl", "reload", "certconnector.service")
	s.enrol(t, "after-the-mending")
}

// journal is what the service has said last. journald takes it in its own time.
func (s *service) journal(t *testing.T) string {
	t.Helper()
	s.run(t, "journalctl", "--sync")
	return s.run(t, "journalctl", "--no-pager", "-n", "20", "-u", "certconnector")
}

// tlsFiles are the listener's certificate and key, as the configuration names
// them, on this host.
func (s *service) tlsFiles(t *testing.T) (certificate, key string) {
	t.Helper()
	m := regexp.MustCompile(`tls: \{certificate: ([^,]+), key: ([^}]+)\}`).FindSubmatch(read(t, filepath.Join(s.root, config)))
	if m == nil {
		t.Fatal("the configuration names no certificate")
	}
	at := func(path string) string {
		path = strings.Trim(path, `"' `)
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(config), path)
		}
		return filepath.Join(s.root, path)
	}
	return at(string(m[1])), at(string(m[2]))
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// write replaces what a file holds; owner and mode stay.
func write(t *testing.T, file string, b []byte) {
	t.Helper()
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// selfSigned makes a certificate for this machine that nothing else signs.
func selfSigned(t *testing.T) (certificate, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "reload"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}
