//go:build !windows

package osservice

// Reload asks a service of Windows to read its configuration again.
func (Manager) Reload(string) error { return errNotWindows }
