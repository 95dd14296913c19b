//go:build e2ewindows

package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/cmd/certlab/device"
	"github.com/certconnector/certconnector/installer/windows/winetest"
	"github.com/certconnector/certconnector/internal/freeport"
	"github.com/certconnector/certconnector/scep"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// Paths of an installation.
const (
	program = `C:\Program Files\certconnector\certconnector.exe`
	regKey  = `HKLM\SYSTEM\CurrentControlSet\Services\certconnector`
)

// service is the installed service on a Windows.
type service struct {
	*winetest.Windows
	address string // of the listener
	devices string // folder of what devices have
}

func newService(t *testing.T) *service {
	t.Helper()
	return &service{Windows: winetest.New(t), address: freeport.ForTest(t), devices: t.TempDir()}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (s *service) config() string {
	return s.Drive("ProgramData", "certconnector", "certconnector.yaml")
}
func (s *service) state(parts ...string) string {
	return filepath.Join(append([]string{s.Drive("ProgramData", "certconnector", "state")}, parts...)...)
}
func (s *service) url() string { return "https://" + s.address + "/certsrv/mscep/mscep.dll" }

// run is Run for what must succeed.
func (s *service) run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := s.Run(program, args...)
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, s.log())
	}
	return out
}

// log is what the service wrote last.
func (s *service) log() string {
	files, _ := filepath.Glob(s.state("*.log"))
	text := ""
	for _, f := range files {
		b, _ := os.ReadFile(f)
		text += f + ":\n" + string(b[max(0, len(b)-4000):])
	}
	return text
}

// msiexec runs the installer silently.
func (s *service) msiexec(t *testing.T, args ...string) error {
	t.Helper()
	defer stamp(t, "msiexec "+args[0])()
	log := filepath.Join(t.TempDir(), "msi.log")
	out, err := s.Run("msiexec", append(args, "/qn", "/l*v", s.Path(log))...)
	if err != nil {
		t.Logf("%s", out)
	}
	return err
}

// stamp is how long a step took, for the log.
func stamp(t *testing.T, what string) func() {
	began := time.Now()
	return func() { t.Logf("%s: %.1f s", what, time.Since(began).Seconds()) }
}

var (
	stateLine = regexp.MustCompile(`STATE\s*: (\d+)`)
	exitLine  = regexp.MustCompile(`WIN32_EXIT_CODE\s*: (\d+)`)
)

// query asks the service manager; "" means that there is no such service.
func (s *service) query() (state, exit string) {
	out, err := s.Run("sc", "query", "certconnector")
	if err != nil {
		return "", ""
	}
	found := func(re *regexp.Regexp) string {
		if m := re.FindStringSubmatch(out); m != nil {
			return m[1]
		}
		return "?"
	}
	return found(stateLine), found(exitLine)
}

// The service's states, as the service manager numbers them.
const (
	stopped = "1"
	running = "4"
)

// is waits for a state.
func (s *service) is(t *testing.T, want string) {
	t.Helper()
	got := ""
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if got, _ = s.query(); got == want {
			return
		}
	}
	t.Fatalf("the service's state is %q, want %q\n%s", got, want, s.log())
}

// answers tells whether somebody listens.
func (s *service) answers() bool {
	c, err := net.DialTimeout("tcp", s.address, time.Second)
	if err != nil {
		return false
	}
	_ = c.Close() // nothing was sent
	return true
}

// has looks for files on the drive; there tells whether they should exist.
func (s *service) has(t *testing.T, there bool, paths ...string) {
	t.Helper()
	for _, p := range paths {
		if _, err := os.Lstat(p); (err == nil) != there {
			t.Errorf("%s: %v", p, err)
		}
	}
}

// isIdle looks at a fresh installation without a configuration.
func (s *service) isIdle(t *testing.T) {
	s.isIdleService(t)
	if out := s.run(t, "reg", "query", `HKLM\SYSTEM\CurrentControlSet\Control\Session Manager\Environment`, "/v", "PATH"); !strings.Contains(out, `C:\Program Files\certconnector`) {
		t.Errorf("the search path: %s", out)
	}
}

