//go:build e2e

package e2e

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	neturl "net/url"
	"os"
	"os/exec"
	"os/user"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/freeport"
	"github.com/certconnector/certconnector/intune/intunetest"
	"github.com/certconnector/certconnector/scep/scepclient"
)

// server is a foreign server for the length of a test.
type server struct {
	cmd     *exec.Cmd
	ended   chan struct{}
	address string
}

// serve starts a program that stays in the foreground, and waits until its
// address is open. It is ended by its own process ID.
func serve(t *testing.T, address, name string, args ...string) *server {
	t.Helper()
	s := &server{cmd: exec.Command(name, args...), ended: make(chan struct{}), address: address}
	var said strings.Builder
	s.cmd.Stdout, s.cmd.Stderr = &said, &said
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.cmd.Wait(); close(s.ended) }() // how it ends is seen by what it no longer does
	t.Cleanup(s.stop)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
			return s
		}
		select {
		case <-s.ended:
			t.Fatalf("%s ended at once:\n%s", name, said.String())
		default:
		}
	}
	t.Fatalf("%s does not listen on %s", name, address)
	return nil
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(time.Minute):
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
}

const proxyUser, proxyPassword = "certconnector", "pass~word-of~squid"

// squid runs Debian's squid: tunnels for one user, and nothing else. It returns
// where its log is.
func squid(t *testing.T) (s *server, log string) {
	t.Helper()
	need(t, "squid", "squid")
	need(t, "openssl", "openssl")
	dir := shortDir(t)
	writeFile(t, dir+"/users", []byte(proxyUser+":"+must(t, dir, "openssl", "passwd", "-apr1", proxyPassword)))
	address := freeport.ForTest(t)
	writeFile(t, dir+"/squid.conf", []byte(strings.NewReplacer("DIR", dir, "ADDRESS", address).Replace(`
http_port ADDRESS
auth_param basic program /usr/lib/squid/basic_ncsa_auth DIR/users
auth_param basic children 2
auth_param basic realm proxy
acl known proxy_auth REQUIRED
acl CONNECT method CONNECT
http_access deny !known
http_access allow CONNECT
http_access deny all
access_log stdio:DIR/access.log squid
cache_log DIR/cache.log
pid_filename none
cache deny all
netdb_filename none
pinger_enable off
shutdown_lifetime 1 second
`)))
	if os.Getuid() == 0 { // squid gives its rights up, and must still read and write here
		proxy, err := user.Lookup("proxy")
		if err != nil {
			t.Fatal(err)
		}
		uid, _ := strconv.Atoi(proxy.Uid)
		gid, _ := strconv.Atoi(proxy.Gid)
		for _, path := range []string{dir, dir + "/users", dir + "/squid.conf"} {
			if err := os.Chown(path, uid, gid); err != nil {
				t.Fatal(err)
			}
		}
	}
	return serve(t, address, "squid", "-N", "-f", dir+"/squid.conf", "-n", "e2e"+strconv.Itoa(os.Getpid())), dir + "/access.log"
}

