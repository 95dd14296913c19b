//go:build !windows

package osservice

import "github.com/kardianos/service"

func runService(s service.Service, p *program, _ string) error {
	p.listen()
	defer p.deaf()
	return s.Run()
}
