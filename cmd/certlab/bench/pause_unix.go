//go:build unix

package bench

import (
	"os"
	"syscall"
)

// pause stops the process, if there is one, where it stands; resume lets it go
// on.
func (p *program) pause() error { return p.signal(syscall.SIGSTOP) }

func (p *program) resume() error { return p.signal(syscall.SIGCONT) }

func (p *program) signal(s os.Signal) error {
	if p.cmd == nil {
		return nil
	}
	return p.cmd.Process.Signal(s)
}
