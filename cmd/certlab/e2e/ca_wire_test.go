//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/adcs"
	"github.com/certconnector/certconnector/ca/adcstest"
	"github.com/certconnector/certconnector/internal/negotiate"
	"github.com/certconnector/certconnector/internal/pkcs10"
	"github.com/certconnector/certconnector/internal/testkeys"
)

// TestADCSFrames records our client on the loopback interface and has tshark
// read it, with the keys of the accounts: it finds the protocols, nothing
// malformed, and opens what we sealed.
func TestADCSFrames(t *testing.T) {
	need(t, "tshark", "tshark")
	kdc := domainKDC(t)
	kerberos := func(cfg *adcs.Config) {
		cfg.Kerberos = &negotiate.Kerberos{Principal: "svc@CORP.TEST", Keytab: kdc.KeytabFile, Config: kdc.ConfigFile}
	}
	ntlm := func(cfg *adcs.Config) {
		cfg.NTLM = &negotiate.NTLM{User: `CORP\svc`, Password: adcstest.DefaultPassword}
	}
	spnego := func(cfg *adcs.Config) { kerberos(cfg); cfg.SPNEGO = true }
	for _, row := range []struct {
		name      string
		road      adcs.Road
		signIn    func(*adcs.Config)
		protocols []string // display filters that must match a frame
	}{
		{"DCOM, NTLM", adcs.DCOM, ntlm, []string{"oxid", "isystemactivator", "ntlmssp.messagetype == 1", "ntlmssp.messagetype == 3"}},
		{"DCOM, Kerberos", adcs.DCOM, kerberos, []string{"kerberos.as_rep_element || kerberos.tgs_rep_element", "kerberos.ap_req_element", "kerberos.ap_rep_element"}},
		{"DCOM, Kerberos in SPNEGO", adcs.DCOM, spnego, []string{"spnego", "kerberos.ap_req_element"}},
		{"ICPR, Kerberos", adcs.ICPR, kerberos, []string{"epm", "kerberos.ap_req_element"}},
		{"ICPR, NTLM", adcs.ICPR, ntlm, []string{"epm", "ntlmssp.messagetype == 3"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel() // they mostly wait
			mock, err := adcstest.New(adcstest.Options{Host: caHost, PublishOnRevoke: true})
			if err != nil {
				t.Fatal(err)
			}
			rpc, err := mock.ServeRPC(adcstest.RPCOptions{Keytab: kdc.KeytabFile})
			if err != nil {
				t.Fatal(err)
			}
			defer rpc.Close()
			cfg := adcs.Config{
				Name: "issuing", Config: mock.Config(), Issue: []adcs.Road{row.road}, Revoke: adcs.CSRA, Find: adcs.CSRA,
				Address: rpc.Address(), EndpointMapperPort: rpc.EndpointMapperPort(),
			}
			row.signIn(&cfg)
			ports := []int{rpc.EndpointMapperPort(), rpc.ObjectPort(), rpc.PassagePort()}
			file := record(t, kdcPort(t, kdc), ports, func() { talk(t, cfg) })
			s := shark{t: t, file: file, kdc: kdc, ports: ports}
			if n := s.count("dcerpc"); n < 10 {
				t.Errorf("only %d DCE/RPC frames", n)
			}
			if bad := s.read("_ws.malformed || dcerpc.fragment.error", "-V"); bad != "" {
				t.Errorf("malformed frames:\n%.4000s", bad)
			}
			for _, filter := range row.protocols {
				if s.count(filter) == 0 {
					t.Errorf("no frame is %s", filter)
				}
			}
			const sealedFrames, openedFrames = "dcerpc.auth_level == 6 && dcerpc.pkt_type <= 2", "dcerpc.decrypted_stub_data"
			sealed, opened := s.count(sealedFrames), s.count(openedFrames)
			if opened == 0 || opened < sealed/2 {
				t.Errorf("tshark opened %d of %d sealed frames", opened, sealed)
			}
			s.blind = true
			if n := s.count(openedFrames); n != 0 {
				t.Errorf("tshark opened %d frames without keys", n)
			}
			t.Logf("%d sealed frames, %d opened", sealed, opened)
		})
	}
}

