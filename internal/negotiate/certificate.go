package negotiate

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync"

	"github.com/certconnector/certconnector/internal/keys"
	"github.com/certconnector/certconnector/internal/secret"
)

// Certificate names the files of a client certificate, PEM: the certificate
// with its intermediate ones, and its key. They are read again when they change.
type Certificate struct {
	File string
	Key  string
	// Load reads the pair where its key is not in a file; nil: the files.
	Load func() (*tls.Certificate, error)
}

func (c Certificate) load() (*tls.Certificate, error) {
	if c.Load != nil {
		return c.Load()
	}
	if err := secret.CheckPrivate(c.Key); err != nil {
		return nil, err
	}
	cert, err := tls.LoadX509KeyPair(c.File, c.Key)
	return &cert, err
}

// stamp tells one state of some files from the next.
type stamp string

// stampOf reads size and time of change of each file.
func stampOf(paths ...string) (stamp, error) {
	s := ""
	for _, path := range paths {
		if path == "" || keys.IsURI(path) {
			continue
		}
		info, err := os.Stat(path)
		if err != nil {
			return "", err
		}
		s += fmt.Sprintf("%d@%d;", info.Size(), info.ModTime().UnixNano())
	}
	return stamp(s), nil
}

// pair is a client certificate that follows its files.
type pair struct {
	files Certificate

	mu   sync.Mutex
	seen stamp
	cert *tls.Certificate
}

// current returns the certificate as the files have it now. While they cannot
// be read, as in the middle of a replacement, the one before goes on.
func (p *pair) current() (*tls.Certificate, stamp, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, err := stampOf(p.files.File, p.files.Key)
	if err == nil && now == p.seen {
		return p.cert, p.seen, nil
	}
	if err == nil {
		var cert *tls.Certificate
		if cert, err = p.files.load(); err == nil {
			p.cert, p.seen = cert, now
			return p.cert, p.seen, nil
		}
	}
	if p.cert != nil {
		return p.cert, p.seen, nil
	}
	return nil, "", fmt.Errorf("reading the client certificate %q: %w", p.files.File, err)
}
