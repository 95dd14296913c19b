package agent_test

import (
	"crypto/tls"
	"net"
	"path/filepath"
	"testing"

	"github.com/certconnector/certconnector/agent"
	"github.com/certconnector/certconnector/installer/firstrun"
)

// A file is refused after a certificate was made for a new listener: nobody
// meets it, and the reload after that serves it.
func TestRefusedReloadLeavesWhatItMade(t *testing.T) {
	s := install(t, firstrun.Options{Policy: firstrun.PolicyStatic})
	r := startReloadable(t, s)
	taken, err := net.Listen("tcp", loopback()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address := freePort(t)
	r.edit(func(c *agent.Config) {
		c.Listeners = append(c.Listeners,
			agent.Listener{Name: "new", Address: address, Faces: []string{agent.FaceStatus}, TLS: &agent.ListenerTLS{IssuedBy: c.CAs[0].Name, Names: []string{"127.0.0.1"}}},
			agent.Listener{Name: "taken", Address: taken.Addr().String(), Faces: []string{agent.FaceStatus}, PlainHTTP: true})
	})
	r.refused()
	made := readCert(t, filepath.Join(s.cfg.StateDir, "identity", "tls-new", "0001", "tls.crt.pem"))
	if c, err := net.Dial("tcp", address); err == nil {
		_ = c.Close()
		t.Error("a listener of the refused file is open")
	}
	r.edit(func(c *agent.Config) { c.Listeners = c.Listeners[:len(c.Listeners)-1] })
	r.reload()
	c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if shown := c.ConnectionState().PeerCertificates[0]; !shown.Equal(made) {
		t.Error("another certificate was made for the same listener")
	}
	r.mustStop()
}