// talk does everything that the client can: it issues, searches, revokes, and
// fetches the list.
func talk(t *testing.T, cfg adcs.Config) {
	t.Helper()
	client, err := adcs.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	csr, err := pkcs10.Parse(newRequest(t))
	if err != nil {
		t.Fatal(err)
	}
	bridge := client.Bridge()
	issued, err := bridge.Issue(ctx, ca.Request{CSR: csr, Template: deviceTemplate})
	if err != nil {
		t.Fatal(err)
	}
	finder, _ := ca.Ability[ca.Finder](bridge)
	if _, err := finder.Find(ctx, ca.Query{CSRDigest: csr.Digest(), KeyDigest: csr.KeyDigest(), From: time.Now().Add(-time.Minute), To: time.Now().Add(time.Minute)}); err != nil {
		t.Error(err)
	}
	revoker, _ := ca.Ability[ca.Revoker](bridge)
	if err := revoker.Revoke(ctx, issued.Certificate.SerialNumber, ca.KeyCompromise); err != nil {
		t.Error(err)
	}
	publisher, _ := ca.Ability[ca.Publisher](bridge)
	if _, err := publisher.CRL(ctx); err != nil {
		t.Error(err)
	}
}

// record has tshark write what passes the ports while something is done.
func record(t *testing.T, kdcPort int, ports []int, do func()) string {
	t.Helper()
	dir := shortDir(t)
	file := dir + "/frames.pcapng"
	mark, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mark.Close()
	filter := fmt.Sprintf("tcp port %d or tcp port %d", kdcPort, portOf(t, mark.Addr().String()))
	for _, p := range ports {
		filter += fmt.Sprintf(" or tcp port %d", p)
	}
	cmd := exec.Command("dumpcap", "-q", "-i", "lo", "-f", filter, "-w", file)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// A text at another port, sent until it is in the file: it captures then, and
	// has written whatever came before.
	captured := func(what string) {
		text := rand.Text()
		eventually(t, what, func() bool {
			conn, err := net.Dial("tcp", mark.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.WriteString(conn, text)
			if err = errors.Join(err, conn.Close()); err != nil {
				t.Fatal(err)
			}
			b, _ := os.ReadFile(file) // it may not be there yet
			return bytes.Contains(b, []byte(text))
		})
	}
	captured("dumpcap begins")
	do()
	captured("dumpcap has written all")
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("dumpcap: %v\n%s", err, &out)
	}
	return file
}

// shark reads a recording with the keys.
type shark struct {
	t     *testing.T
	file  string
	kdc   *adcstest.KDC
	ports []int
	blind bool // reads without keys
}

// read prints the frames that a filter picks.
func (s shark) read(filter string, more ...string) string {
	s.t.Helper()
	args := []string{"-r", s.file, "-Y", filter, "-n", "-d", fmt.Sprintf("tcp.port==%d,kerberos", kdcPort(s.t, s.kdc))}
	if !s.blind {
		args = append(args, "-o", "kerberos.decrypt:TRUE", "-o", "kerberos.file:"+s.kdc.KeytabFile,
			"-o", "ntlmssp.nt_password:"+adcstest.DefaultPassword)
	}
	for _, p := range s.ports {
		args = append(args, "-d", fmt.Sprintf("tcp.port==%d,dcerpc", p))
	}
	o := execute(s.t, os.TempDir(), nil, "tshark", append(args, more...)...)
	if o.err != nil {
		s.t.Fatalf("tshark: %v\n%s", o.err, o.stderr)
	}
	return o.stdout
}

func (s shark) count(filter string) int {
	s.t.Helper()
	return strings.Count(s.read(filter, "-T", "fields", "-e", "frame.number"), "\n")
}

var kdcLine = regexp.MustCompile(`kdc = [\d.]+:(\d+)`)

// kdcPort reads the KDC's port from its clients' configuration.
func kdcPort(t *testing.T, kdc *adcstest.KDC) int {
	t.Helper()
	b, err := os.ReadFile(kdc.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	var port int
	if m := kdcLine.FindSubmatch(b); m != nil {
		_, err = fmt.Sscan(string(m[1]), &port)
	}
	if port == 0 {
		t.Fatalf("no port in %s: %v", kdc.ConfigFile, err)
	}
	return port
}

// newRequest is a request of a device.
func newRequest(t *testing.T) []byte {
	t.Helper()
	w := &world{t: t}
	return w.staticCSR("frames", testkeys.RSA2048(0), "no challenge that counts, and long enough")
}
