package adcstest

import (
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/internal/freeport"
)

// KDC is a Kerberos key distribution center (MIT's krb5kdc) on loopback that
// lives as long as a test.
type KDC struct {
	Realm      string
	KeytabFile string // keys of all its principals
	ConfigFile string // krb5.conf for its clients

	t   testing.TB
	dir string
	env []string
}

// StartKDC starts a KDC for a realm with principals and their passwords. It
// skips the test where krb5kdc is missing, but on a build server and in the
// suites with build tags it fails.
func StartKDC(t testing.TB, realm string, principals map[string]string) *KDC {
	t.Helper()
	for _, program := range []string{"krb5kdc", "kdb5_util", "kadmin.local", "kinit"} {
		if findProgram(program) != "" {
			continue
		}
		if os.Getenv("CI") == "" && !required {
			t.Skipf("%s is missing: install the Debian packages krb5-kdc, krb5-admin-server and krb5-user", program)
		}
		t.Fatalf("%s is missing: install the Debian packages krb5-kdc, krb5-admin-server and krb5-user", program)
	}
	k := &KDC{Realm: realm, t: t, dir: t.TempDir()}
	k.KeytabFile, k.ConfigFile = k.file("keytab"), k.file("krb5.conf")
	k.env = append(os.Environ(), "KRB5_CONFIG="+k.ConfigFile, "KRB5_KDC_PROFILE="+k.file("kdc.conf"), "LC_ALL=C")
	address := freeport.ForTest(t)
	k.configure(address)
	k.run("", "kdb5_util", "create", "-s", "-r", realm, "-P", "a database of a test")
	var commands strings.Builder
	for _, name := range slices.Sorted(maps.Keys(principals)) {
		fmt.Fprintf(&commands, "addprinc -pw %q %s\nktadd -k %s -norandkey %s\n", principals[name], name, k.KeytabFile, name)
	}
	k.run(commands.String(), "kadmin.local", "-r", realm)
	k.start(address)
	return k
}

// findProgram looks in the administrator's folders too, which are not in
// everyone's PATH.
func findProgram(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	return ""
}

func (k *KDC) file(name string) string { return filepath.Join(k.dir, name) }

// configure writes the files of clients and server. Clients speak TCP only:
// a free TCP port says nothing about UDP.
func (k *KDC) configure(address string) {
	domain := strings.ToLower(k.Realm)
	client := fmt.Sprintf(`[libdefaults]
 default_realm = %[1]s
 dns_lookup_realm = false
 dns_lookup_kdc = false
 dns_canonicalize_hostname = false
 rdns = false
 udp_preference_limit = 1
 default_tkt_enctypes = aes256-cts-hmac-sha1-96
 default_tgs_enctypes = aes256-cts-hmac-sha1-96
 permitted_enctypes = aes256-cts-hmac-sha1-96 aes128-cts-hmac-sha1-96
[realms]
 %[1]s = {
  kdc = %[2]s
 }
[domain_realm]
 .%[3]s = %[1]s
 %[3]s = %[1]s
`, k.Realm, address, domain)
	server := fmt.Sprintf(`[kdcdefaults]
 kdc_listen = ""
 kdc_tcp_listen = %[2]s
[realms]
 %[1]s = {
  database_name = %[3]s
  key_stash_file = %[4]s
  acl_file = %[5]s
  supported_enctypes = aes256-cts-hmac-sha1-96:normal aes128-cts-hmac-sha1-96:normal
 }
`, k.Realm, address, k.file("principal"), k.file("stash"), k.file("kadm5.acl"))
	for name, text := range map[string]string{"krb5.conf": client, "kdc.conf": server, "kadm5.acl": ""} {
		if err := os.WriteFile(k.file(name), []byte(text), 0o600); err != nil {
			k.t.Fatalf("writing the KDC's files: %v", err)
		}
	}
}

func (k *KDC) run(stdin, program string, args ...string) {
	k.t.Helper()
	cmd := exec.Command(findProgram(program), args...)
	cmd.Env, cmd.Stdin = k.env, strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		k.t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

func (k *KDC) start(address string) {
	k.t.Helper()
	log, err := os.Create(k.file("log"))
	if err != nil {
		k.t.Fatalf("starting the KDC: %v", err)
	}
	cmd := exec.Command(findProgram("krb5kdc"), "-n", "-r", k.Realm, "-P", k.file("pid"))
	cmd.Env, cmd.Stdout, cmd.Stderr = k.env, log, log
	if err := cmd.Start(); err != nil {
		k.t.Fatalf("starting the KDC: %v", err)
	}
	k.t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		log.Close()
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(deadline) {
			out, _ := os.ReadFile(k.file("log"))
			k.t.Fatalf("the KDC does not answer at %s: %v\n%s", address, err, out)
		}
	}
}

// TicketCache signs a principal in with its key and returns its credential
// cache, in MIT's file format.
func (k *KDC) TicketCache(principal string) string {
	k.t.Helper()
	file := k.file("ccache-" + strings.NewReplacer("/", "_", "@", "_", "$", "_").Replace(principal))
	k.run("", "kinit", "-k", "-t", k.KeytabFile, "-c", "FILE:"+file, principal+"@"+k.Realm)
	return file
}

// Environ is the environment for programs that use this KDC.
func (k *KDC) Environ() []string { return slices.Clone(k.env) }
