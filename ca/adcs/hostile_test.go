package adcs

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/certconnector/certconnector/ca"
	"github.com/certconnector/certconnector/ca/catest"
)

// listen serves each connection with a function, until the test ends.
func listen(t *testing.T, serve func(net.Conn)) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}

// swallow reads until the peer hangs up.
func swallow(conn net.Conn) { io.Copy(io.Discard, conn) }

func TestOtherServersAreUnavailable(t *testing.T) {
	for _, c := range []struct {
		name  string
		serve func(net.Conn)
	}{
		{"hangs up", func(net.Conn) {}},
		{"answers as a web server", func(conn net.Conn) {
			io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
			swallow(conn)
		}},
		{"says nothing", swallow},
		{"half a header", func(conn net.Conn) { conn.Write([]byte{5, 0, 12, 3}); swallow(conn) }},
		{"fragment shorter than its header", func(conn net.Conn) {
			b := pdu(pduBindAck, 0)
			b[8] = 3
			conn.Write(b)
			swallow(conn)
		}},
		{"bind answered without its fields", func(conn net.Conn) { conn.Write(pdu(pduBindAck, 0, 1, 2)); swallow(conn) }},
		{"bind answered with nonsense", func(conn net.Conn) {
			conn.Write(pdu(pduBindAck, 0, 0xB8, 0x10, 0xB8, 0x10, 0, 0, 0, 0, 0xFF, 0xFF, 1, 2, 3, 0xFF, 0xFF, 0xFF))
			swallow(conn)
		}},
		{"bind refused", func(conn net.Conn) { conn.Write(pdu(pduBindNak, 0, 1, 0, 0, 0)); swallow(conn) }},
		{"bind answered with a response", func(conn net.Conn) { conn.Write(sealed(packetPrivacy, 4)); swallow(conn) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, road := range []Road{DCOM, ICPR} {
				bridge, err := New(Config{Name: "issuing", Config: `ca01.corp.test\CA`, Address: "127.0.0.1", NTLM: account(), Find: CSRA,
					Issue: []Road{road}, EndpointMapperPort: listen(t, c.serve), SubmitDeadline: 300 * time.Millisecond})
				if err != nil {
					t.Fatal(err)
				}
				failed := make(chan error, 1)
				go func() {
					_, err := bridge.Issue(t.Context(), ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{})})
					failed <- err
				}()
				select {
				case err = <-failed:
				case <-time.After(time.Minute):
					t.Fatalf("%s: it waits on", road)
				}
				if !errors.Is(err, ca.ErrUnavailable) || !strings.Contains(err.Error(), "CA issuing") {
					t.Errorf("%s: error %v, want ErrUnavailable with the name of the CA", road, err)
				}
				bridge.Close()
			}
		})
	}
}

func TestClosedBridgeIsUnavailable(t *testing.T) {
	bridge, err := New(Config{Name: "issuing", Config: `ca01.corp.test\CA`, Address: "127.0.0.1", NTLM: account(), EndpointMapperPort: listen(t, swallow)})
	if err != nil {
		t.Fatal(err)
	}
	bridge.Close()
	_, err = bridge.Issue(t.Context(), ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{})})
	if !errors.Is(err, ca.ErrUnavailable) {
		t.Errorf("error %v, want ErrUnavailable", err)
	}
}

func TestWaitingForAConnectionEndsWithTheCaller(t *testing.T) {
	bridge, err := New(Config{Name: "issuing", Config: `ca01.corp.test\CA`, Address: "127.0.0.1", NTLM: account(),
		EndpointMapperPort: listen(t, swallow), Connections: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer bridge.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	errs := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := bridge.Issue(ctx, ca.Request{CSR: catest.NewCSR(t, catest.CSROptions{})})
			errs <- err
		}()
	}
	for range 2 {
		if err := <-errs; !errors.Is(err, ca.ErrUnavailable) {
			t.Errorf("error %v, want ErrUnavailable", err)
		}
	}
}
