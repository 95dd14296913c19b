//go:build !unix

package bench

import "errors"

var errNoPause = errors.New("a process cannot be paused here: the benchmark runs on Linux only")

func (p *program) pause() error { return errNoPause }

func (p *program) resume() error { return errNoPause }
