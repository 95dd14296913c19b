//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/certconnector/certconnector/intune/intunetest"
)

// certmongerWaits are functions for scripts: known waits until the CA's
// certificates have come, settled REQUEST STATES until a request is in one of
// these states, and prints it as it is then. A state may last shortly only.
const certmongerWaits = `
known() { for i in $(seq 400); do getcert list-cas -c probe | grep -q 'CA certificate' && return; sleep 0.5; done; }
settled() { for i in $(seq 400); do out=$(getcert list -i "$1"); echo "$out" | grep -Eq "status: ($2)\$" && break; sleep 0.25; done; echo "$out"; }
`

// certmonger runs the service on a private socket, without D-Bus, for the
// length of one script. It returns what the script printed; getcert exits with
// 0 whatever happened, so that the text and the files are what counts. wrap is
// put before the command line.
func certmonger(t *testing.T, dir, script string, wrap ...string) string {
	t.Helper()
	need(t, "certmonger", "certmonger")
	env := []string{
		"HOME=" + dir, "XDG_RUNTIME_DIR=" + dir,
		"CERTMONGER_REQUESTS_DIR=" + dir + "/req", "CERTMONGER_CAS_DIR=" + dir + "/cas",
		"CERTMONGER_TMPDIR=" + dir + "/tmp", "CERTMONGER_LOCAL_CA_DIR=" + dir + "/local",
	}
	for _, name := range []string{"req", "cas", "tmp", "local"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, dir+"/steps.sh", []byte(certmongerWaits+script))
	args := append(append([]string{"280"}, wrap...), "certmonger", "-L", "-P", dir+"/sock", "-n", "-d", "1", "-p", dir+"/pid", "-c", "sh "+dir+"/steps.sh")
	o := execute(t, dir, env, "timeout", args...)
	return o.stdout + o.stderr
}

// monitored finds the state of a request in what "getcert list" printed last.
var monitored = regexp.MustCompile(`status: (\w+)`)

func lastStatus(out string) string {
	all := monitored.FindAllStringSubmatch(out, -1)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1][1]
}

const cmName = "cm1.example.test"

