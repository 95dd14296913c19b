package osservice

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// reloading is the state that announces a reload. MONOTONIC_USEC tells systemd
// which wish it answers (sd_notify(3)).
func reloading() string {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return "RELOADING=1"
	}
	return fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", now.Nano()/1000)
}
