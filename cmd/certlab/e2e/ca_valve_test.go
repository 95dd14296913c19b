//go:build e2e

package e2e

import (
	"crypto/tls"
	"encoding/pem"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/certconnector/certconnector/internal/freeport"
)

// valve is a TCP proxy whose address stays while what is behind it is cut off.
type valve struct {
	address string
	behind  string

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
}

func newValve(t *testing.T, behind string) *valve {
	t.Helper()
	v := &valve{behind: behind, conns: map[net.Conn]bool{}}
	v.open(t, freeport.ForTest(t))
	t.Cleanup(v.shut)
	return v
}

// open lets connections through, at an address or, if it is "", the same one
// as before.
func (v *valve) open(t *testing.T, address string) {
	t.Helper()
	if address == "" {
		address = v.address
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	v.mu.Lock()
	v.listener, v.address = l, l.Addr().String()
	v.mu.Unlock()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go v.pass(conn)
		}
	}()
}

// shut cuts all connections and refuses new ones.
func (v *valve) shut() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.listener.Close()
	for conn := range v.conns {
		conn.Close()
	}
	clear(v.conns)
}

func (v *valve) pass(front net.Conn) {
	back, err := net.Dial("tcp", v.behind)
	if err != nil {
		front.Close()
		return
	}
	v.mu.Lock()
	v.conns[front], v.conns[back] = true, true
	v.mu.Unlock()
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{front, back}, {back, front}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1]) // it ends with either connection
			way[0].Close()
		})
	}
	both.Wait()
	v.mu.Lock()
	delete(v.conns, front)
	delete(v.conns, back)
	v.mu.Unlock()
}

func portOf(t *testing.T, address string) int {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return a.Port
}

// serverCertificate is what a TLS server shows, PEM.
func serverCertificate(t *testing.T, address string) []byte {
	t.Helper()
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: conn.ConnectionState().PeerCertificates[0].Raw})
}
