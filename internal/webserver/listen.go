package webserver

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
)

// open takes the socket that the service manager opened for the address, or
// opens one.
func open(address string) (net.Listener, error) {
	l, err := inherited(os.Getenv, firstInherited, address)
	if err != nil {
		return nil, fmt.Errorf("taking over %s: %w", address, err)
	}
	if l != nil {
		return l, nil
	}
	l, err = net.Listen("tcp", address)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("listening on %s: %w; have systemd open it (systemctl enable --now certconnector.socket), or choose a port above 1023", address, err)
	}
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", address, err)
	}
	return l, nil
}