// certmongerProfile makes a profile that certmonger's request fits.
func (w *world) certmongerProfile() {
	w.t.Helper()
	err := w.cloud.AddProfile(intunetest.ContosoID, intunetest.Profile{
		Name: "certmonger", Platform: "windows", Subject: "CN=" + cmName, SAN: intunetest.Names{DNS: []string{cmName}}, KeySize: 2048,
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// TestCertmonger enrols, renews with the same key and with a new one; with a
// challenge that was used, the Intune endpoint refuses.
func TestCertmonger(t *testing.T) {
	for _, e := range []struct{ name, path string }{{"intune", intunePath}, {"static", staticPath}} {
		t.Run(e.name, func(t *testing.T) {
			w := newWorld(t)
			w.start()
			w.certmongerProfile()
			challenge := func() string {
				if e.path == staticPath {
					return w.static
				}
				return w.challenge(intunetest.Ask{Profile: "certmonger", Device: matrixDevice}).Challenge
			}
			w.certmongerRun(w.record(), e.path, challenge)
		})
	}
}

func (w *world) certmongerRun(rec *recorder, path string, challenge func() string) {
	t := w.t
	t.Helper()
	d := shortDir(t)
	first := challenge()
	out := certmonger(t, d, fmt.Sprintf(`
getcert add-scep-ca -c probe -u %[1]q
known
step() { getcert list -i req1; cp %[2]s/c.crt "%[2]s/$1.crt"; }
getcert request -c probe -I req1 -k %[2]s/c.key -f %[2]s/c.crt -N CN=%[3]s -D %[3]s -L %[4]q -G rsa -g 2048 -w --wait-timeout 200 -v
step 1-enrolled
getcert resubmit -i req1 -L %[5]q -w --wait-timeout 200
step 2-resubmitted
getcert rekey -i req1 -L %[6]q -w --wait-timeout 200
step 3-rekeyed
getcert resubmit -i req1 -L %[4]q
for i in $(seq 400); do
	out=$(getcert list -i req1)
	echo "$out" | grep -q 'ca-error:' && break
	echo "$out" | grep -q 'status: MONITORING' && ! cmp -s %[2]s/c.crt %[2]s/3-rekeyed.crt && break
	sleep 0.25
done
echo LAST
step 4-old-challenge
`, rec.URL+path, d, cmName, first, challenge(), challenge()))
	serials := map[string]bool{}
	var keys []any
	for _, name := range []string{"1-enrolled", "2-resubmitted", "3-rekeyed"} {
		file := filepath.Join(d, name+".crt")
		if _, err := os.Stat(file); err != nil {
			t.Fatalf("%s: no certificate\n%s", name, w.hide(out))
		}
		cert := readCertificate(t, file)
		w.checkCertificate(cert, nil)
		serials[serialText(cert)] = true
		keys = append(keys, cert.PublicKey)
	}
	if len(serials) != 3 {
		t.Errorf("%d different certificates, want 3\n%s", len(serials), w.hide(out))
	}
	if fmt.Sprint(keys[0]) != fmt.Sprint(keys[1]) || fmt.Sprint(keys[1]) == fmt.Sprint(keys[2]) {
		t.Error("resubmit must keep the key and rekey must change it")
	}
	before, last, _ := strings.Cut(out, "LAST")
	if got := lastStatus(before); got != "MONITORING" {
		t.Errorf("after the renewals certmonger is in state %s\n%s", got, w.hide(out))
	}
	fourth := serialText(readCertificate(t, filepath.Join(d, "4-old-challenge.crt")))
	if refused := strings.Contains(last, "ca-error:") && serials[fourth]; path == intunePath && !refused {
		t.Errorf("a used challenge was not refused\n%s", w.hide(last))
	} else if path == staticPath && serials[fourth] {
		t.Errorf("the static challenge did not renew once more\n%s", w.hide(last))
	}
	for _, e := range rec.operations("PKIOperation") {
		w.checkExchange(e, "aes", "sha256")
	}
	if path == intunePath {
		w.told()
	}
}

// hide takes secrets out of what a foreign program printed.
func (w *world) hide(text string) string {
	for _, s := range w.secrets {
		text = strings.ReplaceAll(text, s, "[secret]")
	}
	return text
}

// TestCertmongerPolls has a person approve a parked request, for which
// certmonger asks by sending its PKCSReq again.
func TestCertmongerPolls(t *testing.T) {
	w := newWorld(t)
	w.start()
	rec := w.record()
	d := shortDir(t)
	config := w.path("certconnector.yaml")
	out := certmonger(t, d, fmt.Sprintf(`
getcert add-scep-ca -c probe -u %[1]q
known
getcert request -c probe -I req1 -k %[2]s/c.key -f %[2]s/c.crt -N CN=%[3]s -D %[3]s -L %[4]q -G rsa -g 2048
settled req1 'CA_WORKING|CA_UNREACHABLE'
test -e %[2]s/c.crt && echo TOO EARLY
id=$(%[5]s requests list --config %[6]s --state parked --json | sed -n 's/.*"id": "\([0-9]*\)".*/\1/p' | head -1)
%[5]s requests approve "$id" --config %[6]s
getcert resubmit -i req1 -w --wait-timeout 200
getcert list -i req1
`, rec.URL+approvalPath, d, cmName, w.static, built.release, config))
	if strings.Contains(out, "TOO EARLY") || !strings.Contains(out, "is approved") || lastStatus(out) != "MONITORING" {
		t.Fatalf("the parked request did not become a certificate after its approval\n%s", w.hide(out))
	}
	w.checkCertificate(readCertificate(t, d+"/c.crt"), nil)
	if list := w.certificates(); len(list) != 1 {
		t.Errorf("%d certificates for one parked request", len(list))
	}
}

// TestCertmongerReadsRepliesWithContent: with dummy_content it learns that a
// request waits for a person, and that another one was refused. Without, this
// certmonger takes both for a CA that cannot be reached.
func TestCertmongerReadsRepliesWithContent(t *testing.T) {
	w := newWorld(t)
	w.start()
	d := shortDir(t)
	out := certmonger(t, d, fmt.Sprintf(`
getcert add-scep-ca -c probe -u %[1]q
known
getcert request -c probe -I req1 -k %[2]s/c.key -f %[2]s/c.crt -N CN=%[3]s -D %[3]s -L %[4]q -G rsa -g 2048
settled req1 'CA_WORKING|CA_UNREACHABLE'
getcert request -c probe -I req2 -k %[2]s/d.key -f %[2]s/d.crt -N CN=%[3]s -D %[3]s -L wrong -G rsa -g 2048
settled req2 'CA_REJECTED|CA_UNREACHABLE'
`, w.url(fullPath), d, cmName, w.static))
	states := monitored.FindAllStringSubmatch(out, -1)
	if len(states) < 2 || states[0][1] != "CA_WORKING" || lastStatus(out) != "CA_REJECTED" {
		t.Errorf("certmonger is in states %v, want CA_WORKING and then CA_REJECTED\n%s", states, w.hide(out))
	}
}