// TestSquid has a connector whose cloud is reached only through a proxy that
// wants a user and a password.
func TestSquid(t *testing.T) {
	proxy, accessLog := squid(t)
	w := newWorldOf(t, false)
	w.secret(proxyPassword)
	w.certmongerProfile()
	w.behind(proxy)
	admin := w.showStatus()

	t.Run("certmonger enrols with a challenge of Intune", func(t *testing.T) {
		defer w.during(t)()
		writeFile(t, w.path("proxy-password"), []byte(proxyPassword+"\n"))
		w.start()
		w.certmongerOnce(w.url(intunePath), "")
		w.told()
		w.stop() // a tunnel is logged when it ends
		awaitLines(t, accessLog, "TCP_TUNNEL/", 3)
		b, err := os.ReadFile(accessLog)
		if err != nil {
			t.Fatal(err)
		}
		for _, cloud := range []string{w.cloud.AuthorityURL(), w.cloud.GraphURL(), w.cloud.ServiceURL()} {
			line := regexp.MustCompile(`TCP_TUNNEL/200 \d+ CONNECT ` + regexp.QuoteMeta(hostOf(cloud)) + ` ` + proxyUser + ` `)
			if !line.Match(b) {
				t.Errorf("squid opened no tunnel to %s:\n%s", cloud, b)
			}
		}
		if strings.Contains(string(b), " POST ") || strings.Contains(string(b), " GET ") {
			t.Errorf("squid saw more than tunnels:\n%s", b)
		}
	})
	t.Run("a wrong password is the proxy's 407, told once", func(t *testing.T) {
		defer w.during(t)()
		writeFile(t, w.path("proxy-password"), []byte(w.secret("another~password~of~squid")+"\n"))
		before, err := os.ReadFile(accessLog)
		if err != nil {
			t.Fatal(err)
		}
		w.start()
		for range 3 {
			if status := w.refusedDevice(); status != http.StatusServiceUnavailable {
				t.Errorf("the device is answered with %d", status)
			}
		}
		want := "the proxy " + proxy.address + " refused user and password (HTTP 407); check proxy.user and proxy.password; it is asked again after five minutes at the earliest"
		if log := w.logged(); !strings.Contains(log, want) {
			t.Errorf("the log does not say %q", want)
		}
		if page := w.page(admin, "/readyz?verbose"); !strings.Contains(page, "validate: tenant intune: token: network ("+want+")") {
			t.Errorf("/readyz?verbose says\n%s", page)
		}
		w.stop()
		// squid writes down what was asked after it has answered.
		awaitLines(t, accessLog, "TCP_DENIED/407", strings.Count(string(before), "TCP_DENIED/407")+1)
		after, err := os.ReadFile(accessLog)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(after[len(before):]), "TCP_DENIED/407"); n != 1 {
			t.Errorf("squid refused %d times, want one: accounts get locked", n)
		}
	})
	t.Run("a proxy that is gone", func(t *testing.T) {
		defer w.during(t)()
		proxy.stop()
		w.start()
		if status := w.refusedDevice(); status != http.StatusServiceUnavailable {
			t.Errorf("the device is answered with %d", status)
		}
		if want := "the proxy " + proxy.address + " cannot be reached"; !strings.Contains(w.logged(), want) {
			t.Errorf("the log does not say %q", want)
		}
	})
}

// awaitLines waits until a log has so many lines with a text.
func awaitLines(t *testing.T, path, text string, lines int) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if b, err := os.ReadFile(path); err == nil && strings.Count(string(b), text) >= lines {
			return
		}
	}
}

// behind puts the tenant behind a proxy.
func (w *world) behind(proxy *server) {
	w.edit(func(text string) string {
		return strings.Replace(text, "    ca_file: cloud.pem\n", fmt.Sprintf(
			"    ca_file: cloud.pem\n    proxy: {url: \"http://%s\", user: %s, password: {file: proxy-password}}\n", proxy.address, proxyUser), 1)
	})
}

// showStatus adds a listener for operators, and returns its address.
func (w *world) showStatus() string {
	address := freeport.ForTest(w.t)
	w.edit(func(text string) string {
		return strings.Replace(text, "listeners:\n", "listeners:\n  - {name: admin, address: \""+address+"\", faces: [status], plain_http: true}\n", 1)
	})
	return "http://" + address
}

// certmongerOnce has certmonger enrol once at a URL. wrap is put before its
// command line.
func (w *world) certmongerOnce(url, options string, wrap ...string) {
	t, d := w.t, shortDir(w.t)
	t.Helper()
	challenge := w.challenge(intunetest.Ask{Profile: "certmonger", Device: matrixDevice}).Challenge
	out := certmonger(t, d, fmt.Sprintf(`
getcert add-scep-ca -c probe -u %[1]q %[5]s
known
getcert request -c probe -I req1 -k %[2]s/c.key -f %[2]s/c.crt -N CN=%[3]s -D %[3]s -L %[4]q -G rsa -g 2048 -w --wait-timeout 200 -v
getcert list -i req1
`, url, d, cmName, challenge, options), wrap...)
	if got := lastStatus(out); got != "MONITORING" {
		t.Fatalf("certmonger is in state %s\n%s", got, w.hide(out))
	}
	w.checkCertificate(readCertificate(t, d+"/c.crt"), nil)
}

