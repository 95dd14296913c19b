//go:build !windows

package osservice

import "github.com/kardianos/service"

func runService(s service.Service, _ *program, _ string) error { return s.Run() }