// isIdleService looks at the service and its event source.
func (s *service) isIdleService(t *testing.T) {
	t.Helper()
	if state, _ := s.query(); state != stopped {
		t.Errorf("without a configuration its state is %s", state)
	}
	s.has(t, false, s.config())
	out := s.run(t, "reg", "query", regKey)
	for _, want := range []string{`ObjectName\s+REG_SZ\s+NT SERVICE\\certconnector`, `Start\s+REG_DWORD\s+0x2`,
		`ImagePath\s+\S+\s+.*certconnector\.exe.* run --config "?C:\\ProgramData\\certconnector\\certconnector\.yaml"?`} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("the service's key lacks %s:\n%s", want, out)
		}
	}
	out = s.run(t, "reg", "query", `HKLM\SYSTEM\CurrentControlSet\Services\EventLog\Application\certconnector`)
	for _, want := range []string{`EventMessageFile\s+REG_EXPAND_SZ\s+C:\\Program Files\\certconnector\\certconnector\.exe`, `TypesSupported\s+REG_DWORD\s+0x7`} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("the event source lacks %s:\n%s", want, out)
		}
	}
}

// init makes the configuration in the package's folders.
func (s *service) init(t *testing.T) {
	defer stamp(t, "certconnector init")()
	s.run(t, program, "init", "--policy", "static", "--hostname", "127.0.0.1", "--listen", s.address)
	s.has(t, true, s.config(), s.state("journal.db"), s.state("ca", "ca.key.pem"))
	if out, _ := s.Run(program, "validate"); !strings.Contains(out, "is in order") { // with warnings about the static challenge, and so with status 1
		t.Errorf("validate: %s", out)
	}
}

func (s *service) start(t *testing.T) {
	t.Helper()
	defer stamp(t, "net start")()
	s.run(t, "net", "start", "certconnector")
	s.is(t, running)
}

func (s *service) stop(t *testing.T) {
	t.Helper()
	defer stamp(t, "net stop")()
	s.run(t, "net", "stop", "certconnector")
	s.is(t, stopped)
	if s.answers() {
		t.Error("it is stopped, and somebody answers")
	}
}

// enrol has a device of this host get a certificate, which openssl verifies.
func (s *service) enrol(t *testing.T, name string) {
	t.Helper()
	done := stamp(t, "a device enrols")
	root, dir := s.state("ca", "ca.crt.pem"), filepath.Join(s.devices, name)
	out := host(t, filepath.Join("bin", "certlab"), "enroll", "--platform", "windows", "--url", s.url(), "--ca-file", root,
		"--challenge-file", s.state("challenge"), "--subject", "CN="+name, "--out", dir)
	done()
	if !strings.Contains(out, "CN="+name) {
		t.Errorf("the device got %s", out)
	}
	verified := host(t, "openssl", "verify", "-CAfile", root, "-purpose", "sslclient", only(t, dir, "cert.pem"))
	if !strings.Contains(verified, "OK") {
		t.Errorf("openssl: %s", verified)
	}
	s.remembers(t, name)
}

// remembers asks for a certificate by its serial number (GetCert): it is in
// the CA's register, or there is none.
func (s *service) remembers(t *testing.T, name string) {
	t.Helper()
	held, err := device.Load(filepath.Join(s.devices, name))
	if err != nil {
		t.Fatal(err)
	}
	c := scepclient.Client{URL: s.url(), HTTP: s.client(t)}
	reply, err := c.GetCert(t.Context(), scepclient.Identity{Certificate: held.Certificate.Raw, Key: held.Key}, held.Certificate)
	if err != nil || reply.Status != scep.Success || !reply.Certificate.Equal(held.Certificate) {
		t.Errorf("the certificate of %s: %+v, %v", name, reply, err)
	}
}

// client trusts the service's CA and nobody else.
func (s *service) client(t *testing.T) *http.Client {
	t.Helper()
	b, err := os.ReadFile(s.state("ca", "ca.crt.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(b)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 2 * time.Minute}
}