// trusting is a command line to put before another, which then finds the CA's
// root, and no other, where the system keeps its roots: for requests certmonger
// does not use the root of its option -R (0.79.17).
func (w *world) trusting() []string {
	const system = "/etc/ssl/certs/ca-certificates.crt"
	need(w.t, "unshare", "util-linux")
	need(w.t, "mount", "mount")
	if _, err := os.Stat(system); err != nil {
		w.t.Fatalf("%v; on Debian: apt-get install --no-install-recommends ca-certificates", err)
	}
	wrap := []string{"unshare", "--mount"}
	if os.Getuid() != 0 {
		wrap = append(wrap, "--map-root-user")
	}
	return append(wrap, "sh", "-c", `mount --bind "$0" `+system+` && exec "$@"`, w.path("ca/ca.crt.pem"))
}

// refusedDevice has a device ask for a certificate, and returns the status.
func (w *world) refusedDevice() int {
	d, tx := w.prepare("windows", intunePath, deviceKey)
	r, err := d.Send(w.t.Context(), tx.Message)
	if err == nil || r == nil {
		w.t.Fatalf("the device got %v", r)
	}
	return r.HTTPStatus
}

func (w *world) logged() string {
	b, err := os.ReadFile(w.path("connector.log"))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

func (w *world) page(base, path string) string {
	resp, err := http.Get(base + path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

func hostOf(address string) string {
	host := strings.TrimPrefix(address, "https://")
	host, _, _ = strings.Cut(host, "/")
	return host
}

// documented are the nginx.conf in docs/proxy.md, and the server in it for
// clients with certificates.
func documented(t *testing.T) (conf, mdm string) {
	t.Helper()
	b, err := os.ReadFile("../../../docs/proxy.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```nginx\n(.*?)```").FindAllStringSubmatch(string(b), -1)
	if len(blocks) != 2 {
		t.Fatalf("docs/proxy.md has %d nginx configurations, want one and a server", len(blocks))
	}
	return blocks[0][1], blocks[1][1]
}

// nginx runs the documented configurations in front of the connector, whose
// listener for MDM servers is at an address: only addresses and places of files
// are others. It returns where MDM servers reach it.
func (w *world) nginx(listener string) (front *server, mdm string) {
	t := w.t
	t.Helper()
	need(t, "nginx", "nginx-light")
	dir := shortDir(t)
	w.makeTLS(dir)
	address, mdm := freeport.ForTest(t), freeport.ForTest(t)
	text, second := documented(t)
	end := strings.LastIndex(text, "}")
	text = text[:end] + second + text[end:]
	for _, r := range [][2]string{
		{"pid /run/nginx.pid;", "pid " + dir + "/nginx.pid; daemon off;"},
		{"/var/log/nginx/error.log", dir + "/error.log"},
		{"/var/log/nginx/access.log", dir + "/access.log"},
		{"server 127.0.0.1:8080;", "server " + hostOf(strings.TrimPrefix(w.base, "http://")) + ";"},
		{"listen 443 ssl;", "listen " + address + " ssl;"},
		{"/etc/nginx/scep.crt.pem", dir + "/tls.crt.pem"},
		{"/etc/nginx/scep.key.pem", dir + "/tls.key.pem"},
		{"listen 8443 ssl;", "listen " + mdm + " ssl;"},
		{"proxy_pass http://127.0.0.1:8081;", "proxy_pass http://" + listener + ";"},
		{"/etc/nginx/mdm.crt.pem", dir + "/tls.crt.pem"},
		{"/etc/nginx/mdm.key.pem", dir + "/tls.key.pem"},
	} {
		if strings.Count(text, r[0]) != 1 {
			t.Fatalf("the documented nginx.conf has not exactly one %q", r[0])
		}
		text = strings.Replace(text, r[0], r[1], 1)
	}
	writeFile(t, dir+"/nginx.conf", []byte(text))
	if os.Getuid() == 0 { // its workers give their rights up, and buffer bodies on disk
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return serve(t, address, "nginx", "-e", dir+"/error.log", "-p", dir, "-c", dir+"/nginx.conf"), "https://" + mdm
}

// TestNginx has devices come through nginx, which ends TLS.
func TestNginx(t *testing.T) {
	w := newWorldOf(t, false)
	w.certmongerProfile()
	w.edit(func(text string) string {
		text = strings.Replace(text, "    plain_http: true", "    trusted_proxies: [\"127.0.0.1\"]\n    plain_http: true", 1)
		return strings.Replace(text, "failures_per_minute: 1000000", "failures_per_minute: 6", 1)
	})
	front, mdm := w.nginx(w.mdmBehindProxy())
	w.start()
	url := "https://" + front.address

	t.Run("certmonger enrols with a challenge of Intune", func(t *testing.T) {
		defer w.during(t)()
		w.certmongerOnce(url+intunePath, "-R "+w.path("ca/ca.crt.pem"), w.trusting()...)
		w.told()
	})
	t.Run("a URL of 65534 octets arrives", func(t *testing.T) {
		d := w.deviceAt("127.0.0.2")
		const octets = 65534
		target := staticPath + "?operation=PKIOperation&message="
		target += strings.Repeat("A", octets-len(target))
		if status, body := d.get(url+target, nil); status != http.StatusBadRequest || body != "not a SCEP message\n" {
			t.Errorf("status %d %.200q is not the connector's answer", status, body)
		}
	})
	t.Run("limits count the device, whatever it says", func(t *testing.T) {
		bad, good := w.deviceAt("127.0.0.3"), w.deviceAt("127.0.0.4")
		wrong := staticPath + "?operation=PKIOperation&message=" + neturl.QueryEscape(base64.StdEncoding.EncodeToString(w.wronglyAsked()))
		limited := 0
		for i := range 20 {
			// Another address each time, in every header that a device could think of.
			forged := fmt.Sprintf("198.51.100.%d", i)
			status, _ := bad.get(url+wrong, http.Header{
				"X-Forwarded-For": {forged}, "Forwarded": {"for=" + forged}, "X-Real-Ip": {forged}, "X-Ssl-Client-Cert": {"forged"},
			})
			if status == http.StatusServiceUnavailable {
				limited++
			}
		}
		if limited == 0 {
			t.Error("a device that fails again and again is not limited")
		}
		if status, _ := good.get(url+wrong, nil); status != http.StatusOK {
			t.Errorf("another device behind the same proxy is answered with %d", status)
		}
		log := w.logged()
		if !strings.Contains(log, `"source":"127.0.0.3"`) || strings.Contains(log, `"source":"198.51.100.`) {
			t.Error("the log does not name the device")
		}
	})
	t.Run("who comes past the proxy is himself", func(t *testing.T) {
		d := w.deviceAt("127.0.0.5")
		if status, _ := d.get(w.url(staticPath)+"?operation=PKIOperation&message=AAAA", http.Header{"X-Forwarded-For": {"198.51.100.99"}}); status != 400 {
			t.Errorf("status %d", status)
		}
		if log := w.logged(); !strings.Contains(log, `"source":"127.0.0.5"`) || strings.Contains(log, "198.51.100.99") {
			t.Error("a device that connects by itself is taken for another")
		}
	})
	t.Run("who showed no certificate is nobody, whatever he writes", func(t *testing.T) { w.forgesCertificates(mdm) })
}

// wronglyAsked is a message with a wrong challenge: it costs a use of the key,
// and counts against who sends it.
func (w *world) wronglyAsked() []byte {
	tx, err := w.device("windows", staticPath).Prepare(w.t.Context(), scepclient.EnrollRequest{
		Key: deviceKey, DER: w.staticCSR("guesses", deviceKey, w.secret("a-guess-of-the-challenge")),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return tx.Message.Raw
}

// asker is a device with an address of its own.
type asker struct {
	t    *testing.T
	http *http.Client
}

// get asks for a URL, and returns status and body.
func (a *asker) get(url string, header http.Header) (int, string) {
	a.t.Helper()
	return a.ask(http.MethodGet, url, header)
}

func (a *asker) ask(method, url string, header http.Header) (int, string) {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), method, url, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	req.Header = header
	resp, err := a.http.Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil && !errors.Is(err, io.EOF) {
		a.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}
