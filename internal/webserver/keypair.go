package webserver

import (
	"crypto/tls"
	"fmt"
	"sync/atomic"
)

// KeyPair is a certificate and key on disk that can be read again while a
// server uses them. It is safe for concurrent use.
type KeyPair struct {
	certFile, keyFile string
	current           atomic.Pointer[tls.Certificate]
}

// LoadKeyPair reads PEM files: the certificate with its chain, and the key.
func LoadKeyPair(certFile, keyFile string) (*KeyPair, error) {
	p := &KeyPair{certFile: certFile, keyFile: keyFile}
	if err := p.Reload(); err != nil {
		return nil, err
	}
	return p, nil
}

// Reload reads the files again. When they are wrong the server goes on with
// what it has.
func (p *KeyPair) Reload() error {
	c, err := tls.LoadX509KeyPair(p.certFile, p.keyFile)
	if err != nil {
		return fmt.Errorf("reading TLS certificate %q and its key: %w", p.certFile, err)
	}
	p.current.Store(&c)
	return nil
}

// GetCertificate returns the certificate for a handshake.
func (p *KeyPair) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return p.current.Load(), nil
}
