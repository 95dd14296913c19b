//go:build !linux

package osservice

// reloading is the state that announces a reload. systemd is on Linux only.
func reloading() string { return "RELOADING=1" }
