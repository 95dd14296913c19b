package control

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"
)

// maxPath is what fits into a socket address on every system of ours
// (sun_path has 104 bytes on BSD, 108 on Linux and Windows, one for the end).
const maxPath = 103

// Listener is an open control socket that serves nobody yet.
type Listener struct {
	inner net.Listener // nil on a system without unix sockets
}

// Listen opens the control socket. A socket file that a dead process left is
// replaced; one that answers is an error: another instance runs.
//
// The file's mode is 0600 and each connection's account is checked too. On
// Windows only the folder's access control list protects the socket: keep it
// in a folder that administrators and the service's account may enter. Where
// the system has no unix sockets (Windows Server 2016) the Listener serves
// nobody and says so: devices must not go without certificates for want of
// commands.
func Listen(path string) (*Listener, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("control socket path %q has %d bytes, systems allow %d: choose a shorter control.socket", path, len(path), maxPath)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if errors.Is(err, errNoSockets) {
		return &Listener{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("opening the control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("protecting the control socket: %w", err), l.Close())
	}
	return &Listener{inner: &vetted{Listener: l}}, nil
}

// Close closes the socket and removes its file. Serve does it too.
func (l *Listener) Close() error {
	if l.inner == nil {
		return nil
	}
	return l.inner.Close()
}

// removeStale removes a socket that nobody answers on. It removes nothing
// else: a mistyped path must not cost a file.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking at the control socket: %w", err)
	}
	// Windows shows a socket file as a reparse point.
	if info.Mode()&(fs.ModeSocket|fs.ModeIrregular) == 0 {
		return fmt.Errorf("control socket path %q is another kind of file: choose another control.socket", path)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = c.Close() // nothing was sent
		return fmt.Errorf("control socket %q is in use: another instance runs", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("removing a control socket that nobody uses: %w", err)
	}
	return nil
}

// vetted accepts connections of permitted accounts only.
type vetted struct {
	net.Listener
}

// Accept returns the next connection of root or of the service's own account.
func (v *vetted) Accept() (net.Conn, error) {
	for {
		c, err := v.Listener.Accept()
		if err != nil {
			return nil, err
		}
		account, ok := peer(c)
		if !ok {
			_ = c.Close() // a stranger gets no answer
			continue
		}
		return &conn{Conn: c, account: account}, nil
	}
}

// conn remembers who is at the other end, for the audit line.
type conn struct {
	net.Conn
	account string
}
